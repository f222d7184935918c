/** The one reader of Docker's namespace modes: NetworkMode, PidMode, IpcMode and the like. */

const CONTAINER = 'container:';

/** Whether a mode joins another container's namespace: `container:<reference>`. */
export const joinsContainer = (mode: string): boolean => mode.startsWith(CONTAINER);

/** The reference in `container:<reference>`; '' for every other mode. */
export const joinedContainer = (mode: string): string => (joinsContainer(mode) ? mode.slice(CONTAINER.length) : '');

/** The mode that joins the container `id`. */
export const modeJoining = (id: string): string => `${CONTAINER}${id}`;

/** The network that a NetworkMode names, `bridge` where it names none; undefined where it joins a container. */
export function networkOfMode(mode: string): string | undefined {
  if (joinsContainer(mode)) return undefined;
  return mode === '' || mode === 'default' ? 'bridge' : mode;
}

/** A network namespace of its own: neither the host's nor another container's. */
export const hasOwnNetwork = (networkMode: string): boolean => networkMode !== 'host' && !joinsContainer(networkMode);

/** A pid namespace of its own: its first process is pid 1. */
export const hasOwnPids = (pidMode: string): boolean => pidMode !== 'host' && !joinsContainer(pidMode);
