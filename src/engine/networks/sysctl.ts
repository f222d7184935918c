/** The kernel's network settings, by their path below /proc/sys/net. Settings that this kernel lacks are skipped. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';

const file = (path: string): string => `/proc/sys/net/${path}`;

export function writeSysctl(path: string, value: string): void {
  if (existsSync(file(path))) writeFileSync(file(path), value);
}

/** Whether the switch exists and is not on. */
export const isOff = (path: string): boolean =>
  existsSync(file(path)) && readFileSync(file(path), 'latin1').trim() !== '1';
