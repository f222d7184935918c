/** Parses `--security-opt`. */
import { InvalidParameter } from '../../model/errors.ts';

export interface SecurityOptions {
  /** undefined = the daemon's default. */
  noNewPrivileges?: boolean;
  /** '' = the default profile; `unconfined`, `builtin` or the profile's JSON. */
  seccomp: string;
  /** '' = the default profile. */
  apparmor: string;
  /** SELinux labels, not interpreted. */
  labels: string[];
  /** No masked and no read-only paths. */
  systemPathsUnconfined: boolean;
  writableCgroups: boolean;
}

/** @throws InvalidParameter `invalid --security-opt 1: "x"` (no separator), `… 2: "x=y"` (unknown key or value) */
export function securityOptions(options: readonly string[] | null): SecurityOptions {
  const result: SecurityOptions = {
    seccomp: '',
    apparmor: '',
    labels: [],
    systemPathsUnconfined: false,
    writableCgroups: false,
  };
  for (const option of options ?? []) {
    if (option === 'no-new-privileges') result.noNewPrivileges = true;
    else if (option === 'disable') result.labels.push('disable');
    else applyOption(result, option);
  }
  return result;
}

function applyOption(result: SecurityOptions, option: string): void {
  // `:` is the legacy separator. The JSON of a seccomp profile contains colons too, after the `=`.
  const at = option.includes('=') ? option.indexOf('=') : option.indexOf(':');
  if (at < 0) throw new InvalidParameter(`invalid --security-opt 1: ${JSON.stringify(option)}`);
  const value = option.slice(at + 1);
  const unknown = new InvalidParameter(`invalid --security-opt 2: ${JSON.stringify(option)}`);
  const boolean = (): boolean => {
    if (!TRUE.has(value) && !FALSE.has(value)) throw unknown;
    return TRUE.has(value);
  };
  switch (option.slice(0, at)) {
    case 'label':
      result.labels.push(value);
      break;
    case 'apparmor':
      result.apparmor = value;
      break;
    case 'seccomp':
      result.seccomp = value;
      break;
    case 'no-new-privileges':
      result.noNewPrivileges = boolean();
      break;
    case 'writable-cgroups':
      result.writableCgroups = boolean();
      break;
    case 'systempaths':
      if (value !== 'unconfined') throw unknown;
      result.systemPathsUnconfined = true;
      break;
    default:
      throw unknown;
  }
}

/** The values that Go's strconv.ParseBool accepts. */
const TRUE = new Set(['1', 't', 'T', 'true', 'TRUE', 'True']);
const FALSE = new Set(['0', 'f', 'F', 'false', 'FALSE', 'False']);
