/** The services that the container operations use. Each operation names those it needs: `Pick<ContainerDeps, …>`. */
import type { ContainerFiles } from '../files/container-files.ts';
import type { Archives } from '../images/archive.ts';
import type { Images } from '../images/images.ts';
import type { Snapshots } from '../images/snapshots.ts';
import type { Networks } from '../networks/networks.ts';
import type { Volumes } from '../volumes/volumes.ts';
import type { ContainerIndex } from './container-index.ts';
import type { HandleDeps } from './handle/handle-deps.ts';

export interface ContainerDeps extends HandleDeps {
  index: ContainerIndex;
  images: Images;
  archives: Archives;
  snapshots: Snapshots;
  networks: Networks;
  volumes: Volumes;
  files: ContainerFiles;
}
