/** A container's /etc/hosts, /etc/resolv.conf and /etc/hostname. */
import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import { readInRoot } from '../../sys/inroot.ts';
import { parseResolvConf, PUBLIC_SERVERS, type ResolverSettings } from './resolv-conf.ts';

export interface EtcFileInput {
  hostname: string;
  domainname: string;
  /** The container's own addresses, in the order of its networks. */
  addresses: string[];
  /** `name:address`; the address may be host-gateway. */
  extraHosts: string[];
  /** The address that host-gateway stands for. */
  hostGateway: string;
  /** The container uses the host's network namespace. */
  hostNetwork: boolean;
  /** The network namespace has ::1. */
  ipv6: boolean;
  /** Requested settings; an empty list means the host's. */
  dns: ResolverSettings;
  /** The DNS server of the container's networks, which forwards to the servers of `dns`; empty without DNS. */
  resolvers: string[];
}

/** The host's own files; replaced in tests. */
export interface HostFiles {
  hosts: string;
  resolvConf: string;
  /** The upstream servers of systemd-resolved's stub at 127.0.0.53. */
  resolvedConf: string;
}

export const HOST_FILES: HostFiles = {
  hosts: '/etc/hosts',
  resolvConf: '/etc/resolv.conf',
  resolvedConf: '/run/systemd/resolve/resolv.conf',
};

/** Read limit: the container can write its files, and a huge sparse file costs it nothing. */
const MAX_BYTES = 4 << 20;
const NOTHING = Buffer.alloc(0);
const NEWLINE = 10;

const STUB_RESOLVER = '127.0.0.53';

const LOCAL_IPV4 = [['127.0.0.1', 'localhost']] as const;
const LOCAL_IPV6 = [
  ['::1', 'localhost ip6-localhost ip6-loopback'],
  ['fe00::', 'ip6-localnet'],
  ['ff00::', 'ip6-mcastprefix'],
  ['ff02::1', 'ip6-allnodes'],
  ['ff02::2', 'ip6-allrouters'],
] as const;

/**
 * Writes the three files into a container's directory, in place because they are bind-mounted by inode. A resolv.conf
 * that was edited inside the container is left alone.
 */
export function writeEtcFiles(directory: string, input: EtcFileInput, host: HostFiles = HOST_FILES): void {
  mkdirSync(directory, { recursive: true });
  write(join(directory, 'hostname'), `${input.hostname}\n`);
  write(join(directory, 'hosts'), hosts(input, host));
  writeResolvConf(directory, input, host);
}

/** The content of /etc/hosts. With host networking it is the host's file, unless there are extra hosts. */
export function hosts(input: EtcFileInput, host: HostFiles = HOST_FILES): string {
  if (input.hostNetwork && input.extraHosts.length === 0) return read(host.hosts);
  const extra = input.extraHosts.flatMap((entry) => {
    const colon = entry.indexOf(':');
    if (colon <= 0) return [];
    const address = entry.slice(colon + 1).replace(/^\[(.*)\]$/, '$1');
    return [[address === 'host-gateway' ? input.hostGateway : address, entry.slice(0, colon)] as const];
  });
  const own = input.addresses.map((address) => [address, ownNames(input)] as const);
  const records = [...LOCAL_IPV4, ...(input.ipv6 ? LOCAL_IPV6 : []), ...extra, ...own];
  return records
    .filter(([address]) => input.ipv6 || !isIPv6(address))
    .map(([address, names]) => `${address}\t${names}\n`)
    .join('');
}

/** Adds addresses that a running container got to its hosts file, which may have been edited. */
export function addOwnAddresses(
  directory: string,
  addresses: string[],
  input: Pick<EtcFileInput, 'hostname' | 'domainname'>,
): void {
  const path = join(directory, 'hosts');
  const found = bytesOf(path);
  if (found.length > MAX_BYTES) return;
  const missing = addresses
    .map((address) => `${address}\t${ownNames(input)}\n`)
    .filter((line) => !found.includes(line));
  const whole = found.length === 0 || found.at(-1) === NEWLINE;
  if (missing.length > 0) appendFileSync(path, `${whole ? '' : '\n'}${missing.join('')}`);
}

/** Removes the lines of addresses that a running container lost. */
export function removeOwnAddresses(directory: string, addresses: string[]): void {
  const path = join(directory, 'hosts');
  const found = bytesOf(path);
  if (found.length > MAX_BYTES) return;
  // latin1 keeps every byte, whatever the encoding.
  const lines = found.toString('latin1').split('\n');
  const left = lines.filter((line) => !addresses.includes(line.split('\t', 1)[0]!));
  if (left.length < lines.length) writeFileSync(path, left.join('\n'), 'latin1');
}

