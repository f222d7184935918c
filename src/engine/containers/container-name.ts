/** Docker's rule for container names (moby daemon/names). */
import { InvalidParameter } from '../../model/errors.ts';

const NAME = /^\/?[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

/** Returns the name without a leading slash. @throws InvalidParameter for a name that Docker refuses */
export function checkName(name: string): string {
  if (!NAME.test(name))
    throw new InvalidParameter(`Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`);
  return name.replace(/^\//, '');
}
