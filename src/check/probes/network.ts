/** Probes of what container networking needs. */
import { existsSync, readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { overlap, parseSubnet } from '../../config/addresses.ts';
import { findProgram } from '../../config/program.ts';
import type { Bridge } from '../../engine/networks/driver.ts';
import type { Family } from '../../sys/nft-messages.ts';
import { installCommand } from '../packages.ts';
import type { Probe } from '../probe.ts';
import { versionOf } from '../program-version.ts';

interface Requirement {
  program: string;
  /** If it is not installed. */
  verdict: 'lacking' | 'advice';
  /** What does not work without it. */
  without: string;
  versionFlag?: string;
}

const requirements: readonly Requirement[] = [
  {
    program: 'iptables',
    verdict: 'advice',
    without: 'containers are unreachable if a firewall drops forwarded packets',
  },
  { program: 'ip', verdict: 'advice', without: 'the network setup cannot be inspected', versionFlag: '-V' },
];

const probeFor = ({ program, verdict, without, versionFlag }: Requirement): Probe => ({
  subject: program,
  look: async () => {
    const path = findProgram(program, process.env);
    if (!path) return { verdict, text: `not installed: ${without}`, remedy: installCommand(program) };
    return { verdict: 'ok', text: `${await versionOf(path, versionFlag)} (${path})` };
  },
});

/** Enough for every rule that the firewall can have. */
const SAMPLE: Bridge[] = [true, false].map((internal) => ({
  link: internal ? 'inner' : 'outer',
  addresses: ['192.0.2.1/25', '2001:db8::1/65'],
  mtu: 1500,
  internal,
  icc: true,
  masquerade: true,
  dns: true,
}));

const nfTables: Probe = {
  subject: 'nf_tables',
  look: async ({ iptables }) => {
    if (!iptables) return { verdict: 'ok', text: 'not used: the configuration disables rules' };
    const fault = await refusedRules('ip');
    if (fault)
      return { verdict: 'lacking', text: `ports cannot be published, networks are not isolated: ${fault.message}` };
    const fault6 = await refusedRules('ip6');
    if (fault6) return { verdict: 'advice', text: `networks with IPv6 do not work: ${fault6.message}` };
    return { verdict: 'ok', text: 'the kernel accepts the rules of networks and published ports' };
  },
};

/** Why the kernel would not accept the firewall's rules; undefined if it would. Changes nothing. */
async function refusedRules(family: Family): Promise<Error | undefined> {
  const { tableOf } = await import('../../engine/networks/firewall-rules.ts');
  const { openNftables, tryTables } = await import('../../sys/nftables.ts');
  try {
    const socket = openNftables();
    try {
      tryTables(socket, [tableOf('holdfast_check', SAMPLE, family, ['outer', 'other'])]);
    } finally {
      socket.close();
    }
  } catch (error) {
    return error as Error;
  }
}

const forwarding: Probe = {
  subject: 'forwarding',
  look: () => {
    const on = readFileSync('/proc/sys/net/ipv4/ip_forward', 'latin1').trim() === '1';
    return {
      verdict: 'ok',
      text: on ? 'IPv4 forwarding is on' : 'IPv4 forwarding is off; the first bridge enables it',
    };
  },
};

const bridgeFilter: Probe = {
  subject: 'br_netfilter',
  look: () => {
    const knob = '/proc/sys/net/bridge/bridge-nf-call-iptables';
    if (!existsSync(knob)) return { verdict: 'ok', text: 'not loaded (not needed)' };
    const filtering = readFileSync(knob, 'latin1').trim() === '1';
    const text = 'loaded: bridged packets pass the firewall too; Holdfast accepts them there';
    return { verdict: 'ok', text: filtering ? text : 'loaded, not filtering' };
  },
};

const subnet: Probe = {
  subject: 'default subnet',
  look: ({ bip, bridge }) => {
    const ours = parseSubnet(bip)!;
    const overlaps = (cidr: string): boolean => {
      const theirs = parseSubnet(cidr);
      return theirs !== undefined && overlap(ours, theirs);
    };
    const taken = Object.entries(networkInterfaces())
      .flatMap(([link, addresses = []]) => addresses.map((a) => ({ link, cidr: a.cidr ?? '' })))
      .find(({ link, cidr }) => link !== bridge && overlaps(cidr));
    if (taken)
      return {
        verdict: 'lacking',
        text: `${bip} overlaps ${taken.cidr} of ${taken.link}`,
        remedy: 'choose another one with --bip, e.g. --bip 10.199.0.1/16',
      };
    return { verdict: 'ok', text: `${bip} on ${bridge}` };
  },
};

export const networkProbes: readonly Probe[] = [
  nfTables,
  ...requirements.map(probeFor),
  forwarding,
  bridgeFilter,
  subnet,
];
