/** The log driver of a container and its options. */
import type { Config } from '../../config/config.ts';
import type { LogSpec } from '../../protocol/spec.ts';
import { InvalidParameter } from '../../model/errors.ts';
import type { Container } from '../../model/container.ts';
import type { HostConfig } from '../../model/container-config.ts';
import { shortId } from '../../model/short-id.ts';
import { Pattern } from '../pattern.ts';
import { nameOf } from './env.ts';
import { parseSize } from './sizes.ts';

type LogConfig = HostConfig['LogConfig'];

const DRIVERS = new Set(['json-file', 'none']);
/** Options of json-file. */
const OPTIONS = new Set(['max-file', 'max-size', 'compress', 'labels', 'labels-regex', 'env', 'env-regex', 'tag']);
/** Options of every driver. */
const COMMON_OPTIONS = new Set(['mode', 'max-buffer-size']);

/** Fills in the daemon's default driver, and its default options if the driver is the same. */
export function withDefaultLog(asked: LogConfig, config: Pick<Config, 'logDriver' | 'logOpts'>): LogConfig {
  const Type = asked.Type || config.logDriver;
  return { Type, Config: { ...(Type === config.logDriver ? config.logOpts : {}), ...asked.Config } };
}

/** @returns warnings. @throws InvalidParameter `unknown log opt 'x' for json-file log driver` */
export function checkLogOptions({ Type, Config: options }: LogConfig): string[] {
  if (Type === 'none') return [];
  const { mode, 'max-buffer-size': buffer } = options;
  if (mode && mode !== 'blocking' && mode !== 'non-blocking')
    throw new InvalidParameter(`logger: logging mode not supported: ${mode}`);
  if (buffer !== undefined) {
    if (mode !== 'non-blocking')
      throw new InvalidParameter("logger: max-buffer-size option is only supported with 'mode=non-blocking'");
    if (parseSize(buffer, 1024) === undefined)
      throw new InvalidParameter(`error parsing option max-buffer-size: invalid size: '${buffer}'`);
  }
  if (!DRIVERS.has(Type))
    throw new InvalidParameter(`error looking up logging plugin ${Type}: plugin ${JSON.stringify(Type)} not found`);
  for (const key of Object.keys(options)) {
    if (!OPTIONS.has(key) && !COMMON_OPTIONS.has(key))
      throw new InvalidParameter(`unknown log opt '${key}' for json-file log driver`);
  }
  maxSize(options);
  maxFile(options);
  checkCompress(options);
  parsePattern(options['labels-regex']);
  parsePattern(options['env-regex']);
  checkTag(options.tag ?? '');
  return optionWarnings(options);
}

function optionWarnings({ mode, compress = '' }: Options): string[] {
  const warnings: string[] = [];
  if (mode === 'non-blocking')
    warnings.push(
      "LogConfig: option 'mode=non-blocking' has no effect: log files are written without waiting for readers.",
    );
  if (/^[1tT]/.test(compress))
    warnings.push("LogConfig: option 'compress' is not supported: rotated log files stay uncompressed.");
  return warnings;
}

/** The log settings for the shim; `path` is that of a json-file log. */
export function logSpec(container: Container, path: string): LogSpec {
  const { Type, Config: options } = container.hostConfig.LogConfig;
  if (Type === 'none') return { driver: 'none' };
  return {
    driver: 'json-file',
    path,
    maxSize: maxSize(options),
    maxFile: maxFile(options),
    attrs: attributes(options, container),
  };
}

type Options = LogConfig['Config'];

/** Bytes; 0 = unlimited. */
function maxSize(options: Options): number {
  const text = options['max-size'];
  if (text === undefined || text === '' || text === '-1') return 0;
  const size = parseSize(text, 1000);
  if (size === undefined) throw new InvalidParameter(`invalid size: '${text}'`);
  if (size <= 0) throw new InvalidParameter('max-size must be a positive number');
  return size;
}

function maxFile(options: Options): number {
  const text = options['max-file'];
  if (text === undefined || text === '') return 1;
  if (!/^[+-]?\d+$/.test(text))
    throw new InvalidParameter(`strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`);
  if (Number(text) < 1) throw new InvalidParameter('max-file cannot be less than 1');
  return Number(text);
}

/** Go's strconv.ParseBool, and moby daemon/logger/jsonfilelog. */
function checkCompress(options: Options): void {
  const text = options.compress;
  if (text === undefined || text === '') return;
  if (!/^(1|t|T|true|TRUE|True|0|f|F|false|FALSE|False)$/.test(text))
    throw new InvalidParameter(`strconv.ParseBool: parsing ${JSON.stringify(text)}: invalid syntax`);
  if (/^[1tT]/.test(text) && (maxFile(options) === 1 || maxSize(options) === 0))
    throw new InvalidParameter('compress cannot be true when max-file is less than 2 or max-size is not set');
}

/** What json-file stores as `attrs` in each line, sorted by name. */
function attributes(options: Options, container: Container): Record<string, string> {
  const { config } = container;
  const assignments = config.Env.filter((entry) => entry.includes('='));
  const variables = Object.fromEntries(
    assignments.map((entry) => [nameOf(entry), entry.slice(nameOf(entry).length + 1)]),
  );
  const found: Record<string, string> = {
    ...selected(config.Labels, options.labels, options['labels-regex']),
    ...selected(variables, options.env, options['env-regex']),
    ...(options.tag ? { tag: expandTag(options.tag, container) } : {}),
  };
  return Object.fromEntries(Object.entries(found).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The entries whose name is in the comma-separated list `names` or matches `pattern`. */
function selected(
  from: Readonly<Record<string, string>>,
  names: string | undefined,
  pattern: string | undefined,
): Record<string, string> {
  const listed = new Set(names?.split(',') ?? []);
  const regex = parsePattern(pattern);
  return Object.fromEntries(Object.entries(from).filter(([name]) => listed.has(name) || regex?.test(name)));
}

function parsePattern(pattern: string | undefined): Pattern | undefined {
  if (!pattern) return undefined;
  try {
    return new Pattern(pattern);
  } catch (error) {
    throw new InvalidParameter(`error parsing regexp: ${(error as Error).message}`);
  }
}

/** The fields that Docker's tag template may refer to. */
const TAG_FIELDS: Readonly<Record<string, (container: Container) => string>> = {
  ID: (container) => shortId(container.id),
  FullID: (container) => container.id,
  Name: (container) => container.name,
  ImageID: (container) => shortId(container.imageId),
  ImageFullID: (container) => container.imageId,
  ImageName: (container) => container.config.Image,
  DaemonName: () => 'docker',
};

const TAG_FIELD = /\{\{\s*\.(\w+)\s*\}\}/g;

function checkTag(tag: string): void {
  const unknown = [...tag.matchAll(TAG_FIELD)].find(([, field]) => !Object.hasOwn(TAG_FIELDS, field!));
  if (unknown) throw new InvalidParameter(`template: log-tag: can't evaluate field ${unknown[1]} in type logger.Info`);
  if (tag.replaceAll(TAG_FIELD, '').includes('{{'))
    throw new InvalidParameter(`template: log-tag: only fields are supported in a tag: ${JSON.stringify(tag)}`);
}

const expandTag = (tag: string, container: Container): string =>
  tag.replaceAll(TAG_FIELD, (_, field: string) => TAG_FIELDS[field]!(container));
