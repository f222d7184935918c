/** `holdfastd check`, a separate program: it must run even where the daemon's native modules do not load. */
import { ConfigError } from '../config/error.ts';
import { loadConfig } from '../config/load.ts';
import { check } from './check.ts';

try {
  const invocation = loadConfig(process.argv.slice(2), process.env);
  if ('text' in invocation) console.log(invocation.text);
  else process.exitCode = await check(invocation.config, (text) => process.stdout.write(text));
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  console.error(`holdfastd: ${error.message}`);
  process.exitCode = 1;
}
