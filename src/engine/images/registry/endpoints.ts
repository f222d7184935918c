/**
 * The hosts that serve a repository: its registry and the mirrors before it; which of them may be used without verified
 * TLS, and with which certificates.
 */
import { lookup } from 'node:dns/promises';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { BlockList, isIP } from 'node:net';
import { basename, join } from 'node:path';
import { rootCertificates } from 'node:tls';
import type { Dispatcher } from 'undici';
import { InvalidParameter, SystemFault } from '../../../model/errors.ts';
import { isDomain } from '../reference.ts';
import { Transport } from './transport.ts';

const HUB = 'docker.io';
/** The host behind the domain docker.io. */
const HUB_REGISTRY = 'registry-1.docker.io';
/** Always insecure: the traffic does not leave the host (moby registry/config.go). */
const LOOPBACK: readonly [string, number, 'ipv4' | 'ipv6'][] = [
  ['127.0.0.0', 8, 'ipv4'],
  ['::1', 128, 'ipv6'],
];
/** Go reads the first of these that exists (crypto/x509/root_linux.go). */
const SYSTEM_ROOTS = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
];
const PROXY_VARIABLES = ['HTTP_PROXY', 'HTTPS_PROXY', 'http_proxy', 'https_proxy'];
const CONNECT_TIMEOUT_MS = 15_000;
const HEADERS_TIMEOUT_MS = 60_000;
/** After this long without data a download is broken off and resumed. */
const BODY_TIMEOUT_MS = 30_000;

export interface EndpointOptions {
  /** URLs of Docker Hub's mirrors. */
  mirrors: readonly string[];
  /** Hosts (with or without a port) and CIDR subnets. */
  insecure: readonly string[];
  /** Has a directory per `host[:port]`: *.crt are CA certificates, NAME.cert and NAME.key the client's. */
  certificates: string;
}

interface TlsOptions {
  ca?: string[];
  cert?: string;
  key?: string;
  rejectUnauthorized: boolean;
}

export class Endpoints {
  readonly #transports = new Map<string, { version: string; transport: Promise<Transport> }>();
  readonly #subnets = new BlockList();
  readonly #names: Set<string>;

  constructor(private readonly options: EndpointOptions) {
    for (const [address, bits, family] of LOOPBACK) this.#subnets.addSubnet(address, bits, family);
    for (const entry of options.insecure) {
      const [, address = '', bits] = /^(.*)\/(\d+)$/.exec(entry) ?? [];
      const version = isIP(address);
      if (version !== 0) this.#subnets.addSubnet(address, Number(bits), familyOf(version));
    }
    this.#names = new Set(options.insecure);
  }

  /** The transports to pull from, in order of preference. */
  async toPull(domain: string): Promise<Transport[]> {
    const mirrors = domain === HUB ? await Promise.all(this.options.mirrors.map((mirror) => this.#mirror(mirror))) : [];
    return [...mirrors, await this.registry(domain)];
  }

  /** The registry itself. @throws InvalidParameter */
  async registry(domain: string): Promise<Transport> {
    const host = domain === HUB ? HUB_REGISTRY : domain;
    // The host also selects a certificate directory: rejects `..`.
    if (!isDomain(host)) throw new InvalidParameter(`invalid registry address ${JSON.stringify(host)}`);
    return this.#cached(host, host, async () => {
      const insecure = await this.#isInsecure(host);
      const bases = [new URL(`https://${host}/`), ...(insecure ? [new URL(`http://${host}/`)] : [])];
      return new Transport(bases, await this.#dispatcher(host, insecure), { insecure, isMirror: false });
    });
  }

  close(): void {
    for (const { transport } of this.#transports.values())
      void transport.then(
        (each) => each.close(),
        () => undefined,
      );
  }

  #mirror(mirror: string): Promise<Transport> {
    const url = new URL(mirror);
    return this.#cached(mirror, url.host, async () => {
      const insecure = url.protocol === 'http:' || (await this.#isInsecure(url.host));
      return new Transport([url], await this.#dispatcher(url.host, insecure), { insecure, isMirror: true });
    });
  }

  // Rebuilt when the host's certificate files change, and after a failure (DNS, unreadable files).
  #cached(key: string, host: string, make: () => Promise<Transport>): Promise<Transport> {
    const version = this.#certificates(host)
      .map((path) => `${path} ${statSync(path, { throwIfNoEntry: false })?.mtimeMs}`)
      .join('\n');
    const known = this.#transports.get(key);
    if (known?.version === version) return known.transport;
    const transport = make();
    this.#transports.set(key, { version, transport });
    transport.catch(() => this.#transports.delete(key));
    return transport;
  }

  // All files in the host's directory, sorted.
  #certificates(host: string): string[] {
    const directory = join(this.options.certificates, host);
    if (!existsSync(directory)) return [];
    return readdirSync(directory)
      .sort()
      .map((name) => join(directory, name));
  }

