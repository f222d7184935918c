/** /containers/{id}/exec and /exec */
import type { ExecConfig } from '../../model/exec.ts';
import type { Handler } from '../call.ts';
import { execInspect } from '../wire/exec.ts';

type ExecRequest = { [K in keyof ExecConfig]?: ExecConfig[K] | null };

interface ExecStartRequest {
  Detach?: boolean;
  Tty?: boolean;
  ConsoleSize?: [number, number] | null;
}

export const execHandlers: Record<string, Handler> = {
  async ContainerExec(call) {
    const body = await call.body<ExecRequest>();
    const id = await call.engine.containers.createExec(call.param('id'), {
      AttachStdin: body.AttachStdin ?? false,
      AttachStdout: body.AttachStdout ?? false,
      AttachStderr: body.AttachStderr ?? false,
      DetachKeys: body.DetachKeys ?? '',
      Tty: body.Tty ?? false,
      Env: body.Env ?? [],
      Cmd: body.Cmd ?? [],
      Privileged: body.Privileged ?? false,
      User: body.User ?? '',
      WorkingDir: body.WorkingDir ?? '',
      ConsoleSize: (call.atLeast('1.42') && body.ConsoleSize) || [0, 0],
    });
    call.json({ Id: id }, 201);
  },

  async ExecStart(call) {
    const body = await call.body<ExecStartRequest>();
    const { containers } = call.engine;
    const exec = await containers.inspectExec(call.param('id'));
    const tty = body.Tty ?? false;
    const options = {
      detach: body.Detach ?? false,
      tty,
      consoleSize: body.ConsoleSize ?? ([0, 0] as [number, number]),
      framed: !tty,
    };
    if (options.detach) {
      await containers.startExec(exec.id, options);
      call.empty(200);
      return;
    }
    await call.handOver(
      call.hijack({ framed: options.framed, headers: true }),
      (client) => containers.startExec(exec.id, options, client),
      { plain: false },
    );
  },

  async ExecResize(call) {
    await call.engine.containers.resizeExec(call.param('id'), call.number('h')!, call.number('w')!);
    call.empty(200);
  },

  async ExecInspect(call) {
    call.json(execInspect(await call.engine.containers.inspectExec(call.param('id'))));
  },
};
