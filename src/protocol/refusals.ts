/** Docker's texts for operations that a container's state does not allow (moby daemon/errors.go, pause.go). */

export const notRunning = (id: string): string => `container ${id} is not running`;

export const isRestarting = (id: string): string =>
  `Container ${id} is restarting, wait until the container is running`;

export const alreadyPaused = (id: string): string => `container ${id} is already paused`;

export const notPaused = (id: string): string => `Container ${id} is not paused`;

export const execWhilePaused = (id: string): string => `Container ${id} is paused, unpause the container before exec`;
