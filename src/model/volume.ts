/** A volume of the local driver. */
export interface Volume {
  name: string;
  driver: string;
  /** Wall-clock nanoseconds, decimal string. */
  created: string;
  mountpoint: string;
  labels: Record<string, string>;
  options: Record<string, string>;
  anonymous: boolean;
  /** Why its labels and options are lost: its row cannot be read. It can be listed and removed, not mounted. */
  damaged?: string;
}
