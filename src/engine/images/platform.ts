/** Platforms as clients write them: `linux/arm64/v8` (containerd platforms/platforms.go). */
import { InvalidParameter } from '../../model/errors.ts';
import { hostArchitecture, machines } from '../architecture.ts';
import type { Platform } from './registry/manifest.ts';

const SYSTEMS = new Set(
  'aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris windows zos'.split(
    ' ',
  ),
);
const ARCHITECTURES = new Set(
  (
    '386 amd64 amd64p32 arm armbe arm64 arm64be ppc64 ppc64le loong64 mips mipsle mips64 mips64le mips64p32 ' +
    'mips64p32le ppc riscv riscv64 s390 s390x sparc sparc64 wasm'
  ).split(' '),
);

/** `os[/arch[/variant]]`, or an architecture alone: `arm64` is `linux/arm64`. @throws InvalidParameter */
export function parsePlatform(text: string): Platform {
  const parts = text.split('/');
  const invalid = (why: string): InvalidParameter => new InvalidParameter(`${why}: invalid argument`);
  const bad = parts.find((part) => !/^[A-Za-z0-9_.-]+$/.test(part));
  if (bad !== undefined)
    throw invalid(
      `${JSON.stringify(bad)} is an invalid component of ${JSON.stringify(text)}: platform specifier component must match "^[A-Za-z0-9_.-]+(?:\\([A-Za-z0-9_.-]*\\))?$"`,
    );
  if (parts.length > 3) throw invalid(`${JSON.stringify(text)}: cannot parse platform specifier`);
  const [first = '', machine, variant] = parts.map((part) => part.toLowerCase());
  const os = first === 'macos' ? 'darwin' : first;
  if (machine !== undefined) return { os, architecture: architectureOf(machine), ...(variant && { variant }) };
  if (SYSTEMS.has(os)) return { os, architecture: hostArchitecture };
  const architecture = architectureOf(first);
  if (!ARCHITECTURES.has(architecture))
    throw invalid(`${JSON.stringify(text)}: unknown operating system or architecture`);
  return { os: 'linux', architecture };
}

const architectureOf = (machine: string): string => machines[machine] ?? machine;
