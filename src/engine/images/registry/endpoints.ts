/**
 * Where a repository is found: its registry, or a mirror before it; which of them may be spoken to without verified
 * TLS; what certificates they have.
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
/** The registry behind the name docker.io. */
const HUB_REGISTRY = 'registry-1.docker.io';
/** Always among the insecure: nobody is between (moby registry/config.go). */
const LOOPBACK: readonly [string, number, 'ipv4' | 'ipv6'][] = [
  ['127.0.0.0', 8, 'ipv4'],
  ['::1', 128, 'ipv6'],
];
/** Go reads the first of these that is there (crypto/x509/root_linux.go). */
const SYSTEM_ROOTS = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
];
const CONNECT_TIMEOUT_MS = 15_000;
const HEADERS_TIMEOUT_MS = 60_000;
/** A body that says nothing for this long is cut, and asked for again from there. */
const BODY_TIMEOUT_MS = 30_000;

export interface EndpointOptions {
  mirrors: readonly string[];
  insecure: readonly string[];
  /** A directory for each `host[:port]`: *.crt are its CAs, NAME.cert and NAME.key the client's. */
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
    for (const [address, bits] of options.insecure
      .filter((each) => /\/\d+$/.test(each))
      .map((each) => each.split('/') as [string, string])) {
      const family = isIP(address);
      if (family !== 0) this.#subnets.addSubnet(address, Number(bits), family === 4 ? 'ipv4' : 'ipv6');
    }
    this.#names = new Set(options.insecure);
  }

  /** In the order in which they are to be asked for what is pulled from `domain`. */
  async toPull(domain: string): Promise<Transport[]> {
    const mirrors = domain === HUB ? await Promise.all(this.options.mirrors.map((mirror) => this.#mirror(mirror))) : [];
    return [...mirrors, await this.registry(domain)];
  }

  /** The registry itself. */
  async registry(domain: string): Promise<Transport> {
    const host = domain === HUB ? HUB_REGISTRY : domain;
    // It also names a directory of certificates: `..` must not.
    if (!isDomain(host)) throw new InvalidParameter(`invalid registry address ${JSON.stringify(host)}`);
    return this.#once(host, host, async () => {
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
    return this.#once(mirror, url.host, async () => {
      const insecure = url.protocol === 'http:' || (await this.#isInsecure(url.host));
      return new Transport([url], await this.#dispatcher(url.host, insecure), { insecure, isMirror: true });
    });
  }

  // A name that could not be looked up, or certificates that could not be read, may be there the next time; so may
  // other certificates.
  #once(key: string, host: string, make: () => Promise<Transport>): Promise<Transport> {
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

  /** All files in the host's directory, sorted. */
  #certificates(host: string): string[] {
    const directory = join(this.options.certificates, host);
    return existsSync(directory)
      ? readdirSync(directory)
          .sort()
          .map((name) => join(directory, name))
      : [];
  }

  async #isInsecure(host: string): Promise<boolean> {
    const { hostname } = new URL(`https://${host}/`);
    if (this.#names.has(host) || this.#names.has(hostname)) return true;
    const bare = hostname.replace(/^\[(.*)\]$/, '$1');
    const addresses = isIP(bare)
      ? [{ address: bare, family: isIP(bare) }]
      : await lookup(bare, { all: true }).catch(() => []);
    return addresses.some(({ address, family }) => this.#subnets.check(address, family === 4 ? 'ipv4' : 'ipv6'));
  }

  async #dispatcher(host: string, insecure: boolean): Promise<Dispatcher> {
    const { Agent, EnvHttpProxyAgent } = await import('undici');
    const tls = this.#tls(host, insecure);
    const timeouts = { headersTimeout: HEADERS_TIMEOUT_MS, bodyTimeout: BODY_TIMEOUT_MS };
    const connect = { ...tls, timeout: CONNECT_TIMEOUT_MS };
    const { hostname } = new URL(`https://${host}/`);
    const proxied = ['HTTP_PROXY', 'HTTPS_PROXY', 'http_proxy', 'https_proxy'].some((name) => process.env[name]);
    // As Go: a host's own registry is never asked through a proxy.
    if (!proxied || hostname === 'localhost' || this.#isLoopback(hostname)) return new Agent({ ...timeouts, connect });
    return new EnvHttpProxyAgent({ ...timeouts, connect, requestTls: connect });
  }

  #isLoopback(hostname: string): boolean {
    return hostname === '[::1]' || (isIP(hostname) === 4 && hostname.startsWith('127.'));
  }

  #tls(host: string, insecure: boolean): TlsOptions {
    const files = this.#certificates(host);
    const read = (path: string): string => readFileSync(path, 'utf8');
    const own = files.filter((path) => path.endsWith('.crt')).map(read);
    const certificate = files.find((path) => path.endsWith('.cert'));
    const key = certificate?.replace(/\.cert$/, '.key');
    if (key !== undefined && !files.includes(key))
      throw new SystemFault(
        `missing key ${basename(key)} for client certificate ${basename(certificate!)}. CA certificates must use the extension .crt`,
      );
    const system = SYSTEM_ROOTS.find((path) => existsSync(path));
    const roots = [
      ...(system ? [readFileSync(system, 'utf8')] : rootCertificates),
      ...(process.env.NODE_EXTRA_CA_CERTS && existsSync(process.env.NODE_EXTRA_CA_CERTS)
        ? [readFileSync(process.env.NODE_EXTRA_CA_CERTS, 'utf8')]
        : []),
    ];
    return {
      rejectUnauthorized: !insecure,
      ...(insecure && own.length === 0 ? {} : { ca: [...roots, ...own] }),
      ...(certificate !== undefined && key !== undefined ? { cert: read(certificate), key: read(key) } : {}),
    };
  }
}
