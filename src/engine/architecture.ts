/** Machine architectures by Go's names (GOARCH), which images and Docker's API use. */
const NAMES: Partial<Record<NodeJS.Architecture, string>> = {
  x64: 'amd64',
  ia32: '386',
  ppc64: 'ppc64le',
  mipsel: 'mipsle',
};
export const hostArchitecture = NAMES[process.arch] ?? process.arch;
/** Other names of architectures, by which clients may ask for a platform. */
export const machines: Record<string, string> = {
  x86_64: 'amd64',
  'x86-64': 'amd64',
  aarch64: 'arm64',
  i386: '386',
  armhf: 'arm',
};
