/** Execs. */
import type { ExecConfig } from '../../model/exec.ts';
import type { Handler } from '../call.ts';
import { execInspect } from '../wire/exec.ts';

export const execHandlers: Record<string, Handler> = {
  async ContainerExec(call) {
    const asked = await call.body<Partial<{ [K in keyof ExecConfig]: ExecConfig[K] | null }>>();
    const id = await call.engine.containers.createExec(call.param('id'), {
      AttachStdin: asked.AttachStdin ?? false,
      AttachStdout: asked.AttachStdout ?? false,
      AttachStderr: asked.AttachStderr ?? false,
      DetachKeys: asked.DetachKeys ?? '',
      Tty: asked.Tty ?? false,
      Env: asked.Env ?? [],
      Cmd: asked.Cmd ?? [],
      Privileged: asked.Privileged ?? false,
      User: asked.User ?? '',
      WorkingDir: asked.WorkingDir ?? '',
      ConsoleSize: (call.atLeast('1.42') && asked.ConsoleSize) || [0, 0],
    });
    call.json({ Id: id }, 201);
  },

  async ExecStart(call) {
    const asked = await call.body<{ Detach?: boolean; Tty?: boolean; ConsoleSize?: [number, number] | null }>();
    const { containers } = call.engine;
    const exec = await containers.inspectExec(call.param('id'));
    const framed = !asked.Tty;
    const options = {
      detach: asked.Detach ?? false,
      tty: asked.Tty ?? false,
      consoleSize: asked.ConsoleSize ?? ([0, 0] as [number, number]),
      framed,
    };
    if (options.detach) {
      await containers.startExec(exec.id, options);
      return void call.empty(200);
    }
    return call.handing(
      call.hijack({ framed, headers: true }),
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
