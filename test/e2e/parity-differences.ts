/** Where Holdfast answers a bad request otherwise than Debian's dockerd 20.10, and why. */
export interface Difference {
  status: number;
  message: string;
  reason: string;
}

export const differences: Record<string, Difference> = {};
