/** Something that happened, as `docker events` tells it. */
export type EventType = 'container' | 'image' | 'network' | 'volume' | 'daemon' | 'builder';

export interface NewEvent {
  type: EventType;
  /** `start`, `die`, `exec_create: sh -c ls`, `health_status: healthy` … */
  action: string;
  /** The actor's id (or name, for volumes). */
  actor: string;
  attributes: Record<string, string>;
  /** Wall ns of the happening, decimal string. */
  time: string;
  /** The journal record it came from, for exactly-once: container id and sequence number. */
  origin?: { container: string; seq: number };
}

export interface Event extends NewEvent {
  /** Order of recording: a live subscriber gets each row once, also one whose time lies in the past. */
  row: number;
}
