/** The processes that run in a container: its first one, and execs. */
import { InvalidParameter, SystemFault } from '../../model/errors.ts';
import { DEFAULT_PROFILE, ensureProfile, hostHasAppArmor, UNCONFINED } from './apparmor.ts';
import { capabilitiesFor, capabilitySet } from './capabilities.ts';
import { environment } from './env.ts';
import type { Host } from './host.ts';
import { INIT_PATH } from './mounts.ts';
import { hasOwnPids } from './namespaces.ts';
import type { OciProcess } from './oci.ts';
import { securityOptions } from './security-options.ts';
import type { ExecRequest, SpecInput } from './spec.ts';
import { rlimits } from './ulimits.ts';
import { lookUpUser, UnknownUser, type User } from './user.ts';
import { lowestOomScore } from './validate.ts';

/** An init of ours makes sense only where process 1 is the container's own. */
export const wantsInit = ({ container }: SpecInput): boolean =>
  container.hostConfig.Init === true && hasOwnPids(container.hostConfig.PidMode);

/** @throws SystemFault for an unknown user: the request to start was right, the container is not */
export function initProcess(input: SpecInput, host: Host): OciProcess {
  const { config, hostConfig, path, args } = input.container;
  const user = find(input, config.User, SystemFault);
  const [height, width] = hostConfig.ConsoleSize;
  return {
    ...common(input, host, user),
    terminal: config.Tty,
    ...(config.Tty && height > 0 && width > 0 ? { consoleSize: { height, width } } : {}),
    args: [...(wantsInit(input) ? [INIT_PATH, '--'] : []), path, ...args],
    env: environment(config, { tty: config.Tty, home: user.home, links: input.linkEnv }),
    cwd: config.WorkingDir || '/',
    capabilities: capabilitiesFor(user.uid, capabilitySet(hostConfig, host)),
    ...profile(input.container.appArmorProfile),
  };
}

/** @throws InvalidParameter for an unknown user */
export function processOfExec(input: SpecInput, request: ExecRequest, host: Host): OciProcess {
  const { config, hostConfig } = input.container;
  if (request.WorkingDir && !request.WorkingDir.startsWith('/'))
    throw new InvalidParameter(
      `the working directory '${request.WorkingDir}' is invalid, it needs to be an absolute path`,
    );
  const user = find(input, request.User || config.User, InvalidParameter);
  const confined = input.container.appArmorProfile;
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
    ...profile(request.Privileged && confined === DEFAULT_PROFILE ? UNCONFINED : confined),
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
    // Always said: else the shim's own would be inherited. Below that nobody gets without CAP_SYS_RESOURCE.
    oomScoreAdj: Math.max(hostConfig.OomScoreAdj, lowestOomScore(host)),
  };
}

function profile(name: string): Pick<OciProcess, 'apparmorProfile'> {
  if (name === '' || !hostHasAppArmor()) return {};
  ensureProfile(name);
  return { apparmorProfile: name };
}

function find({ container, paths }: SpecInput, who: string, Fault: typeof SystemFault | typeof InvalidParameter): User {
  try {
    return lookUpUser(paths.rootfs(container.id), who, container.hostConfig.GroupAdd ?? []);
  } catch (error) {
    throw error instanceof UnknownUser ? new Fault(error.message) : error;
  }
}
