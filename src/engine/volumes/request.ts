/** Validates the request to create a volume. */
import { InvalidParameter, NotFound } from '../../model/errors.ts';

export interface VolumeRequest {
  /** '' = anonymous: a name of 64 hex digits. */
  name: string;
  /** '' = local. */
  driver: string;
  labels: Record<string, string>;
  options: Record<string, string>;
}

/** The only supported driver. */
export const DRIVER = 'local';
const NAME_CHARACTERS = '[a-zA-Z0-9][a-zA-Z0-9_.-]';
const NAME = new RegExp(`^${NAME_CHARACTERS}+$`);
const LONGEST_NAME = 255;

/** The options of the local driver, each with the options it requires. */
const OPTIONS: Record<string, string[]> = { type: ['device'], device: ['type'], o: ['device', 'type'] };

/** @throws InvalidParameter, NotFound for an unknown driver */
export function checkName(name: string, driver: string): void {
  if (driver !== '' && driver !== DRIVER)
    throw new NotFound(`error looking up volume plugin ${driver}: plugin "${driver}" not found`);
  if (name.length === 1)
    throw new InvalidParameter('volume name is too short, names should be at least two alphanumeric characters');
  if (!NAME.test(name)) {
    throw new InvalidParameter(
      `"${name}" includes invalid characters for a local volume name, only "${NAME_CHARACTERS}" are allowed. If you intended to pass a host directory, use absolute path`,
    );
  }
  if (name.length > LONGEST_NAME)
    throw new InvalidParameter(`volume name is too long, names should be at most ${LONGEST_NAME} characters`);
}

/** @throws InvalidParameter */
export function checkOptions(options: Record<string, string>): void {
  for (const key of Object.keys(options)) {
    if (key === 'size') throw new InvalidParameter('quota size requested but no quota support');
    const needed = OPTIONS[key];
    if (!needed) throw new InvalidParameter(`invalid option: "${key}"`);
    for (const other of needed) if (!options[other]) throw new InvalidParameter(`missing required option: "${other}"`);
  }
}
