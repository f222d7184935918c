/** What images call this host's machine, and others. */
const ARCHITECTURES: Partial<Record<NodeJS.Architecture, string>> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le' };
/** As images name this host's. */
export const hostArchitecture = ARCHITECTURES[process.arch] ?? process.arch;
/** Other names of theirs. */
export const machines: Record<string, string> = { x86_64: 'amd64', 'x86-64': 'amd64', aarch64: 'arm64', i386: '386', armhf: 'arm' };
