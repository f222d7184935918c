/** What can go wrong in the engine, by kind. The API maps each to a status in one place (api/errors.ts). */

export class EngineError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The thing named does not exist. */
export class NotFound extends EngineError {}
/** The request itself is wrong, whatever the state. */
export class InvalidParameter extends EngineError {}
/** The request does not fit the present state. */
export class Conflict extends EngineError {}
/** Never allowed. */
export class Forbidden extends EngineError {}
export class Unauthorized extends EngineError {}
/** Already so: nothing was changed. */
export class NotModified extends EngineError {}
export class NotImplemented extends EngineError {}
/** Not now; later perhaps. */
export class Unavailable extends EngineError {}
/** The host or a part of it failed. */
export class SystemFault extends EngineError {}
