/** A container's network namespace with its addresses and routes. */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { Errno } from '../../sys/libc.ts';
import { Netlink, NETLINK_ROUTE } from '../../sys/netlink.ts';
import { createNetns, inNetns, isNetns, removeNetns } from '../../sys/netns.ts';
import { addAddress, deleteDefaultRoute, setDefaultRoute } from '../../sys/rtnetlink-addresses.ts';
import { findLink, setUp } from '../../sys/rtnetlink-links.ts';
import { defaultRouteEndpoint, type EndpointSetup, type Setup } from './driver.ts';
import { writeSysctl } from './sysctl.ts';

const LOOPBACK_INDEX = 1;
const FAMILIES = [4, 6] as const;
/** There is no such route, or its link is gone. */
const NO_ROUTE = ['ESRCH', 'ENETUNREACH', 'EHOSTUNREACH', 'ENODEV'];

/** Creates and pins a setup's namespace, unless it exists, and sets `lo` up. */
export function makeNamespace({ netns }: Setup): void {
  if (netns === '') return;
  if (!isNetns(netns)) {
    mkdirSync(dirname(netns), { recursive: true, mode: 0o700 });
    removeNetns(netns);
    createNetns(netns);
  }
  withSocketIn(netns, (inside) => inside.run([setUp(LOOPBACK_INDEX)]));
}

/** Configures an endpoint's link, which is in the namespace already: sysctls, addresses and the default routes. */
export function configureEndpoint(setup: Setup, endpoint: EndpointSetup): void {
  const { address, prefix, address6, prefix6, link } = endpoint;
  const addresses = [
    ...(address === '' ? [] : [`${address}/${prefix}`]),
    ...(address6 === '' ? [] : [`${address6}/${prefix6}`]),
  ];
  const gateways = FAMILIES.filter((family) => defaultRouteEndpoint(setup, family) === endpoint).map((family) =>
    gatewayOf(endpoint, family),
  );
  withSocketIn(
    setup.netns,
    (inside) => {
      const { index } = findLink(inside, link!.name)!;
      inside.run([...addresses.map((one) => addAddress(index, one)), setUp(index), ...gateways.map(setDefaultRoute)]);
    },
    () => writeSysctls(endpoint),
  );
}

/** Points the default routes at the gateways of the endpoints that have them, and deletes all others. */
export function setDefaultRoutes(setup: Setup): void {
  if (setup.netns === '' || !isNetns(setup.netns)) return;
  withSocketIn(setup.netns, (inside) => {
    for (const family of FAMILIES) {
      const endpoint = defaultRouteEndpoint(setup, family);
      const gateway = endpoint ? gatewayOf(endpoint, family) : '';
      if (gateway !== '') inside.run([setDefaultRoute(gateway)]);
      const others = setup.endpoints
        .map((each) => gatewayOf(each, family))
        .filter((other) => other !== '' && other !== gateway);
      for (const other of others) removeDefaultRoute(inside, other);
    }
  });
}

const gatewayOf = (endpoint: EndpointSetup, family: 4 | 6): string =>
  family === 4 ? endpoint.gateway : endpoint.gateway6;

/** Runs `work` with a socket into the namespace, and before it `inNamespace` in the namespace itself. */
function withSocketIn(netns: string, work: (inside: Netlink) => void, inNamespace?: () => void): void {
  const inside = inNetns(netns, () => {
    inNamespace?.();
    return Netlink.open(NETLINK_ROUTE);
  });
  try {
    work(inside);
  } finally {
    inside.close();
  }
}

// Before the link is up. As in Docker, a link on a network without IPv6 has no link-local address either.
function writeSysctls({ link, address6 }: EndpointSetup): void {
  const { name, sysctls } = link!;
  writeSysctl(`ipv6/conf/${name}/disable_ipv6`, address6 === '' ? '1' : '0');
  for (const [path, value] of Object.entries(sysctls)) writeSysctl(path.replace('IFNAME', name), value);
}

function removeDefaultRoute(inside: Netlink, gateway: string): void {
  try {
    inside.run([deleteDefaultRoute(gateway)]);
  } catch (error) {
    if (!(error instanceof Errno && NO_ROUTE.includes(error.code))) throw error;
  }
}
