/** The borders of DESIGN: dependencies only point down, and each kind of knowledge has one home. */
const forbid = (name, from, to, comment) => ({
  name,
  severity: 'error',
  comment,
  from: { path: from },
  to: { path: to },
});

module.exports = {
  forbidden: [
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    forbid('shim-alone', '^src/shim', '^src/(api|engine|store|config)', 'the shim knows nothing of the daemon'),
    forbid('protocol-imports-nothing', '^src/protocol', '^src/(?!protocol)', 'what both share depends on neither'),
    forbid('model-is-plain', '^src/model', '^src/(?!model|protocol)', 'the model is data that every layer may use'),
    forbid('sys-knows-no-containers', '^src/sys', '^src/(?!sys)', 'system calls know nothing of containers'),
    forbid('engine-knows-no-http', '^src/engine', '^src/api|^(fastify|node:http|http)$', 'the domain knows no HTTP'),
    forbid('api-through-engine', '^src/api', '^src/(store|shim|sys)', 'the API goes through the engine'),
    forbid('store-knows-no-http', '^src/store', '^src/(api|shim)', 'the store knows neither API nor shim'),
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
