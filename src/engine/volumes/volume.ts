/** A volume as the engine knows it. */

export interface Volume {
  name: string;
  driver: string;
  /** Wall ns, decimal string. */
  created: string;
  mountpoint: string;
  labels: Record<string, string>;
  options: Record<string, string>;
  anonymous: boolean;
}
