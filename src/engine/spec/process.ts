/** The OCI process objects of a container: its init process, and execs. */
import { InvalidParameter, SystemFault } from '../../model/errors.ts';
import { DEFAULT_PROFILE, ensureProfile, hostHasAppArmor, UNCONFINED } from './apparmor.ts';
import { capabilitiesFor, capabilitySet } from './capabilities.ts';
import { environment } from './env.ts';
import type { Host } from './host.ts';
import { INIT_PATH } from './mounts.ts';
import { hasOwnPids } from '../../model/namespace-mode.ts';
import type { OciProcess } from './oci.ts';
import { securityOptions } from './security-options.ts';
import type { SpecInput } from './spec-input.ts';
import { rlimits } from './ulimits.ts';
import { lookUpUser, UnknownUser, type User } from './user.ts';
import { lowestOomScore } from './validate.ts';

export interface ExecRequest {
  Cmd: string[];
  Env: string[];
  User: string;
  WorkingDir: string;
  Tty: boolean;
  Privileged: boolean;
}

/** `--init` has no effect in another PID namespace, where the container's first process is not PID 1. */
export const wantsInit = ({ container, config }: SpecInput): boolean =>
  (container.hostConfig.Init ?? config.init) && hasOwnPids(container.hostConfig.PidMode);

/** @throws SystemFault for an unknown user: dockerd answers 500 then, as the request itself is valid */
export function initProcess(input: SpecInput, host: Host): OciProcess {
  const { config, hostConfig, path, args } = input.container;
  const user = findUser(input, config.User, SystemFault);
  const [height, width] = hostConfig.ConsoleSize;
  return {
    ...common(input, host, user),
    terminal: config.Tty,
    ...(config.Tty && height > 0 && width > 0 ? { consoleSize: { height, width } } : {}),
    args: [...(wantsInit(input) ? [INIT_PATH, '--'] : []), path, ...args],
    env: environment(config, { tty: config.Tty, home: user.home, links: input.linkEnv }),
    cwd: config.WorkingDir || '/',
    capabilities: capabilitiesFor(user.uid, capabilitySet(hostConfig, host)),
    ...appArmor(input.container.appArmorProfile),
  };
}

/** @throws InvalidParameter for an unknown user */
export function processOfExec(input: SpecInput, request: ExecRequest, host: Host): OciProcess {
  const { config, hostConfig } = input.container;
  if (request.WorkingDir && !request.WorkingDir.startsWith('/'))
    throw new InvalidParameter(
      `the working directory '${request.WorkingDir}' is invalid, it needs to be an absolute path`,
    );
  const user = findUser(input, request.User || config.User, InvalidParameter);
  const { appArmorProfile } = input.container;
  return {
    ...common(input, host, user),
    terminal: request.Tty,
    args: request.Cmd,
    env: environment(config, { tty: request.Tty, home: user.home, links: input.linkEnv, extra: request.Env }),
    cwd: request.WorkingDir || config.WorkingDir || '/',
    capabilities: capabilitiesFor(
      user.uid,
      request.Privileged ? [...host.capabilities] : capabilitySet(hostConfig, host),
    ),
    ...appArmor(request.Privileged && appArmorProfile === DEFAULT_PROFILE ? UNCONFINED : appArmorProfile),
  };
}

function common(
  { container, config }: SpecInput,
  host: Host,
  { uid, gid, additionalGids }: User,
): Pick<OciProcess, 'user' | 'rlimits' | 'noNewPrivileges' | 'oomScoreAdj'> {
  const { hostConfig } = container;
  const limits = rlimits(hostConfig.Ulimits, config.defaultUlimits, host);
  return {
    user: { uid, gid, additionalGids },
    ...(limits.length ? { rlimits: limits } : {}),
    noNewPrivileges: securityOptions(hostConfig.SecurityOpt).noNewPrivileges ?? config.noNewPrivileges,
    // Always set, as the process would inherit the shim's. Lowering it needs CAP_SYS_RESOURCE (proc(5)).
    oomScoreAdj: Math.max(hostConfig.OomScoreAdj, lowestOomScore(host)),
  };
}

function appArmor(profile: string): Pick<OciProcess, 'apparmorProfile'> {
  if (profile === '' || !hostHasAppArmor()) return {};
  ensureProfile(profile);
  return { apparmorProfile: profile };
}

function findUser(
  { container, paths }: SpecInput,
  user: string,
  Fault: typeof SystemFault | typeof InvalidParameter,
): User {
  try {
    return lookUpUser(paths.rootfs(container.id), user, container.hostConfig.GroupAdd ?? []);
  } catch (error) {
    throw error instanceof UnknownUser ? new Fault(error.message) : error;
  }
}
