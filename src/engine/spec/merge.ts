/** Merges a container's configuration with its image's (moby daemon/commit.go, merge). */
import { InvalidParameter } from '../../model/errors.ts';
import type { ContainerConfig } from '../../model/container-config.ts';
import type { ImageConfig } from '../images/image.ts';
import { nameOf } from './env.ts';
import { mergedHealthcheck } from './health.ts';
import { exposedPorts } from './port-spec.ts';

/** Takes from the image what the request does not set. @throws InvalidParameter `no command specified` */
export function mergeWithImage(own: ContainerConfig, imageConfig: Pick<ImageConfig, 'config'>): ContainerConfig {
  const image = imageConfig.config ?? {};
  const command = commandOf(own, image);
  if (!command.Entrypoint?.length && !command.Cmd?.length) throw new InvalidParameter('no command specified');
  const names = new Set(own.Env.map(nameOf));
  const ports = exposedPorts({ ...image.ExposedPorts, ...own.ExposedPorts });
  const volumes = { ...own.Volumes, ...image.Volumes };
  const healthcheck = mergedHealthcheck(own.Healthcheck, image.Healthcheck);
  const merged: ContainerConfig = {
    ...own,
    ...command,
    User: own.User || image.User || '',
    Env: [...own.Env, ...(image.Env ?? []).filter((entry) => !names.has(nameOf(entry)))],
    Labels: { ...image.Labels, ...own.Labels },
    WorkingDir: own.WorkingDir || image.WorkingDir || '',
    Volumes: Object.keys(volumes).length ? volumes : null,
  };
  // Unset fields must be missing: inspect would show them otherwise.
  if (ports) merged.ExposedPorts = ports;
  else delete merged.ExposedPorts;
  if (healthcheck) merged.Healthcheck = healthcheck;
  else delete merged.Healthcheck;
  const stopSignal = own.StopSignal || image.StopSignal;
  if (stopSignal) merged.StopSignal = stopSignal;
  else delete merged.StopSignal;
  return merged;
}

/** `Entrypoint: null` keeps the image's, `[]` and `[""]` clear it; any other one drops the image's command. */
function commandOf(own: ContainerConfig, image: Partial<ContainerConfig>): Pick<ContainerConfig, 'Entrypoint' | 'Cmd'> {
  if (own.Entrypoint?.length)
    return {
      Entrypoint: own.Entrypoint.length === 1 && own.Entrypoint[0] === '' ? null : own.Entrypoint,
      Cmd: own.Cmd,
    };
  const Entrypoint = own.Entrypoint === null ? (image.Entrypoint ?? null) : null;
  return { Entrypoint: Entrypoint?.length ? Entrypoint : null, Cmd: own.Cmd?.length ? own.Cmd : (image.Cmd ?? null) };
}
