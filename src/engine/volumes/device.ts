/** Mounts what a volume's options name (a device, a directory, a network share, a tmpfs) on its data directory. */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { getSystemErrorMap } from 'node:util';
import { Errno } from '../../sys/libc.ts';
import { mount, MS } from '../../sys/mount.ts';
import { SystemFault } from '../../model/errors.ts';

/** The options of fstab(5) that are flags of mount(2); all others are passed to the file system. */
const FLAGS: Readonly<Record<string, { set?: number; clear?: number }>> = {
  defaults: {},
  ro: { set: MS.RDONLY },
  rw: { clear: MS.RDONLY },
  nosuid: { set: MS.NOSUID },
  suid: { clear: MS.NOSUID },
  nodev: { set: MS.NODEV },
  dev: { clear: MS.NODEV },
  noexec: { set: MS.NOEXEC },
  exec: { clear: MS.NOEXEC },
  sync: { set: MS.SYNCHRONOUS },
  async: { clear: MS.SYNCHRONOUS },
  dirsync: { set: MS.DIRSYNC },
  noatime: { set: MS.NOATIME },
  atime: { clear: MS.NOATIME },
  nodiratime: { set: MS.NODIRATIME },
  diratime: { clear: MS.NODIRATIME },
  relatime: { set: MS.RELATIME },
  norelatime: { clear: MS.RELATIME },
  strictatime: { set: MS.STRICTATIME },
  nostrictatime: { clear: MS.STRICTATIME },
  bind: { set: MS.BIND },
  rbind: { set: MS.BIND | MS.REC },
  remount: { set: MS.REMOUNT },
  private: { set: MS.PRIVATE },
  rprivate: { set: MS.PRIVATE | MS.REC },
  shared: { set: MS.SHARED },
  rshared: { set: MS.SHARED | MS.REC },
  slave: { set: MS.SLAVE },
  rslave: { set: MS.SLAVE | MS.REC },
  unbindable: { set: MS.UNBINDABLE },
  runbindable: { set: MS.UNBINDABLE | MS.REC },
};
const PROPAGATION = MS.PRIVATE | MS.SHARED | MS.SLAVE | MS.UNBINDABLE;
/** Flags that mount(2) ignores when it creates a bind mount; they need a remount. */
const BIND_REMOUNT_FLAGS =
  MS.RDONLY | MS.NOSUID | MS.NODEV | MS.NOEXEC | MS.NOATIME | MS.NODIRATIME | MS.RELATIME | MS.STRICTATIME;
/** File systems whose kernel driver takes the server's address only, no host name. */
const BY_ADDRESS = /^(nfs|cifs)/;
const SECRET = /^(password|pass)=.*/;

export interface DeviceOptions {
  type: string;
  device: string;
  /** As in fstab(5). */
  o: string;
}

/** @throws SystemFault with Docker's text, without passwords */
export async function mountDevice({ type, device, o }: DeviceOptions, target: string): Promise<void> {
  const failure = (reason: string): SystemFault =>
    new SystemFault(`error while mounting volume '${target}': ${reason}`);
  const { flags, data } = parseOptions(BY_ADDRESS.test(type) ? await withAddress(o, failure) : o);
  try {
    mount(device, target, type, flags & ~PROPAGATION, data);
    if (flags & PROPAGATION) mount('none', target, null, flags & (PROPAGATION | MS.REC));
    if (flags & MS.BIND && flags & BIND_REMOUNT_FLAGS)
      mount('none', target, null, MS.REMOUNT | MS.BIND | (flags & BIND_REMOUNT_FLAGS));
  } catch (error) {
    const shownData = data
      .split(',')
      .map((option) => option.replace(SECRET, '$1=********'))
      .join(',');
    const call = [
      `mount ${device}:${target}`,
      ...(flags ? [`flags: 0x${flags.toString(16)}`] : []),
      ...(shownData ? [`data: ${shownData}`] : []),
    ].join(', ');
    throw failure(`failed to mount local volume: ${call}: ${errorText(error)}`);
  }
}

/** Splits options into the flags and the data of mount(2). */
export function parseOptions(options: string): { flags: number; data: string } {
  let flags = 0;
  const data: string[] = [];
  for (const option of options.split(',').filter((each) => each !== '')) {
    const flag = Object.hasOwn(FLAGS, option) ? FLAGS[option] : undefined;
    if (flag) flags = (flags | (flag.set ?? 0)) & ~(flag.clear ?? 0);
    else data.push(option);
  }
  return { flags, data: data.join(',') };
}

/** Replaces the host name in `addr=` by its address. */
async function withAddress(options: string, failure: (reason: string) => SystemFault): Promise<string> {
  const [, name] = /(?:^|,)addr=([^,]+)/.exec(options) ?? [];
  if (name === undefined || isIP(name) !== 0) return options;
  try {
    return options.replace(`addr=${name}`, `addr=${(await lookup(name)).address}`);
  } catch {
    throw failure(`error resolving passed in network volume address: lookup ${name}: no such host`);
  }
}

/** As strerror(3). */
const errorText = (error: unknown): string =>
  (error instanceof Errno ? getSystemErrorMap().get(-error.errno)?.[1] : undefined) ?? (error as Error).message;
