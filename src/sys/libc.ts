/** The C library by FFI. The other files in sys/ declare the functions they need with it. */
import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

type Koffi = typeof import('koffi');

const require = createRequire(import.meta.url);

// A bundle has koffi's native part beside it: koffi's JS loader cannot be bundled, and costs 1 MB per process.
function loadKoffi(): Koffi {
  const beside = join(dirname(fileURLToPath(import.meta.url)), 'koffi.node');
  if (existsSync(beside)) return require(beside) as Koffi;
  const musl = existsSync('/lib/ld-musl-x86_64.so.1') || existsSync('/lib/ld-musl-aarch64.so.1');
  const triplet = `${musl ? 'musl' : 'linux'}_${process.arch}`;
  return require(`@koromix/koffi-linux-${process.arch}/${triplet}/koffi.node`) as Koffi;
}

export const koffi = loadKoffi();
const libc = koffi.load('libc.so.6');

/** A file descriptor. */
export type Fd = number;

/** A failed system call. `code` is the name of the errno, as in the errors of node:fs. */
export class Errno extends Error {
  readonly code: string;
  constructor(
    readonly errno: number,
    readonly syscall: string,
    detail = '',
  ) {
    const code = errnoNames.get(errno) ?? `errno ${errno}`;
    super(`${syscall}: ${code}${detail ? ` (${detail})` : ''}`);
    this.name = 'Errno';
    this.code = code;
  }
}

const errnoNames = new Map<number, string>(Object.entries(constants.errno).map(([name, value]) => [value, name]));

/** A C function. Results of type `long` are numbers too, as long as they are safe integers. */
type Native = (...args: unknown[]) => number;

/**
 * Declares a C function by its prototype. It is resolved at its first call: each function takes 10 KiB of memory, and
 * no process needs all of them.
 */
export function declare(prototype: string): Native {
  let native: Native | undefined;
  return (...args) => (native ??= libc.func(prototype) as unknown as Native)(...args);
}

/** As declare(), but calls run in Node's thread pool. */
export function declareAsync(prototype: string): (...args: unknown[]) => Promise<number | bigint> {
  let native: { async(...args: unknown[]): void } | undefined;
  return (...args) =>
    new Promise((resolve, reject) => {
      native ??= libc.func(prototype) as unknown as { async(...args: unknown[]): void };
      native.async(...args, (error: Error | null, result: number | bigint) =>
        error ? reject(error) : resolve(result),
      );
    });
}

/** Returns `result`, unless it is negative. @throws Errno */
export function check(result: number | bigint, syscall: string, detail = ''): number {
  const n = Number(result);
  if (n < 0) throw new Errno(koffi.errno(), syscall, detail);
  return n;
}

/** The errno of the last call. */
export const errno = (): number => koffi.errno();

/** The address of a buffer, for structures with pointers. The caller must keep the buffer alive during the call. */
export const addressOf = (buffer: Buffer): bigint => koffi.address(buffer);

const rawSyscall = declare('long syscall(long n, long a, long b, long c, long d, long e, long f)');

/** System call numbers. Those added since 2018 are the same on x86_64 and arm64. */
export const SYS = { pidfd_send_signal: 424, pidfd_open: 434, pidfd_getfd: 438, mount_setattr: 442 } as const;

/** syscall(2), for system calls that the C library does not wrap. */
export const syscall = (n: number, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0): number => rawSyscall(n, a, b, c, d, e, f);
