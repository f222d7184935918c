/**
 * A daemon serves while it still restores containers, and then sweeps leftovers of the previous daemon: it must not
 * sweep a container that was started meanwhile.
 */
import { expect, test } from 'vitest';
import { startEngine } from '../support/engine.ts';

const ROUNDS = 6;

test('a container that is started while the daemon restores keeps its network', async () => {
  await using engine = await startEngine();
  for (let round = 0; round < ROUNDS; round++) {
    const network = round % 2 === 0 ? 'none' : 'bridge';
    await engine.dockerOutput('create', '--name', `c${round}`, '--network', network, 'busybox', 'sleep', '1000');
    await engine.kill9();
    await engine.startAgain();
    expect(await engine.api('POST', `/containers/c${round}/start`)).toMatchObject({ status: 204 });
  }
  const { stdout, exitCode } = await engine.docker('exec', `c${ROUNDS - 1}`, 'ip', 'addr', 'show', 'eth0').result;
  expect({ exitCode, address: stdout.includes('inet ') }).toEqual({ exitCode: 0, address: true });
});
