/** What the daemon itself and its containers are run by: Node, native modules, OCI runtimes, helpers. */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { findProgram, isExecutable } from '../../config/program.ts';
import type { Probe } from '../check.ts';
import { installCommand } from '../packages.ts';

const run = promisify(execFile);

/** First line that a program prints with `argument`. */
export async function versionOf(path: string, argument = '--version'): Promise<string> {
  const { stdout, stderr } = await run(path, [argument], { timeout: 10_000 });
  return (stdout || stderr).split('\n')[0]!.trim();
}

const LEAST_NODE: readonly [number, number, number] = [20, 18, 1];

const node: Probe = {
  subject: 'Node.js',
  look: () => {
    const [major = 0, minor = 0, patch = 0] = process.versions.node.split('.').map(Number);
    const difference = [major - LEAST_NODE[0], minor - LEAST_NODE[1], patch - LEAST_NODE[2]].find((d) => d !== 0) ?? 0;
    return difference >= 0
      ? { verdict: 'ok', text: `${process.version} (${process.execPath})` }
      : {
          verdict: 'lacking',
          text: `${process.version} is too old`,
          remedy: `install Node.js ${LEAST_NODE.join('.')} or later`,
        };
  },
};

const sqlite: Probe = {
  subject: 'better-sqlite3',
  look: async () => {
    try {
      const { openDatabase } = await import('../../store/database.ts');
      openDatabase(':memory:').close();
      return { verdict: 'ok', text: 'the store opens' };
    } catch (error) {
      return { verdict: 'lacking', ...explainNative('better-sqlite3', error as Error) };
    }
  },
};

const koffi: Probe = {
  subject: 'koffi',
  look: async () => {
    try {
      const { bootId } = await import('../../sys/process.ts');
      bootId();
      return { verdict: 'ok', text: 'system calls work' };
    } catch (error) {
      return { verdict: 'lacking', ...explainNative('koffi', error as Error) };
    }
  },
};

/** Native modules fail in three ways: not installed, built for another Node, not built at all. */
export function explainNative(name: string, error: Error): { text: string; remedy: string } {
  const [, built = '', wanted = ''] =
    /NODE_MODULE_VERSION (\d+)[\s\S]*NODE_MODULE_VERSION (\d+)/.exec(error.message) ?? [];
  if (built !== '')
    return {
      text: `${name} was built for another Node.js (module version ${built}; this one, ${process.version}, needs ${wanted})`,
      remedy: `npm rebuild ${name}`,
    };
  if (/Could not locate the bindings file|invalid ELF|GLIBC/.test(error.message))
    return {
      text: `${name} has no working native part: ${error.message.split('\n')[0]}`,
      remedy: `npm rebuild ${name}   (needs python3, make and g++)`,
    };
  if (/Cannot find (module|package)/.test(error.message)) return { text: `${name} is not installed`, remedy: 'npm ci' };
  return { text: `${name} does not load: ${error.message.split('\n')[0]}`, remedy: `npm rebuild ${name}` };
}

const defaultRuntime: Probe = {
  subject: 'OCI runtime',
  look: async ({ defaultRuntime: name, runtimes }) => {
    const { path } = runtimes[name]!;
    if (!existsSync(path))
      return { verdict: 'lacking', text: `${name}, the default, is not installed`, remedy: installCommand(name) };
    return { verdict: 'ok', text: `${await versionOf(path)} (${path})` };
  },
};

const otherRuntimes: Probe = {
  subject: 'other runtimes',
  look: async ({ defaultRuntime: name, runtimes }) => {
    const others = Object.entries(runtimes).filter(
      ([other, { path }]) => other !== name && path !== runtimes[name]!.path,
    );
    const broken = others.find(([, { path }]) => !isExecutable(path));
    if (broken)
      return {
        verdict: 'advice',
        text: `${broken[0]}: ${broken[1].path} cannot be run`,
        remedy: 'correct "runtimes" in the configuration',
      };
    if (others.length === 0)
      return {
        verdict: 'advice',
        text: 'crun, which starts containers faster, is not installed',
        remedy: installCommand('crun'),
      };
    return { verdict: 'ok', text: others.map(([other, { path }]) => `${other} (${path})`).join(', ') };
  },
};

const seccomp: Probe = {
  subject: 'seccomp profile',
  look: ({ seccompProfile: path }) => {
    if (path === 'unconfined')
      return { verdict: 'advice', text: 'switched off by the configuration: containers may make any system call' };
    if (!existsSync(path))
      return {
        verdict: 'lacking',
        text: `${path} does not exist`,
        remedy: `${installCommand('seccomp.json')}, or name another file by --seccomp-profile`,
      };
    const profile = JSON.parse(readFileSync(path, 'utf8')) as { syscalls?: unknown[] };
    if (!Array.isArray(profile.syscalls)) throw new Error(`${path} is no seccomp profile: it has no list of syscalls`);
    return { verdict: 'ok', text: path };
  },
};

const init: Probe = {
  subject: 'init',
  look: ({ initPath }) =>
    initPath && existsSync(initPath)
      ? { verdict: 'ok', text: `${initPath} (docker run --init)` }
      : {
          verdict: 'advice',
          text: initPath
            ? `${initPath} does not exist`
            : 'neither tini nor catatonit is installed: docker run --init will fail',
          remedy: installCommand('tini'),
        },
};

const busybox: Probe = {
  subject: 'busybox',
  look: () => {
    const path = findProgram('busybox', process.env);
    return path
      ? { verdict: 'ok', text: `${path} (the small image of ./scripts/up and of the tests)` }
      : {
          verdict: 'advice',
          text: 'not installed: ./scripts/up and the tests make their image from it',
          remedy: installCommand('busybox'),
        };
  },
};

/** Not gzip, which Node has. engine/images/compression.ts */
const decoders: Probe = {
  subject: 'layers',
  look: () => {
    const missing = ['zstd', 'xz'].filter((name) => !findProgram(name, process.env));
    return missing.length === 0
      ? { verdict: 'ok', text: 'gzip, zstd and xz can be unpacked' }
      : {
          verdict: 'advice',
          text: `archives packed by ${missing.join(' or ')} cannot be unpacked`,
          remedy: installCommand(missing[0]!),
        };
  },
};

export const programProbes: readonly Probe[] = [
  node,
  sqlite,
  koffi,
  defaultRuntime,
  otherRuntimes,
  seccomp,
  init,
  decoders,
  busybox,
];
