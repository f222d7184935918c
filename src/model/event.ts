/** Events, as `docker events` shows them. */
export type EventType = 'container' | 'image' | 'network' | 'volume' | 'daemon' | 'builder';

export interface NewEvent {
  type: EventType;
  /** `start`, `die`, `exec_create: sh -c ls`, `health_status: healthy` … */
  action: string;
  /** The actor's id (or name, for volumes). */
  actor: string;
  attributes: Record<string, string>;
  /** When it happened: wall clock ns, decimal string. */
  time: string;
  /** The journal record that it was derived from; makes each event unique. */
  origin?: { container: string; seq: number };
}

export interface Event extends NewEvent {
  /** Order of recording: a live subscriber gets each row once, even if its time lies in the past. */
  row: number;
}
