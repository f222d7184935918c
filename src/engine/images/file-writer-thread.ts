/** The unpacker's second thread (file-write-ring.ts), a script of its own: it needs little. Bundled to dist/file-writer-thread.cjs. */
import { workerData } from 'node:worker_threads';
import { writeBodies, type Shared } from './file-write-ring.ts';

writeBodies(workerData as Shared);
