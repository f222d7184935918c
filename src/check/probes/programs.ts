/** Probes of programs and libraries: Node.js, native modules, OCI runtimes, helpers. */
import { existsSync, readFileSync } from 'node:fs';
import { findProgram, isExecutable } from '../../config/program.ts';
import { installCommand } from '../packages.ts';
import type { Probe } from '../probe.ts';
import { versionOf } from '../program-version.ts';

/** As in package.json. */
const MIN_NODE: readonly [number, number, number] = [20, 19, 0];

const node: Probe = {
  subject: 'Node.js',
  look: () => {
    const [major = 0, minor = 0, patch = 0] = process.versions.node.split('.').map(Number);
    const difference = [major - MIN_NODE[0], minor - MIN_NODE[1], patch - MIN_NODE[2]].find((d) => d !== 0) ?? 0;
    return difference >= 0
      ? { verdict: 'ok', text: `${process.version} (${process.execPath})` }
      : {
          verdict: 'lacking',
          text: `${process.version} is too old`,
          remedy: `install Node.js ${MIN_NODE.join('.')} or later`,
        };
  },
};

const sqlite: Probe = {
  subject: 'better-sqlite3',
  look: async () => {
    try {
      const { openDatabase } = await import('../../store/database.ts');
      openDatabase(':memory:').close();
      return { verdict: 'ok', text: 'the database opens' };
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

/** Explains why a native module does not load: not installed, built for another Node.js, or not built at all. */
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
      return { verdict: 'lacking', text: `the default runtime ${name} is not installed`, remedy: installCommand(name) };
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
        text: `${broken[0]}: ${broken[1].path} is not executable`,
        remedy: 'correct "runtimes" in the configuration',
      };
    if (others.length === 0)
      return {
        verdict: 'advice',
        text: 'crun is not installed; it starts containers faster than runc',
        remedy: installCommand('crun'),
      };
    return { verdict: 'ok', text: others.map(([other, { path }]) => `${other} (${path})`).join(', ') };
  },
};

const seccomp: Probe = {
  subject: 'seccomp profile',
  look: ({ seccompProfile: path }) => {
    if (path === 'unconfined')
      return { verdict: 'advice', text: 'disabled by the configuration: containers can make any system call' };
    if (!existsSync(path))
      return {
        verdict: 'lacking',
        text: `${path} does not exist`,
        remedy: `${installCommand('seccomp.json')}, or set --seccomp-profile`,
      };
    const profile = JSON.parse(readFileSync(path, 'utf8')) as { syscalls?: unknown[] };
    if (!Array.isArray(profile.syscalls))
      throw new Error(`${path} is not a seccomp profile: it has no list of syscalls`);
    return { verdict: 'ok', text: path };
  },
};

const init: Probe = {
  subject: 'init',
  look: ({ initPath }) => {
    if (initPath && existsSync(initPath)) return { verdict: 'ok', text: `${initPath} (docker run --init)` };
    const text = initPath
      ? `${initPath} does not exist`
      : 'neither tini nor catatonit is installed: docker run --init fails';
    return { verdict: 'advice', text, remedy: installCommand('tini') };
  },
};

const busybox: Probe = {
  subject: 'busybox',
  look: () => {
    const path = findProgram('busybox', process.env);
    return path
      ? { verdict: 'ok', text: `${path} (for the image of ./scripts/up and of the tests)` }
      : {
          verdict: 'advice',
          text: 'not installed: ./scripts/up and the tests build their image from it',
          remedy: installCommand('busybox'),
        };
  },
};

/** Node.js decompresses gzip itself (engine/images/compression.ts). */
const decoders: Probe = {
  subject: 'layers',
  look: () => {
    const missing = ['zstd', 'xz'].filter((name) => !findProgram(name, process.env));
    return missing.length === 0
      ? { verdict: 'ok', text: 'gzip, zstd and xz can be unpacked' }
      : {
          verdict: 'advice',
          text: `layers compressed with ${missing.join(' or ')} cannot be unpacked`,
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
