/** A container's hosts and resolv.conf files. */
import fc from 'fast-check';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  addOwnAddresses,
  removeOwnAddresses,
  hosts,
  resolvConf,
  writeEtcFiles,
  writeResolvConf,
  type EtcFileInput,
  type HostFiles,
} from '../../src/engine/networks/etc-files.ts';
import { parseResolvConf } from '../../src/engine/networks/resolv-conf.ts';

describe('files', () => {
  let directory: string;
  let host: HostFiles;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'hf-net-files-'));
    host = {
      hosts: join(directory, 'h.hosts'),
      resolvConf: join(directory, 'h.resolv'),
      resolvedConf: join(directory, 'h.resolved'),
    };
    writeFileSync(host.hosts, '127.0.0.1 localhost\n127.0.1.1 thehost\n');
  });
  afterAll(() => rmSync(directory, { recursive: true }));
  const input = (changes: Partial<EtcFileInput> = {}): EtcFileInput => ({
    hostname: 'box',
    domainname: '',
    addresses: ['10.77.0.2'],
    extraHosts: [],
    hostGateway: '10.77.0.1',
    hostNetwork: false,
    ipv6: true,
    dns: { servers: [], search: [], options: [] },
    resolvers: [],
    ...changes,
  });
  const LOCAL =
    '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n';
  const directives = (text: string): string[] =>
    text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));

  test('hosts equals Docker’s to the byte', () => {
    expect(hosts(input(), host)).toBe(`${LOCAL}10.77.0.2\tbox\n`);
    expect(hosts(input({ domainname: 'example.org' }), host)).toBe(`${LOCAL}10.77.0.2\tbox.example.org box\n`);
    expect(
      hosts(input({ extraHosts: ['db:10.0.0.9', 'up:host-gateway', 'six:[fd00::1]', 'seven:fd00::2'] }), host),
    ).toBe(`${LOCAL}10.0.0.9\tdb\n10.77.0.1\tup\nfd00::1\tsix\nfd00::2\tseven\n10.77.0.2\tbox\n`);
    expect(hosts(input({ ipv6: false, extraHosts: ['six:fd00::1'] }), host)).toBe(
      '127.0.0.1\tlocalhost\n10.77.0.2\tbox\n',
    );
    expect(hosts(input({ addresses: [] }), host)).toBe(LOCAL);
  });

  test('hosts on the host network is the host’s, unless names are added', () => {
    expect(hosts(input({ hostNetwork: true, addresses: [] }), host)).toBe('127.0.0.1 localhost\n127.0.1.1 thehost\n');
    expect(hosts(input({ hostNetwork: true, addresses: [], extraHosts: ['db:10.0.0.9'] }), host)).toBe(
      `${LOCAL}10.0.0.9\tdb\n`,
    );
  });

  test.each<[string, string, Partial<EtcFileInput>, string[]]>([
    [
      'copies the host’s',
      'nameserver 192.0.2.53\nsearch a.example b.example\noptions ndots:2\n',
      {},
      ['nameserver 192.0.2.53', 'search a.example b.example', 'options ndots:2'],
    ],
    [
      'drops loopback servers, and IPv6 servers without IPv6',
      'nameserver 127.0.0.1\nnameserver ::1\nnameserver fd00::53\nnameserver 192.0.2.53\n',
      {},
      ['nameserver 192.0.2.53'],
    ],
    [
      'falls back to public servers when none is left',
      'nameserver 127.0.0.1\n',
      {},
      ['nameserver 8.8.8.8', 'nameserver 8.8.4.4'],
    ],
    [
      'uses the servers behind systemd-resolved',
      'nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n',
      {},
      ['nameserver 198.51.100.53', 'search resolved.example'],
    ],
    [
      'uses what was requested',
      'nameserver 192.0.2.53\nsearch a.example\n',
      { dns: { servers: ['127.0.0.11', '1.1.1.1'], search: ['.'], options: ['timeout:1'] } },
      ['nameserver 127.0.0.11', 'nameserver 1.1.1.1', 'options timeout:1'],
    ],
    [
      'copies everything on the host network',
      'nameserver 127.0.0.53\n',
      { hostNetwork: true },
      ['nameserver 127.0.0.53'],
    ],
    [
      'keeps unknown lines',
      'sortlist 10.0.0.0\nnameserver 192.0.2.53 # here\n',
      {},
      ['nameserver 192.0.2.53', 'sortlist 10.0.0.0'],
    ],
  ])('resolv.conf: %s', (_, source, changes, expected) => {
    writeFileSync(host.resolvConf, source);
    writeFileSync(host.resolvedConf, 'nameserver 198.51.100.53\nsearch resolved.example\n');
    expect(directives(resolvConf(input(changes), host))).toEqual(expected);
  });

  test('resolv.conf accepts any text', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc
            .tuple(fc.constantFrom('nameserver', 'search', 'options', 'domain', '#', 'x'), fc.string())
            .map(([a, b]) => `${a} ${b}`),
        ),
        (lines) => void parseResolvConf(lines.join('\n')),
      ),
    );
  });

  test('files are written in place, and an edited resolv.conf stays', () => {
    writeFileSync(host.resolvConf, 'nameserver 192.0.2.53\n');
    const at = join(directory, 'c');
    writeEtcFiles(at, input(), host);
    const inode = statSync(join(at, 'hosts')).ino;
    expect(readFileSync(join(at, 'hostname'), 'utf8')).toBe('box\n');
    writeEtcFiles(at, input({ addresses: ['10.77.0.3'] }), host);
    expect(statSync(join(at, 'hosts')).ino).toBe(inode);
    expect(readFileSync(join(at, 'hosts'), 'utf8')).toContain('10.77.0.3\tbox\n');
    writeFileSync(host.resolvConf, 'nameserver 192.0.2.54\n');
    writeEtcFiles(at, input(), host);
    expect(readFileSync(join(at, 'resolv.conf'), 'utf8')).toContain('192.0.2.54');
    writeFileSync(join(at, 'resolv.conf'), 'nameserver 9.9.9.9\n');
    writeEtcFiles(at, input(), host);
    expect(readFileSync(join(at, 'resolv.conf'), 'utf8')).toBe('nameserver 9.9.9.9\n');
  });

  test('addresses are added to and removed from an edited hosts file without other changes', () => {
    const at = join(directory, 'edited');
    mkdirSync(at);
    writeFileSync(join(at, 'hosts'), Buffer.from('10.0.0.9\tm\xfcller', 'latin1'));
    addOwnAddresses(at, ['10.77.0.3', '10.77.0.4'], { hostname: 'box', domainname: '' });
    addOwnAddresses(at, ['10.77.0.3'], { hostname: 'box', domainname: '' });
    expect(readFileSync(join(at, 'hosts'), 'latin1')).toBe('10.0.0.9\tm\xfcller\n10.77.0.3\tbox\n10.77.0.4\tbox\n');
    removeOwnAddresses(at, ['10.77.0.3']);
    expect(readFileSync(join(at, 'hosts'), 'latin1')).toBe('10.0.0.9\tm\xfcller\n10.77.0.4\tbox\n');
  });

  test('files that a container has inflated are not read whole', () => {
    const at = join(directory, 'huge');
    writeEtcFiles(at, input(), host);
    for (const name of ['hosts', 'resolv.conf']) truncateSync(join(at, name), 1e12);
    const before = process.resourceUsage().maxRSS;
    addOwnAddresses(at, ['10.77.0.3'], { hostname: 'box', domainname: '' });
    removeOwnAddresses(at, ['10.77.0.3']);
    writeResolvConf(at, input(), host);
    expect(['hosts', 'resolv.conf'].map((name) => statSync(join(at, name)).size)).toEqual([1e12, 1e12]);
    writeEtcFiles(at, input(), host);
    expect(readFileSync(join(at, 'hosts'), 'utf8')).toBe(hosts(input(), host));
    expect(process.resourceUsage().maxRSS - before).toBeLessThan(100_000);
  });
});
