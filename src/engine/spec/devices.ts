/** The host's devices in a container, and the device numbers that its cgroup permits. */
import { lstatSync, readdirSync, realpathSync, statSync, type BigIntStats } from 'node:fs';
import { join } from 'node:path';
import { InvalidParameter, SystemFault } from '../../model/errors.ts';
import type { DeviceMapping, HostConfig } from '../../model/container-config.ts';
import type { OciDevice, OciDeviceRule } from './oci.ts';

const ALL_ACCESS = 'rwm';
const ANY = -1;

/** Docker's default rules: only null, zero, full, random, urandom, tty and console are allowed; fuse is denied. */
const DEFAULT_RULES: readonly OciDeviceRule[] = [
  { allow: false, access: ALL_ACCESS },
  ...[
    [1, 5],
    [1, 3],
    [1, 9],
    [1, 8],
    [5, 0],
    [5, 1],
  ].map(([major, minor]): OciDeviceRule => ({ allow: true, type: 'c', major, minor, access: ALL_ACCESS })),
  { allow: false, type: 'c', major: 10, minor: 229, access: ALL_ACCESS },
];

/** Directories of /dev that are private to each container, or to the host. */
const NOT_SHARED = new Set(['pts', 'shm', 'fd', 'mqueue', '.lxc', '.lxd-mounts', '.udev']);

type Request = Pick<HostConfig, 'Devices' | 'DeviceCgroupRules' | 'DeviceRequests' | 'Privileged'>;

export interface Devices {
  devices: OciDevice[];
  rules: OciDeviceRule[];
}

/** @throws InvalidParameter `invalid device cgroup rule format: 'x'`, `could not select device driver …` */
export function checkDevices(request: Request): void {
  for (const rule of request.DeviceCgroupRules ?? []) parseRule(rule);
  for (const { PathOnHost, CgroupPermissions: access } of request.Devices ?? []) {
    if (!PathOnHost) throw new InvalidParameter('invalid device mapping: PathOnHost must not be empty');
    if (access && !/^[rwm]{1,3}$/.test(access)) throw new InvalidParameter(`invalid device mode: ${access}`);
  }
  const [deviceRequest] = request.DeviceRequests ?? [];
  if (deviceRequest) {
    const capabilities = (deviceRequest.Capabilities ?? []).map((all) => `[${all.join(' ')}]`).join(' ');
    throw new InvalidParameter(
      `could not select device driver ${JSON.stringify(deviceRequest.Driver ?? '')} with capabilities: [${capabilities}]`,
    );
  }
}

/** @throws SystemFault `error gathering device information while adding custom device "/dev/x": …` */
export function containerDevices(request: Request): Devices {
  const mappings = request.Devices ?? [];
  if (request.Privileged) {
    const renamed = mappings.filter(
      (mapping) => mapping.PathInContainer && mapping.PathInContainer !== mapping.PathOnHost,
    );
    return {
      devices: [...devicesBelow('/dev'), ...renamed.flatMap(mappedDevices)],
      rules: [{ allow: true, access: ALL_ACCESS }],
    };
  }
  const mapped = mappings.map((mapping) => ({
    access: mapping.CgroupPermissions || ALL_ACCESS,
    devices: mappedDevices(mapping),
  }));
  return {
    devices: mapped.flatMap(({ devices }) => devices),
    rules: [
      ...DEFAULT_RULES,
      ...mapped.flatMap(({ access, devices }) =>
        devices.map(({ type, major, minor }): OciDeviceRule => ({ allow: true, type, major, minor, access })),
      ),
      ...(request.DeviceCgroupRules ?? []).map(parseRule),
    ],
  };
}

/** The numbers of a device node. @throws SystemFault `stat /dev/x: no such file or directory` */
export function deviceNumbers(path: string): { major: number; minor: number } {
  try {
    return split(statSync(path, { bigint: true }).rdev);
  } catch (error) {
    throw new SystemFault(`stat ${path}: ${reason(error)}`);
  }
}

function mappedDevices(mapping: DeviceMapping): OciDevice[] {
  const inside = mapping.PathInContainer || mapping.PathOnHost;
  const refused = (why: string): SystemFault =>
    new SystemFault(
      `error gathering device information while adding custom device ${JSON.stringify(mapping.PathOnHost)}: ${why}`,
    );
  let path: string;
  try {
    path = realpathSync(mapping.PathOnHost);
  } catch (error) {
    throw refused(reason(error));
  }
  const device = deviceAt(path);
  if (device) return [{ ...device, path: inside }];
  const found = statSync(path).isDirectory()
    ? devicesBelow(path).map((each) => ({ ...each, path: each.path.replace(path, inside) }))
    : [];
  if (found.length === 0) throw refused('not a device node');
  return found;
}

function devicesBelow(directory: string): OciDevice[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return NOT_SHARED.has(entry.name) ? [] : devicesBelow(path);
    // The runtime creates the container's own console.
    return entry.name === 'console' ? [] : (deviceAt(path) ?? []);
  });
}

function deviceAt(path: string): OciDevice | undefined {
  let stat: BigIntStats;
  try {
    stat = lstatSync(path, { bigint: true });
  } catch {
    return undefined;
  }
  if (!stat.isCharacterDevice() && !stat.isBlockDevice()) return undefined;
  return {
    path,
    type: stat.isCharacterDevice() ? 'c' : 'b',
    ...split(stat.rdev),
    fileMode: Number(stat.mode & 0o7777n),
    uid: Number(stat.uid),
    gid: Number(stat.gid),
  };
}

/** Decodes the C library's dev_t. makedev(3) */
const split = (device: bigint): { major: number; minor: number } => ({
  major: Number(((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n)),
  minor: Number((device & 0xffn) | ((device >> 12n) & 0xffffff00n)),
});

/** `c 1:3 rwm`, `b *:* r`, `a`. */
function parseRule(rule: string): OciDeviceRule {
  if (rule === 'a') return { allow: true, type: 'a', major: ANY, minor: ANY, access: ALL_ACCESS };
  const [, type, major, minor, access] = /^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$/.exec(rule) ?? [];
  if (type === undefined) throw new InvalidParameter(`invalid device cgroup rule format: '${rule}'`);
  if (type === 'a' && !(major === '*' && minor === '*' && access!.length === 3)) {
    throw new InvalidParameter(
      `although this cgroup rule is technically correct, because 'a' maps to 'a *:* rwm' regardless of what comes next, this format is partially ineffective: '${rule}'`,
    );
  }
  const number = (text: string, what: string, bits: number): number => {
    if (text === '*') return ANY;
    if (Number(text) >= 2 ** bits)
      throw new InvalidParameter(`invalid ${what} value in device cgroup rule format: '${rule}'`);
    return Number(text);
  };
  return {
    allow: true,
    type: type as 'a' | 'b' | 'c',
    major: number(major!, 'major', 12),
    minor: number(minor!, 'minor', 20),
    access: access!,
  };
}

const reason = (error: unknown): string =>
  (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'no such file or directory' : (error as Error).message;
