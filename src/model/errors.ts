/** The engine's errors, by kind. api/errors.ts maps each kind to an HTTP status. */

export class EngineError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The named object does not exist. */
export class NotFound extends EngineError {}
/** The request itself is wrong, whatever the state. */
export class InvalidParameter extends EngineError {}
/** The request does not fit the present state. */
export class Conflict extends EngineError {}
/** Never allowed. */
export class Forbidden extends EngineError {}
export class Unauthorized extends EngineError {}
/** The object is in the requested state already; nothing changed. */
export class NotModified extends EngineError {}
export class NotImplemented extends EngineError {}
/** Not possible now; a later attempt may succeed. */
export class Unavailable extends EngineError {}
/** A failure of the host or of the engine itself. */
export class SystemFault extends EngineError {}
