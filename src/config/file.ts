/** daemon.json. */
import { Ajv } from 'ajv';
import { readFileSync } from 'node:fs';
import { ConfigError } from './error.ts';
import type { Raw } from './flags.ts';
import { kinds } from './kinds.ts';
import { options } from './options.ts';

/** @throws ConfigError for an unknown key, a value of the wrong type, or a missing file if `required` */
export function readConfigFile(path: string, { required }: { required: boolean }): Raw {
  let text: string;
  try {
    text = readFileSync(path, 'utf8')
      .replace(/^\uFEFF/, '')
      .trim();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' && !required) return {};
    throw unusable(path, code === 'ENOENT' ? `open ${path}: no such file or directory` : message);
  }
  if (text === '') return {};
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch (error) {
    throw unusable(path, (error as Error).message);
  }
  return validated(path, content);
}

export const unusable = (path: string, why: string): ConfigError =>
  new ConfigError(`unable to configure the daemon with file ${path}: ${why}`);

function validated(path: string, content: unknown): Raw {
  if (typeof content !== 'object' || content === null || Array.isArray(content))
    throw unusable(path, 'it must contain one JSON object');
  const known = options.filter((o) => !o.flagOnly);
  const keys = new Set(known.map((o) => o.key));
  const unknown = Object.keys(content).filter((key) => !keys.has(key));
  if (unknown.length > 0)
    throw unusable(path, `the following directives don't match any configuration option: ${unknown.join(', ')}`);
  const check = new Ajv({ allowUnionTypes: true }).compile({
    type: 'object',
    properties: Object.fromEntries(known.map((o) => [o.key, kinds[o.kind].schema])),
  });
  if (!check(content)) {
    const { instancePath, message, params } = check.errors![0]!;
    const extra = 'additionalProperty' in params ? ` (${params.additionalProperty})` : '';
    throw unusable(path, `${instancePath.slice(1).replaceAll('/', '.')} ${message}${extra}`);
  }
  return content as Raw;
}
