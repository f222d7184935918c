/** Probes of directories: free space, mount options, path lengths; and of the docker client. */
import { statfsSync } from 'node:fs';
import { findProgram } from '../../config/program.ts';
import { MAX_EXEC_ROOT } from '../../config/path-checks.ts';
import { mountContaining } from '../../sys/mountinfo.ts';
import { nearestExisting } from '../nearest.ts';
import type { Probe } from '../probe.ts';

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;
const MIN_FREE = 200 * MiB;
const COMFORTABLE_FREE = 2 * GiB;
const MIN_INODES = 10_000;

const diskSpace: Probe = {
  subject: 'disk',
  look: ({ dataRoot }) => {
    const { bavail, bsize, files, ffree } = statfsSync(nearestExisting(dataRoot));
    const free = bavail * bsize;
    const size = free >= GiB ? `${(free / GiB).toFixed(1)} GiB` : `${Math.floor(free / MiB)} MiB`;
    const text = `${size} free for ${dataRoot}`;
    if (free < MIN_FREE) return { verdict: 'lacking', text, remedy: 'free some space, or choose another --data-root' };
    // btrfs reports no inode counts.
    if (files > 0 && ffree < MIN_INODES)
      return {
        verdict: 'lacking',
        text: `${text}, but only ${ffree} inodes`,
        remedy: 'delete files, or choose another --data-root',
      };
    if (free < COMFORTABLE_FREE) return { verdict: 'advice', text: `${text}: not much for images` };
    return { verdict: 'ok', text };
  },
};

const dataRootMount: Probe = {
  subject: 'data-root',
  look: ({ dataRoot }) => {
    const { point, flags } = mountOf(nearestExisting(dataRoot));
    const harmful = ['ro', 'noexec', 'nodev', 'nosuid'].filter((flag) => flags.includes(flag));
    if (harmful.includes('ro') || harmful.includes('noexec'))
      return {
        verdict: 'lacking',
        text: `${dataRoot}: ${point} is mounted ${harmful.join(',')}; shims and containers run from there`,
        remedy: 'choose another --data-root, or change the mount options',
      };
    if (harmful.length > 0)
      return {
        verdict: 'advice',
        text: `${dataRoot}: ${point} is mounted ${harmful.join(',')}, which affects containers (setuid programs, devices)`,
      };
    return { verdict: 'ok', text: dataRoot };
  },
};

const execRootMount: Probe = {
  subject: 'exec-root',
  look: ({ execRoot }) => {
    const { point, flags } = mountOf(nearestExisting(execRoot));
    if (flags.includes('ro'))
      return {
        verdict: 'lacking',
        text: `${execRoot}: ${point} is mounted read-only`,
        remedy: 'choose another --exec-root',
      };
    return {
      verdict: 'ok',
      text: `${execRoot} (${MAX_EXEC_ROOT - Buffer.byteLength(execRoot)} bytes shorter than socket paths allow)`,
    };
  },
};

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
          text: 'not installed; the API can also be used with curl',
          remedy: "install your distribution's docker-cli, or docker.io with its service disabled",
        };
  },
};

export const placeProbes: readonly Probe[] = [diskSpace, dataRootMount, execRootMount, client];
