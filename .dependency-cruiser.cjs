/**
 * Who may import whom, type imports included (docs/architecture.md): dependencies only point down, and each kind of
 * knowledge has one home.
 */
const forbid = (name, from, to, comment) => ({
  name,
  severity: 'error',
  comment,
  from: { path: from },
  to: { path: to },
});

module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    forbid('async-imports-nothing', '^src/async', '^src/(?!async)', 'queues and limits know nothing of what they run'),
    forbid(
      'protocol-imports-nothing',
      '^src/protocol',
      '^src/(?!protocol)',
      'what daemon and shim share depends on neither',
    ),
    forbid('sys-knows-no-containers', '^src/sys', '^src/(?!sys)', 'system calls know nothing of containers'),
    forbid('model-knows-protocol', '^src/model', '^src/(?!model|protocol)', 'records and rules do nothing'),
    forbid(
      'shim-alone',
      '^src/shim',
      '^src/(?!shim|protocol|sys|async|version)',
      'the shim knows nothing of the daemon',
    ),
    forbid('store-knows-model', '^src/store', '^src/(?!store|model|protocol|sys)', 'the store knows records only'),
    forbid(
      'config-knows-model',
      '^src/config',
      '^src/(?!config|model|sys|version)',
      'the configuration knows records only',
    ),
    forbid(
      'engine-knows-no-http',
      '^src/engine',
      '^src/(api|check)|^(fastify|node:http|http)$',
      'the domain knows no HTTP',
    ),
    forbid('api-through-engine', '^src/api', '^src/(store|shim|sys|check)', 'the API goes through the engine'),
    {
      name: 'sql-only-in-store',
      severity: 'error',
      from: { pathNot: '^src/store' },
      to: { path: 'better-sqlite3|\\.sql$' },
    },
    { name: 'ffi-only-in-sys', severity: 'error', from: { pathNot: '^src/sys' }, to: { path: 'koffi' } },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
  },
};
