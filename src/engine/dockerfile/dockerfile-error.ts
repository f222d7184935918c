import { InvalidParameter } from '../../model/errors.ts';

/** Lines of a Dockerfile, from 1, both included. */
export interface LineRange {
  first: number;
  last: number;
}

/** A Dockerfile is wrong. Fronts show its lines beside the message. */
export class DockerfileError extends InvalidParameter {
  constructor(
    message: string,
    readonly lines: LineRange | undefined,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Runs `read` and adds these lines to its errors, unless they have lines. @throws DockerfileError */
export function atLines<T>(lines: LineRange, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof InvalidParameter && !(error instanceof DockerfileError))
      throw new DockerfileError(error.message, lines, { cause: error });
    throw error;
  }
}