  async #isInsecure(host: string): Promise<boolean> {
    const { hostname } = new URL(`https://${host}/`);
    if (this.#names.has(host) || this.#names.has(hostname)) return true;
    const bare = hostname.replace(/^\[(.*)\]$/, '$1');
    const addresses = isIP(bare)
      ? [{ address: bare, family: isIP(bare) }]
      : await lookup(bare, { all: true }).catch(() => []);
    return addresses.some(({ address, family }) => this.#subnets.check(address, familyOf(family)));
  }

  async #dispatcher(host: string, insecure: boolean): Promise<Dispatcher> {
    const { Agent, EnvHttpProxyAgent } = await import('undici');
    const tls = this.#tls(host, insecure);
    const timeouts = { headersTimeout: HEADERS_TIMEOUT_MS, bodyTimeout: BODY_TIMEOUT_MS };
    const connect = { ...tls, timeout: CONNECT_TIMEOUT_MS };
    const { hostname } = new URL(`https://${host}/`);
    const hasProxy = PROXY_VARIABLES.some((name) => process.env[name]);
    // As in Go, loopback addresses are never proxied (golang.org/x/net/http/httpproxy).
    if (!hasProxy || isLoopback(hostname)) return new Agent({ ...timeouts, connect });
    return new EnvHttpProxyAgent({ ...timeouts, connect, requestTls: connect });
  }

  #tls(host: string, insecure: boolean): TlsOptions {
    const files = this.#certificates(host);
    const hostCas = files.filter((path) => path.endsWith('.crt')).map(readText);
    const tls: TlsOptions = { rejectUnauthorized: !insecure, ...clientCertificate(files) };
    // An insecure registry's certificate is not verified: the roots need not be read.
    if (!insecure || hostCas.length > 0) tls.ca = [...trustedRoots(), ...hostCas];
    return tls;
  }
}

const familyOf = (version: number): 'ipv4' | 'ipv6' => (version === 4 ? 'ipv4' : 'ipv6');

const isLoopback = (hostname: string): boolean =>
  hostname === 'localhost' || hostname === '[::1]' || (isIP(hostname) === 4 && hostname.startsWith('127.'));

const readText = (path: string): string => readFileSync(path, 'utf8');

// The system's CA certificates, or Node's own; NODE_EXTRA_CA_CERTS adds to either.
function trustedRoots(): string[] {
  const system = SYSTEM_ROOTS.find((path) => existsSync(path));
  const roots = system === undefined ? [...rootCertificates] : [readText(system)];
  const extra = process.env.NODE_EXTRA_CA_CERTS;
  if (extra && existsSync(extra)) roots.push(readText(extra));
  return roots;
}

function clientCertificate(files: string[]): { cert?: string; key?: string } {
  const certificate = files.find((path) => path.endsWith('.cert'));
  if (certificate === undefined) return {};
  const key = certificate.replace(/\.cert$/, '.key');
  if (!files.includes(key))
    throw new SystemFault(
      `missing key ${basename(key)} for client certificate ${basename(certificate)}. CA certificates must use the extension .crt`,
    );
  return { cert: readText(certificate), key: readText(key) };
}
