/**
 * The unpacker's second thread (file-write-ring.ts). A script of its own, bundled to dist/file-writer-thread.cjs, so
 * that it starts without the unpacker's other modules.
 */
import { workerData } from 'node:worker_threads';
import { runFileWriter, type SharedRing } from './file-write-ring.ts';

runFileWriter(workerData as SharedRing);
