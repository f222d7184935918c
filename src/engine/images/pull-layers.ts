/** The layers of a pull: their downloads, their unpacking, and the progress of both. */
import type { DistributionRows } from '../../store/distribution.ts';
import { faultPoint } from '../../sys/fault.ts';
import { InvalidParameter } from '../../model/errors.ts';
import { shortId } from '../../model/short-id.ts';
import { chainIds } from './digest.ts';
import type { Downloads, Stage } from './downloads.ts';
import { DigestMismatch, type LayerPin, type Layers } from './layers.ts';
import { LayerProgress, type Report } from './progress.ts';
import { MalformedResponse } from './registry/failure.ts';
import type { Descriptor } from './registry/manifest.ts';
import type { Repository } from './registry/repository.ts';

/**
 * The layers of one image: downloaded concurrently, unpacked in order. An existing layer is downloaded too unless it is
 * known by the manifest's digest: what is recorded for later pushes must not be what a manifest merely claims.
 */
export class LayerPull {
  readonly #chains: string[];
  readonly #stop = new AbortController();

  constructor(
    private readonly deps: { downloads: Downloads; layers: Layers; rows: DistributionRows },
    private readonly request: { repository: Repository; report: Report; signal: AbortSignal },
    private readonly layers: Descriptor[],
    private readonly diffIds: string[],
  ) {
    this.#chains = chainIds(diffIds);
  }

  /** @throws MalformedResponse, RegistryRefusal, RegistryUnreachable, SystemFault */
  async run(pin: LayerPin): Promise<void> {
    // Pinned before the lookup, so that an existing layer cannot be removed in between.
    for (const chain of this.#chains) pin.chains.add(chain);
    const { report, signal } = this.request;
    const stop = (): void => this.#stop.abort(signal.reason);
    signal.addEventListener('abort', stop);
    if (signal.aborted) stop();
    try {
      const progress = this.layers.map(({ digest }) => new LayerProgress(report, shortId(digest)));
      const exists = this.layers.map((layer, i) => this.#isKnown(layer, i));
      for (const [i, each] of progress.entries()) each.status(exists[i] ? 'Already exists' : 'Pulling fs layer');
      const downloads = this.layers.map(async (layer, i) => {
        if (!exists[i]) await this.#download(layer, progress[i]!);
      });
      // Rejects with the first failure of any download.
      const allDownloads = Promise.all(downloads);
      allDownloads.catch(() => undefined);
      for (const [i, layer] of this.layers.entries()) {
        if (exists[i]) continue;
        await Promise.race([downloads[i]!, allDownloads]);
        this.#stop.signal.throwIfAborted();
        await this.#unpack(pin, i, layer, progress[i]!);
      }
    } finally {
      signal.removeEventListener('abort', stop);
      this.#stop.abort();
    }
  }

  #isKnown({ digest }: Descriptor, i: number): boolean {
    return this.deps.layers.get(this.#chains[i]!) !== undefined && this.deps.rows.isBlobOf(digest, this.diffIds[i]!);
  }

  async #download(layer: Descriptor, progress: LayerProgress): Promise<void> {
    const { repository } = this.request;
    const wanted = {
      digest: layer.digest,
      size: layer.size,
      open: (offset: number, signal: AbortSignal) => repository.openBlob(layer.digest, offset, signal),
    };
    await this.deps.downloads.fetch(wanted, (stage) => showStage(stage, layer.size, progress), this.#stop.signal);
  }

  async #unpack(pin: LayerPin, i: number, { digest, size }: Descriptor, progress: LayerProgress): Promise<void> {
    const { layers, downloads } = this.deps;
    const below = this.#chains.slice(0, i);
    progress.bytes('Extracting', 0, size);
    try {
      const used = { file: false };
      const file = (): string => {
        used.file = true;
        return downloads.file(digest);
      };
      const layer = await layers.addFile(pin, file, below, this.diffIds[i]!, this.#stop.signal);
      if (!used.file) await layers.verifyFile(layer, file(), this.#stop.signal);
    } catch (error) {
      this.#stop.signal.throwIfAborted();
      throw asRegistryFault(error, digest);
    }
    faultPoint('pull.layer');
    progress.bytes('Extracting', size, size);
    progress.status('Pull complete');
  }
}

// InvalidParameter would blame the client, but here the registry sent the bad archive.
function asRegistryFault(error: unknown, digest: string): unknown {
  if (error instanceof DigestMismatch)
    return new MalformedResponse(
      `layer ${digest} has diff ID ${error.actual}, and the image's configuration says ${error.expected}`,
    );
  if (error instanceof InvalidParameter)
    return new MalformedResponse(`failed to register layer ${digest}: ${error.message}`);
  return error;
}

function showStage(stage: Stage, total: number, progress: LayerProgress): void {
  switch (stage.kind) {
    case 'waiting':
      return progress.status('Waiting');
    case 'downloading':
      return stage.current > 0 ? progress.bytes('Downloading', stage.current, total) : undefined;
    case 'retrying':
      return progress.status(`Retrying in ${stage.seconds} second${stage.seconds === 1 ? '' : 's'}`);
    case 'verifying':
      return progress.status('Verifying Checksum');
    case 'complete':
      return progress.status('Download complete');
  }
}
