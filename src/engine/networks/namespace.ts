/** A container's network namespace, and what is set up in it: addresses and routes. */
import { existsSync, mkdirSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { Errno } from '../../sys/libc.ts';
import { Netlink, NETLINK_ROUTE } from '../../sys/netlink.ts';
import { createNetns, inNetns, removeNetns } from '../../sys/netns.ts';
import { addAddress, deleteDefaultRoute, findLink, setDefaultRoute, setUp } from '../../sys/rtnetlink.ts';
import { wayOut, type EndpointSetup, type Setup } from './driver.ts';
import { writeSysctl } from './sysctl.ts';

const LOOPBACK_INDEX = 1;
/** statfs(2) type of a network namespace's file. */
const NSFS_MAGIC = 0x6e736673;
const FAMILIES = [4, 6] as const;
/** There is no such route, or nothing any more that it could go by. */
const NO_ROUTE = ['ESRCH', 'ENETUNREACH', 'EHOSTUNREACH', 'ENODEV'];

/** Makes and pins a setup's namespace, unless it is there. Pinned before anything is in it; `lo` is up in every one. */
export function makeNamespace({ netns }: Setup): void {
  if (netns === '') return;
  if (!isPinned(netns)) {
    mkdirSync(dirname(netns), { recursive: true, mode: 0o700 });
    removeNetns(netns);
    createNetns(netns);
  }
  withSocketIn(netns, (inside) => inside.run([setUp(LOOPBACK_INDEX)]));
}

/** Gives an endpoint's link, which is in the namespace already, its settings, addresses and routes. */
export function bringUp(setup: Setup, endpoint: EndpointSetup): void {
  const { address, prefix, address6, prefix6, link } = endpoint;
  const addresses = [
    ...(address === '' ? [] : [`${address}/${prefix}`]),
    ...(address6 === '' ? [] : [`${address6}/${prefix6}`]),
  ];
  const gateways = FAMILIES.filter((family) => wayOut(setup, family) === endpoint).map((family) =>
    gatewayOf(endpoint, family),
  );
  withSocketIn(
    setup.netns,
    (inside) => {
      const { index } = findLink(inside, link!.name)!;
      inside.run([...addresses.map((one) => addAddress(index, one)), setUp(index), ...gateways.map(setDefaultRoute)]);
    },
    () => configure(endpoint),
  );
}

/** Has the default routes go by the way out, and by nothing else. */
export function setRoutes(setup: Setup): void {
  if (setup.netns === '' || !isPinned(setup.netns)) return;
  withSocketIn(setup.netns, (inside) => {
    for (const family of FAMILIES) {
      const way = wayOut(setup, family);
      const gateway = way ? gatewayOf(way, family) : '';
      if (gateway !== '') inside.run([setDefaultRoute(gateway)]);
      const others = setup.endpoints
        .map((endpoint) => gatewayOf(endpoint, family))
        .filter((other) => other !== '' && other !== gateway);
      for (const other of others) dropDefaultRoute(inside, other);
    }
  });
}

const gatewayOf = (endpoint: EndpointSetup, family: 4 | 6): string =>
  family === 4 ? endpoint.gateway : endpoint.gateway6;

const isPinned = (path: string): boolean => existsSync(path) && statfsSync(path).type === NSFS_MAGIC;

// `first` is done in the namespace, before the socket is there.
function withSocketIn(netns: string, work: (inside: Netlink) => void, first?: () => void): void {
  const inside = inNetns(netns, () => {
    first?.();
    return Netlink.open(NETLINK_ROUTE);
  });
  try {
    work(inside);
  } finally {
    inside.close();
  }
}

// Before it comes up. As Docker: on a network without IPv6 a link has no link-local address either.
function configure({ link, address6 }: EndpointSetup): void {
  const { name, sysctls } = link!;
  writeSysctl(`ipv6/conf/${name}/disable_ipv6`, address6 === '' ? '1' : '0');
  for (const [path, value] of Object.entries(sysctls)) writeSysctl(path.replace('IFNAME', name), value);
}

function dropDefaultRoute(inside: Netlink, gateway: string): void {
  try {
    inside.run([deleteDefaultRoute(gateway)]);
  } catch (error) {
    if (!(error instanceof Errno && NO_ROUTE.includes(error.code))) throw error;
  }
}
