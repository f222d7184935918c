/** An object of a request as clients send it: unlike in the completed form, any field may be missing or null. */
export const asSent = <T extends object>(value: T): { [K in keyof T]?: T[K] | null } => value;
