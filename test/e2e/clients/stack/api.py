"""Counts its requests in the database and answers `HOSTNAME COUNT`."""
import http.server, os, socket


def increment():
    with socket.create_connection((os.environ["DATABASE"], 6379), 5) as database:
        database.sendall(b"INCR calls\r\n")
        return database.makefile().readline().strip().lstrip(":")


class Counter(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        count = increment()
        print("count", count, flush=True)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{socket.gethostname()} {count}\n".encode())


print("listening", flush=True)
http.server.ThreadingHTTPServer(("", 8000), Counter).serve_forever()
