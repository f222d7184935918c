/** Legacy `--link`. */
import { InvalidParameter } from '../../model/errors.ts';

export interface Link {
  name: string;
  alias: string;
}

/** Parses `name`, `name:alias`, or `/name:/parent/alias` (the form in inspect). @throws InvalidParameter */
export function parseLink(text: string): Link {
  if (text === '') throw new InvalidParameter('empty string specified for links');
  const [name = '', alias, ...rest] = text.split(':');
  if (rest.length > 0) throw new InvalidParameter(`bad format for links: ${text}`);
  if (alias === undefined) return { name, alias: name };
  return name.startsWith('/')
    ? { name: name.slice(1), alias: alias.slice(alias.lastIndexOf('/') + 1) }
    : { name, alias };
}
