/** What /info and /version tell of this host, and counts. */
export class System {
  info(): Record<string, unknown> { throw new Error('unwritten'); }
  version(): Record<string, unknown> { throw new Error('unwritten'); }
}
