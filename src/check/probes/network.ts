/** What carries the containers' packets. */
import { existsSync, readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { overlap, parseSubnet } from '../../config/addresses.ts';
import { findProgram } from '../../config/program.ts';
import type { Probe } from '../check.ts';
import { installCommand } from '../packages.ts';
import { versionOf } from './programs.ts';

/** Debian's and Fedora's places for podman's helpers. */
const HELPER_DIRECTORIES = [
  '/usr/lib/podman',
  '/usr/libexec/podman',
  '/usr/local/lib/podman',
  '/usr/local/libexec/podman',
];

interface Need {
  program: string;
  verdict: 'lacking' | 'advice';
  without: string;
  versionFlag?: string;
  also?: readonly string[];
}

const needs: readonly Need[] = [
  { program: 'nft', verdict: 'lacking', without: 'no ports are published, and networks are not kept apart' },
  {
    program: 'aardvark-dns',
    verdict: 'advice',
    without: 'containers do not find each other by name',
    also: HELPER_DIRECTORIES,
  },
  {
    program: 'iptables',
    verdict: 'advice',
    without: 'where a firewall drops what it forwards, containers are not reached',
  },
  { program: 'ip', verdict: 'advice', without: 'you cannot look at what Holdfast made', versionFlag: '-V' },
];

const probeFor = ({ program, verdict, without, versionFlag, also }: Need): Probe => ({
  subject: program,
  look: async () => {
    const path = findProgram(program, process.env, also);
    if (!path) return { verdict, text: `not installed: ${without}`, remedy: installCommand(program) };
    return { verdict: 'ok', text: `${await versionOf(path, versionFlag)} (${path})` };
  },
});

const forwarding: Probe = {
  subject: 'forwarding',
  look: () => {
    const on = readFileSync('/proc/sys/net/ipv4/ip_forward', 'latin1').trim() === '1';
    return {
      verdict: 'ok',
      text: on ? 'IPv4 forwarding is on' : 'IPv4 forwarding is off; it is switched on with the first bridge',
    };
  },
};

const bridgeFilter: Probe = {
  subject: 'br_netfilter',
  look: () => {
    const knob = '/proc/sys/net/bridge/bridge-nf-call-iptables';
    if (!existsSync(knob)) return { verdict: 'ok', text: 'not loaded (not needed)' };
    return {
      verdict: 'ok',
      text:
        readFileSync(knob, 'latin1').trim() === '1'
          ? 'loaded: packets within a bridge pass the firewall too; Holdfast lets them'
          : 'loaded, not filtering',
    };
  },
};

const subnet: Probe = {
  subject: 'default subnet',
  look: ({ bip, bridge }) => {
    const ours = parseSubnet(bip)!;
    const taken = Object.entries(networkInterfaces())
      .flatMap(([link, addresses = []]) => addresses.map((a) => ({ link, cidr: a.cidr ?? '' })))
      .find(({ link, cidr }) => link !== bridge && parseSubnet(cidr) && overlap(ours, parseSubnet(cidr)!));
    if (taken)
      return {
        verdict: 'lacking',
        text: `${bip} overlaps ${taken.cidr} of ${taken.link}`,
        remedy: 'choose another by --bip, e.g. --bip 10.199.0.1/16',
      };
    return { verdict: 'ok', text: `${bip} on ${bridge}` };
  },
};

export const networkProbes: readonly Probe[] = [...needs.map(probeFor), forwarding, bridgeFilter, subnet];
