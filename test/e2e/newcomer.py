"""A first script with docker-py, as a Docker user would write it. Prints one line per check that passed."""
import io
import sys
import tarfile

import docker

client = docker.from_env(timeout=60)


def check(name, truth):
    if not truth:
        sys.exit(f'failed: {name}')
    print(name, flush=True)


check('ping', client.ping())
check('version', client.version()['ApiVersion'] and client.info()['Driver'])

check('run', client.containers.run('busybox', ['echo', 'hello'], remove=True) == b'hello\n')
try:
    client.containers.run('busybox', ['sh', '-c', 'echo bad >&2; exit 3'], remove=True)
    check('exit code', False)
except docker.errors.ContainerError as error:
    check('exit code', error.exit_status == 3 and b'bad' in error.stderr)
try:
    client.images.get('no-such-image')
    check('missing image', False)
except docker.errors.ImageNotFound:
    check('missing image', True)

volume = client.volumes.create('newcomer', labels={'from': 'python'})
network = client.networks.create('newcomer', driver='bridge')
server = client.containers.run('busybox', ['sh', '-c', 'i=0; while true; do i=$((i+1)); echo line $i; sleep 0.1; done'], detach=True, name='newcomer', labels={'a': 'b'},
                               volumes={'newcomer': {'bind': '/data', 'mode': 'rw'}}, network='newcomer', environment={'KEY': 'value'}, mem_limit='64m')
try:
    server.reload()
    check('running', server.status == 'running' and server.labels == {'a': 'b'})
    check('list', [each.name for each in client.containers.list(filters={'label': 'a=b'})] == ['newcomer'])

    lines = server.logs(stream=True, follow=True)
    check('logs that stream', b''.join(next(lines) for _ in range(40)).startswith(b'line 1\n'))
    lines.close()
    check('logs with a tail', len(server.logs(tail=2).splitlines()) == 2)

    check('exec', server.exec_run('sh -c "echo $KEY"') == (0, b'value\n'))
    code, (out, err) = server.exec_run(['sh', '-c', 'echo out; echo err >&2; exit 4'], demux=True)
    check('exec, streams apart', (code, out, err) == (4, b'out\n', b'err\n'))
    check('exec that streams', b''.join(server.exec_run(['seq', '3'], stream=True).output) == b'1\n2\n3\n')
    check('exec behind a terminal', server.exec_run('echo tty', tty=True).output == b'tty\r\n')

    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode='w') as tar:
        entry = tarfile.TarInfo('greeting')
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b'hello'))
    check('put_archive', server.put_archive('/data', archive.getvalue()))
    for encode in (False, True):
        chunks, stat = server.get_archive('/data/greeting', encode_stream=encode)
        with tarfile.open(fileobj=io.BytesIO(b''.join(chunks))) as tar:
            check(f'get_archive, encoded {encode}', (stat['name'], stat['size'], tar.extractfile('greeting').read()) == ('greeting', 5, b'hello'))
    check('a volume shared', client.containers.run('busybox', ['cat', '/data/greeting'], volumes=['newcomer:/data:ro'], remove=True) == b'hello')

    stats = server.stats(stream=False)
    check('stats', stats['memory_stats']['limit'] == 64 * 1024 * 1024)
    check('top', any('sleep' in ' '.join(row) or 'sh' in ' '.join(row) for row in server.top()['Processes']))
    check('network', 'newcomer' in server.attrs['NetworkSettings']['Networks'] and network.name == 'newcomer')

    server.pause()
    server.reload()
    check('pause', server.status == 'paused')
    server.unpause()
    server.rename('renamed')
    server.restart(timeout=0)
    server.reload()
    check('restart and rename', (server.status, server.name) == ('running', 'renamed'))
    server.stop(timeout=0)
    check('stop and wait', server.wait()['StatusCode'] == 137)
    image = server.commit('newcomer', tag='made')
    check('commit', 'newcomer:made' in image.tags)
finally:
    server.remove(force=True)
client.images.remove('newcomer:made')
network.remove()
volume.remove()
check('nothing left', [client.containers.list(all=True), client.volumes.list(), client.networks.list(names=['newcomer'])] == [[], [], []])
