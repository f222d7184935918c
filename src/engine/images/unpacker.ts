/**
 * The unpacker, a process of its own (bundled to dist/unpacker.cjs): reads a layer's archive on stdin, jails itself in the layer's directory,
 * unpacks, and tells on descriptor 3, as one JSON document, what became of it. Descriptor 4 is the recipe's file.
 *
 *   node unpacker.cjs DIRECTORY COMPRESSION PARENT-PID  <archive  3>report  4>recipe
 *
 * DIRECTORY exists and is empty. When the report says `ok` everything is on disk.
 */
import { createHash } from 'node:crypto';
import { createReadStream, fsyncSync, writeSync } from 'node:fs';
import { dieWithParent, jailProcess } from '../../sys/jail.ts';
import { syncFilesystem } from '../../sys/inode.ts';
import { decompress, type Compression } from './compression.ts';
import { Extractor } from './extract.ts';
import { RecipeWriter } from './recipe.ts';
import { TarReader, type TarEvent } from './tar-reader.ts';
import { TarError } from './tar.ts';

export type Report =
  | { ok: true; diffId: string; size: number; /** Bytes of the archive, not compressed. */ archiveSize: number; /** Directories that no entry named, one character a byte. */ implicit: string[]; /** The recipe gives the same archive again. */ faithful: boolean }
  | { ok: false; fault: 'archive' | 'host'; message: string };

const STDIN = 0;
const REPORT = 3;
const RECIPE = 4;
const READ_SIZE = 1 << 20;

/** What the parent could not start with is the parent's to see on stderr; what the archive does wrong is reported. */
async function main([directory, compression, parent]: string[]): Promise<void> {
  if (!dieWithParent(Number(parent))) return;
  process.umask(0);
  // Loaded now: nothing can be once the jail is shut.
  const hash = createHash('sha256');
  jailProcess(directory!);
  let report: Report;
  try {
    report = await unpack(hash, compression as Compression);
  } catch (error) {
    const isArchive = error instanceof TarError || (error as Error).name === 'InvalidParameter';
    report = { ok: false, fault: isArchive ? 'archive' : 'host', message: (error as Error).message };
  }
  writeSync(REPORT, JSON.stringify(report));
  process.exit(0);
}

async function unpack(hash: ReturnType<typeof createHash>, compression: Compression): Promise<Report> {
  const reader = new TarReader();
  const extractor = new Extractor();
  const recipe = new RecipeWriter(RECIPE);
  let kept = false;
  let archiveSize = 0;
  const take = (event: TarEvent): void => {
    switch (event.kind) {
      case 'entry': {
        const path = extractor.begin(event.entry);
        kept = path !== undefined;
        if (path !== undefined && event.entry.size > 0) recipe.file(path, event.entry.size);
        return;
      }
      case 'data': return kept ? extractor.write(event.bytes) : recipe.bytes(event.bytes);
      case 'end': return extractor.end();
      case 'meta': return recipe.bytes(event.bytes);
    }
  };
  const input = createReadStream('', { fd: STDIN, highWaterMark: READ_SIZE, autoClose: false });
  for await (const chunk of decompress(input, compression)) {
    hash.update(chunk);
    archiveSize += chunk.length;
    for (const event of reader.push(chunk)) take(event);
  }
  reader.end();
  const implicit = extractor.finish();
  recipe.finish();
  fsyncSync(RECIPE);
  syncFilesystem('/');
  return { ok: true, diffId: `sha256:${hash.digest('hex')}`, size: extractor.size, archiveSize, implicit, faithful: extractor.faithful };
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`${(error as Error).stack}\n`);
  process.exit(1);
});
