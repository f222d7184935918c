/** How fast an engine resolves names for its containers. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import type { Engine } from './engine.ts';

/**
 * Asks for a name from 32 sockets at once for a second, and prints the number of answers. Runs in the container's
 * network namespace.
 */
const ASK = `
  const [server, name] = process.argv.slice(1);
  const packet = Buffer.concat([Buffer.from('000701000001000000000000', 'hex'), Buffer.from([name.length]), Buffer.from(name), Buffer.from([0, 0, 1, 0, 1])]);
  let answers = 0;
  for (let i = 0; i < 32; i++) {
    const socket = require('dgram').createSocket('udp4');
    socket.on('message', (message) => { if ((message[3] & 15) === 0) answers++; socket.send(packet); });
    socket.connect(53, server, () => socket.send(packet));
  }
  setTimeout(() => { console.log(answers); process.exit(); }, 1000);`;

/** Answers per second to one container that asks for its own name. */
export async function namesPerSecond(engine: Engine): Promise<number> {
  const name = `bench${process.pid}`;
  const { Id: network } = JSON.parse(await engine.call('POST', '/networks/create', { Name: name })) as { Id: string };
  try {
    const id = await engine.run(['sleep', '100000'], { NetworkMode: network });
    try {
      const { State } = JSON.parse(await engine.call('GET', `/containers/${id}/json`)) as { State: { Pid: number } };
      const conf = readFileSync(`/proc/${State.Pid}/root/etc/resolv.conf`, 'utf8');
      const server = /^nameserver (\S+)/m.exec(conf)![1]!;
      const target = ['-t', String(State.Pid), '-n', process.execPath, '-e', ASK, server, id.slice(0, 12)];
      return Number((await promisify(execFile)('nsenter', target)).stdout);
    } finally {
      await engine.remove(id);
    }
  } finally {
    await engine.call('DELETE', `/networks/${network}`);
  }
}
