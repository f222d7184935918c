/** The leftover check finds what an engine left on the host, and nothing of other engines. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ownerOf, pidsOf, remains, snapshot, type Owner } from '../support/host-snapshot.ts';

let owner: Owner;
let other: Owner;
const undo: (() => void)[] = [];
const sh = (command: string): string => execFileSync('sh', ['-c', command], { encoding: 'utf8' });
const sleeper = (argv0: string, args: string[] = []): ChildProcess => {
  const child = spawn('sh', ['-c', 'sleep 1000; :', ...args], { argv0, stdio: 'ignore', detached: true });
  undo.push(() => process.kill(-child.pid!, 'SIGKILL'));
  return child;
};
/** What this engine has apart from its root. */
const found = (whose = owner): string[] => snapshot([whose]).filter((line) => !line.startsWith('root '));

beforeEach(() => {
  owner = ownerOf(mkdtempSync('/tmp/hf-snap-'));
  other = ownerOf(mkdtempSync('/tmp/hf-snap-'));
  undo.push(() => [owner, other].forEach(({ root }) => rmSync(root, { recursive: true, force: true })));
});
afterEach(() => {
  for (const step of undo.splice(0).reverse()) step();
});

test('finds a root', () => {
  expect(snapshot([owner])).toEqual([`root ${owner.root}`]);
  rmSync(owner.root, { recursive: true });
  expect(snapshot([owner])).toEqual([]);
});

test('finds the cgroup of a shim', () => {
  const hierarchy = readdirSync('/sys/fs/cgroup').includes('pids') ? 'pids' : '';
  const parent = `/sys/fs/cgroup/${hierarchy}/holdfast-${owner.instance}`;
  mkdirSync(join(parent, 'shims/aaaa'), { recursive: true });
  undo.push(() => ['shims/aaaa', 'shims', ''].forEach((name) => rmdirSync(join(parent, name))));
  expect(found()).toEqual(
    ['', '/shims', '/shims/aaaa'].map((name) => `cgroup ${join(hierarchy, `holdfast-${owner.instance}`)}${name}`),
  );
  expect(found(other)).toEqual([]);
});

test('finds a process by its arguments and by its open files', async () => {
  const named = sleeper('holdfast-dns', [join(owner.root, 'run/dns')]);
  expect(pidsOf(owner)).toEqual([named.pid]);
  // A listener's command line does not name its engine; its socket does.
  const server = createServer();
  const path = join(owner.root, 'h.sock');
  await new Promise<void>((resolve) => void server.listen(path, resolve));
  undo.push(() => server.close());
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
  const holder = spawn('sleep', ['1000'], {
    argv0: 'holdfast-listener',
    stdio: ['ignore', 'ignore', 'ignore', fd],
    detached: true,
  });
  undo.push(() => holder.kill('SIGKILL'));
  await expect.poll(() => pidsOf(owner).sort()).toEqual([named.pid, holder.pid].sort());
  expect(found().join('\n')).toContain(`process ${holder.pid} holdfast-listener 1000`);
  expect(found(other)).toEqual([]);
});

test('finds a port that a process of the engine listens on', async () => {
  const program = join(owner.root, 'listens.cjs');
  writeFileSync(
    program,
    "require('node:net').createServer().listen(0, '127.0.0.1', function () { console.log(this.address().port); });",
  );
  const child = spawn(process.execPath, [program], { stdio: ['ignore', 'pipe', 'inherit'] });
  undo.push(() => child.kill('SIGKILL'));
  const port = await new Promise<string>((resolve) =>
    child.stdout.once('data', (data: Buffer) => resolve(data.toString().trim())),
  );
  expect(found()).toContain(`port tcp 127.0.0.1:${port}`);
});

test('ignores a zombie', async () => {
  // The shell never waits for its child, which ends when its stdin does.
  const program = join(owner.root, 'ends.sh');
  writeFileSync(program, 'read line\n');
  const parent = spawn('sh', ['-c', `sh ${program} <&3 & exec sleep 1000`], {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    detached: true,
  });
  undo.push(() => process.kill(-parent.pid!, 'SIGKILL'));
  const child = (): string => sh(`cat /proc/${parent.pid}/task/${parent.pid}/children`).trim();
  await expect.poll(() => pidsOf(owner).includes(Number(child()))).toBe(true);
  (parent.stdio[3] as NodeJS.WritableStream).end();
  await expect.poll(() => sh(`cut -d' ' -f3 /proc/${child()}/stat`).trim()).toBe('Z');
  expect(pidsOf(owner)).toEqual([]);
});

test('finds links, a table, rules and a mount', () => {
  const bridge = `hf${owner.instance}`;
  owner.links.add(`br-${owner.instance}`.slice(0, 15));
  sh(`ip link add ${bridge} type bridge`);
  undo.push(() => sh(`ip link del ${bridge}`));
  sh(`nft add table ip holdfast_${bridge}`);
  undo.push(() => sh(`nft delete table ip holdfast_${bridge}`));
  sh(`iptables -w 5 -A FORWARD -i ${bridge} -j ACCEPT`);
  undo.push(() => sh(`iptables -w 5 -D FORWARD -i ${bridge} -j ACCEPT`));
  sh(`mount -t tmpfs none ${owner.root}`);
  undo.push(() => sh(`umount ${owner.root}`));
  expect(found()).toEqual([
    `iptables -A FORWARD -i ${bridge} -j ACCEPT`,
    `link ${bridge}`,
    `mount ${owner.root}`,
    `table ip holdfast_${bridge}`,
  ]);
  expect(found(other)).toEqual([]);
  const machine = snapshot('machine');
  for (const line of found()) expect(machine).toContain(line);
});

test('ignores leftovers that existed before', () => {
  expect(remains(['a', 'b'], ['a', 'b', 'c'])).toEqual(['c']);
  expect(remains(['a'], [])).toEqual([]);
});
