/** JSON of execs. The mixed case of the keys is Docker's. */
import type { Exec } from '../../model/exec.ts';
import type { Schemas } from './schemas.ts';

export function execInspect({ id, containerId, config, running, exitCode, pid }: Exec): Schemas['ExecInspect'] {
  const [entrypoint = '', ...rest] = config.Cmd;
  return {
    ID: id,
    Running: running,
    ExitCode: exitCode,
    ProcessConfig: {
      tty: config.Tty,
      entrypoint,
      arguments: rest,
      privileged: config.Privileged,
      user: config.User || undefined,
    },
    OpenStdin: config.AttachStdin,
    OpenStderr: config.AttachStderr,
    OpenStdout: config.AttachStdout,
    CanRemove: exitCode !== null,
    ContainerID: containerId,
    DetachKeys: '',
    Pid: pid,
  };
}
