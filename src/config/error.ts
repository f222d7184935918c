/** The configuration is invalid; the message says what to change. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}
