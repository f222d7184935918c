"""Replaces testcontainers/ryuk. Accepts filters on port 8080 (`label=KEY=VALUE`, one per line, each answered with ACK).
Once every connection has ended and no new one has come for RYUK_RECONNECTION_TIMEOUT, it removes what the filters match,
through the mounted Docker socket."""
import http.client, json, os, re, socket, socketserver, threading, time, urllib.parse

WAIT = int(re.sub(r"\D", "", os.environ.get("RYUK_RECONNECTION_TIMEOUT", "10s")))
filters, connections, lock = set(), 0, threading.Lock()
last_seen = None  # when the last connection ended


class Docker(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/var/run/docker.sock")


def call(method, path):
    connection = Docker("localhost")
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read()
    print(method, path, answer.status, flush=True)
    return json.loads(body) if body else None


class Session(socketserver.StreamRequestHandler):
    def handle(self):
        global connections, last_seen
        with lock:
            connections += 1
        try:
            for line in self.rfile:
                if line.strip():
                    filters.add(line.decode().strip().removeprefix("label="))
                    self.wfile.write(b"ACK\n")
        except ConnectionError:
            pass
        with lock:
            connections -= 1
            last_seen = time.monotonic()


def prune(label):
    query = "filters=" + urllib.parse.quote(json.dumps({"label": {label: True}}))
    mine = socket.gethostname()
    for container in call("GET", f"/containers/json?all=1&{query}"):
        if not container["Id"].startswith(mine):
            call("DELETE", f"/containers/{container['Id']}?force=1&v=1")
    for network in call("GET", f"/networks?{query}"):
        call("DELETE", f"/networks/{network['Id']}")
    for volume in call("GET", f"/volumes?{query}")["Volumes"] or []:
        call("DELETE", f"/volumes/{volume['Name']}")
    for image in call("GET", f"/images/json?{query}"):
        call("DELETE", f"/images/{image['Id']}?force=1")


socketserver.ThreadingTCPServer.daemon_threads = True
server = socketserver.ThreadingTCPServer(("", 8080), Session)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("Started", flush=True)
while True:
    time.sleep(0.1)
    with lock:
        if connections == 0 and last_seen is not None and time.monotonic() - last_seen > WAIT:
            break
for each in sorted(filters):
    prune(each)