/** Rewrites resolv.conf, unless it was edited inside the container. */
export function writeResolvConf(directory: string, input: EtcFileInput, host: HostFiles = HOST_FILES): void {
  const path = join(directory, 'resolv.conf');
  if (isEdited(path)) return;
  const content = resolvConf(input, host);
  write(path, content);
  write(`${path}.hash`, digest(content));
}

/** The full name and, if it has dots, its first label. */
function ownNames({ hostname, domainname }: Pick<EtcFileInput, 'hostname' | 'domainname'>): string {
  const full = domainname ? `${hostname}.${domainname}` : hostname;
  const dot = full.indexOf('.');
  return dot < 0 ? full : `${full} ${full.slice(0, dot)}`;
}

/**
 * The content of /etc/resolv.conf: the host's file with the requested settings, without servers that only the host can
 * reach. The comments are as in Docker's file.
 */
export function resolvConf(input: EtcFileInput, host: HostFiles = HOST_FILES): string {
  const source = input.hostNetwork ? host.resolvConf : resolvSource(host);
  const found = parseResolvConf(read(source));
  const requested = input.dns;
  const reachable = input.hostNetwork
    ? found.servers
    : found.servers.filter((server) => !isLoopback(server) && !isIPv6(server));
  const fallback = requested.servers.length === 0 && reachable.length === 0 && !input.hostNetwork;
  const hostServers = fallback ? PUBLIC_SERVERS : reachable;
  const external = requested.servers.length > 0 ? requested.servers : hostServers;
  const servers = input.resolvers.length > 0 ? input.resolvers : external;
  const search = requested.search.length > 0 ? requested.search.filter((domain) => domain !== '.') : found.search;
  const chosen = requested.options.length > 0 ? requested.options : found.options;
  // As in Docker: a name without dots is looked up as it is (a container's) before the search domains are tried.
  const ndots = input.resolvers.length > 0 && !chosen.some((option) => option.startsWith('ndots:'));
  const options = ndots ? [...chosen, 'ndots:0'] : chosen;
  const overrides = [
    requested.servers.length > 0 ? 'nameservers' : '',
    requested.search.length > 0 ? 'search' : '',
    requested.options.length > 0 ? 'options' : '',
  ].filter(Boolean);
  return [
    '# Generated by Holdfast.',
    '# This file can be edited; Holdfast will not change it any more once it was.',
    '',
    ...servers.map((server) => `nameserver ${server}`),
    ...(search.length > 0 ? [`search ${search.join(' ')}`] : []),
    ...(options.length > 0 ? [`options ${options.join(' ')}`] : []),
    ...found.other,
    '',
    `# Based on host file: '${source}'${input.resolvers.length > 0 ? ' (internal resolver)' : ''}`,
    ...(input.resolvers.length > 0 ? [`# ExtServers: [${external.join(' ')}]`] : []),
    ...(fallback ? ['# Used default nameservers.'] : []),
    `# Overrides: [${overrides.join(' ')}]`,
    ...(ndots ? ['# Option ndots from: internal'] : []),
    '',
  ].join('\n');
}

/** The options that resolvConf() takes over where none are requested. */
export const hostResolverOptions = (host: HostFiles = HOST_FILES): string[] =>
  parseResolvConf(read(resolvSource(host))).options;

// 127.0.0.53 as the only server is the stub of systemd-resolved, which keeps its upstream servers in another file.
function resolvSource(host: HostFiles): string {
  const { servers } = parseResolvConf(read(host.resolvConf));
  return servers.length === 1 && servers[0] === STUB_RESOLVER && existsSync(host.resolvedConf)
    ? host.resolvedConf
    : host.resolvConf;
}

const isLoopback = (address: string): boolean => address.startsWith('127.') || address === '::1';

const digest = (content: string): string => `sha256:${createHash('sha256').update(content).digest('hex')}`;

function isEdited(path: string): boolean {
  const expected = read(`${path}.hash`);
  return expected !== '' && existsSync(path) && expected !== digest(read(path));
}

/** At most one byte more than the limit, by which callers recognise a longer file. */
function bytesOf(path: string): Buffer {
  try {
    return readInRoot('/', path, MAX_BYTES + 1) ?? NOTHING;
  } catch {
    return NOTHING;
  }
}

const read = (path: string): string => bytesOf(path).toString();

function write(path: string, content: string): void {
  if (existsSync(path) && read(path) === content) return;
  writeFileSync(path, content, { mode: 0o644 });
}
