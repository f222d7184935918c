/** The unpacker's second thread (bodies.ts), a script of its own: it needs little. Bundled to dist/body-writer.cjs. */
import { workerData } from 'node:worker_threads';
import { writeBodies, type Shared } from './bodies.ts';

writeBodies(workerData as Shared);
