/** Where things will lie: room, mount options, lengths of paths. */
import { statfsSync } from 'node:fs';
import { findProgram } from '../../config/program.ts';
import { MAX_EXEC_ROOT } from '../../config/resolve.ts';
import { mountContaining } from '../../sys/mountinfo.ts';
import type { Probe } from '../check.ts';
import { nearestExisting } from './isolation.ts';

const MiB = 1024 * 1024;
const LEAST_FREE = 200 * MiB;
const COMFORTABLE = 2048 * MiB;
const LEAST_INODES = 10_000;

const room: Probe = {
  subject: 'disk',
  look: ({ dataRoot }) => {
    const place = nearestExisting(dataRoot);
    const { bavail, bsize, files, ffree } = statfsSync(place);
    const free = bavail * bsize;
    const text = `${free >= 1024 * MiB ? `${(free / MiB / 1024).toFixed(1)} GiB` : `${Math.floor(free / MiB)} MiB`} free for ${dataRoot}`;
    if (free < LEAST_FREE) return { verdict: 'lacking', text, remedy: 'free some, or choose another --data-root' };
    // btrfs counts no inodes.
    if (files > 0 && ffree < LEAST_INODES)
      return {
        verdict: 'lacking',
        text: `${text}, but only ${ffree} inodes`,
        remedy: 'delete files, or choose another --data-root',
      };
    if (free < COMFORTABLE) return { verdict: 'advice', text: `${text}: little for images` };
    return { verdict: 'ok', text };
  },
};

const execution: Probe = {
  subject: 'data-root',
  look: ({ dataRoot }) => {
    const { point, flags } = mountOf(nearestExisting(dataRoot));
    const wrong = ['ro', 'noexec', 'nodev', 'nosuid'].filter((flag) => flags.includes(flag));
    if (wrong.includes('ro') || wrong.includes('noexec'))
      return {
        verdict: 'lacking',
        text: `${dataRoot}: ${point} is mounted ${wrong.join(',')}; shims and containers are run from there`,
        remedy: 'another --data-root, or other mount options',
      };
    if (wrong.length > 0)
      return {
        verdict: 'advice',
        text: `${dataRoot}: ${point} is mounted ${wrong.join(',')}, and containers will feel it (setuid programs, devices)`,
      };
    return { verdict: 'ok', text: dataRoot };
  },
};

const runtimeDirectory: Probe = {
  subject: 'exec-root',
  look: ({ execRoot }) => {
    const { point, flags } = mountOf(nearestExisting(execRoot));
    if (flags.includes('ro'))
      return { verdict: 'lacking', text: `${execRoot}: ${point} is mounted read-only`, remedy: 'another --exec-root' };
    return {
      verdict: 'ok',
      text: `${execRoot} (${MAX_EXEC_ROOT - Buffer.byteLength(execRoot)} bytes below the longest that sockets allow)`,
    };
  },
};

/** The mount a path lies on, with its options. */
function mountOf(path: string): { point: string; flags: string[] } {
  const mount = mountContaining(path);
  return { point: mount?.point ?? '/', flags: mount?.options ?? [] };
}

const client: Probe = {
  subject: 'docker client',
  look: () => {
    const path = findProgram('docker', process.env);
    return path
      ? { verdict: 'ok', text: path }
      : {
          verdict: 'advice',
          text: 'not installed; curl will do, but it is what people use in front of Holdfast',
          remedy: "your distribution's docker-cli, or docker.io with its service disabled",
        };
  },
};

export const placeProbes: readonly Probe[] = [room, execution, runtimeDirectory, client];
