/** The kernel's network settings, by their path below /proc/sys/net. Settings that this kernel lacks are skipped. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';

const file = (path: string): string => `/proc/sys/net/${path}`;

export function writeSysctl(path: string, value: string): void {
  if (existsSync(file(path)) && !isSetTo(path, value)) writeFileSync(file(path), value);
}

/** Whether the switch exists and is not on. */
export const isOff = (path: string): boolean => existsSync(file(path)) && !isSetTo(path, '1');

/** Whether the setting exists and has this value. */
export const isSetTo = (path: string, value: string): boolean =>
  existsSync(file(path)) && readFileSync(file(path), 'latin1').trim() === value;
