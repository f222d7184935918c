import { expect } from 'vitest';

/**
 * The `docker cp` invocations that cp-parity.test.ts compares. Before each, the same tree is created in the
 * container's /w and in the working directory of the client.
 */
export interface CopyCase {
  name: string;
  /** Arguments after `docker cp`. */
  args: string[];
  /** The container that `C:` stands for; `running` by default. */
  container?: (typeof CONTAINERS)[number];
  /** Shell script run before the copy in the container's /w. */
  inside?: string;
  /** Shell script run before the copy in the client's directory. */
  outside?: string;
  /** Shell script whose output becomes the stdin of the copy. */
  stdin?: string;
  /** The output is an archive: its table of contents is compared. */
  archive?: true;
}

/** Two with a writable rootfs, running and stopped; the third runs with a read-only rootfs. */
export const CONTAINERS = ['running', 'stopped', 'read-only'] as const;

/** Shell script that creates the tree on both sides. */
export const TREE = `
mkdir dir dir/sub empty
echo file >file; echo d >dir/d; echo s >dir/sub/s; echo exe >exe; echo odd >'odd name'; echo colon >a:b
ln -s file link; ln -s dir dirlink; ln -s nowhere broken; ln -s ../file dir/up; ln -s link linklink; ln -s loop2 loop1; ln -s loop1 loop2
mkfifo fifo; ln file hard
chown 33:100 file dir/sub; chmod 640 file; chmod 4755 exe; chmod 1777 empty; chmod 750 dir/sub
touch -d @1000000000 file dir/sub/s dir/sub
`;

const out = (name: string, from: string, to: string, ...options: string[]): CopyCase => ({
  name: `out: ${name}`,
  args: [...options, `C:${from}`, to],
});
const into = (name: string, from: string, to: string, ...options: string[]): CopyCase => ({
  name: `in: ${name}`,
  args: [...options, from, `C:${to}`],
});

export const copyCases: CopyCase[] = [
  // Copies out of the container.
  out('a file under a new name', '/w/file', 'new'),
  out('a file over a file', '/w/file', 'exe'),
  out('a file into a directory', '/w/file', 'empty'),
  out('a file into a directory with a trailing slash', '/w/file', 'empty/'),
  out('a file into a missing directory with a trailing slash', '/w/file', 'missing/'),
  out('a file below a missing directory', '/w/file', 'missing/file'),
  out('a file to the working directory', '/w/exe', '.'),
  out('a file over a directory of its name', '/w/file', 'holder'),
  out('a file with a trailing slash', '/w/file/', 'new'),
  out('a file with a trailing slash and dot', '/w/file/.', 'new'),
  out('a file below a file', '/w/file/x', 'new'),
  out('a relative path', 'w/file', 'new'),
  out('a path with dot segments', '/w/dir/../file', 'new'),
  out('a path above the root', '/../../w/file', 'new'),
  out('a path with doubled slashes', '//w//file', 'new'),
  out('a name with a space', '/w/odd name', 'new'),
  out('a name with a colon', '/w/a:b', 'new'),
  out('a missing file', '/w/missing', 'new'),
  out('a file in a missing directory', '/w/missing/x', 'new'),
  out('the empty path', '', 'new'),
  out('a directory under a new name', '/w/dir', 'new'),
  out('a directory into a directory', '/w/dir', 'empty'),
  out('a directory into a directory with a trailing slash', '/w/dir', 'empty/'),
  out('a directory with a trailing slash under a new name', '/w/dir/', 'new'),
  out('a directory with a trailing slash into a directory', '/w/dir/', 'empty'),
  out('the contents of a directory under a new name', '/w/dir/.', 'new'),
  out('the contents of a directory into a directory', '/w/dir/.', 'empty'),
  out('the contents of a directory below a missing directory', '/w/dir/.', 'missing/new'),
  out('a directory to a missing directory with a trailing slash', '/w/dir', 'missing/'),
  out('a directory over a file', '/w/dir', 'file'),
  out('the contents of a directory over a file', '/w/dir/.', 'file'),
  out('the contents of a directory over a directory with content', '/w/dir/.', 'dir'),
  out('an empty directory', '/w/empty', 'new'),
  out('a link', '/w/link', 'new'),
  out('a link, followed', '/w/link', 'new', '-L'),
  out('a link into a directory', '/w/link', 'empty'),
  out('a link into a directory, followed', '/w/link', 'empty', '-L'),
  out('a link to a link, followed', '/w/linklink', 'new', '-L'),
  out('a broken link', '/w/broken', 'new'),
  out('a broken link, followed', '/w/broken', 'new', '-L'),
  out('a link loop', '/w/loop1', 'new'),
  out('a link loop, followed', '/w/loop1', 'new', '-L'),
  out('a link to a directory', '/w/dirlink', 'new'),
  out('a link to a directory, followed', '/w/dirlink', 'new', '-L'),
  out('a link to a directory with a trailing slash', '/w/dirlink/', 'new'),
  out('a link to a directory with a trailing slash and dot', '/w/dirlink/.', 'new'),
  out('a directory below a link to a directory', '/w/dirlink/sub', 'new'),
  out('a link out of the directory', '/w/dir/up', 'new'),
  out('a link out of the directory, followed', '/w/dir/up', 'new', '-L'),
  out('a file onto a link to a file', '/w/exe', 'link'),
  out('a file onto a link to a directory', '/w/exe', 'dirlink'),
  out('a file onto a link to a directory with a trailing slash', '/w/exe', 'dirlink/'),
  out('a file onto a broken link', '/w/exe', 'broken'),
  out('a directory onto a link to a directory', '/w/empty', 'dirlink'),
  out('a file with its owner [cp-a-file-out]', '/w/file', 'new', '-a'),
  out('a directory with its owners [cp-a-directory-out]', '/w/dir', 'new', '-a'),
  out('a FIFO', '/w/fifo', 'new'),
  out('a device', '/dev/null', 'new'),
  out('a file of /proc', '/proc/version', 'new'),
  out('a file of a volume', '/volume/kept', 'new'),
  out('a volume', '/volume', 'new'),
  out('the file /etc/hostname', '/etc/hostname', 'new'),
  { name: 'out: a file to stdout', args: ['C:/w/file', '-'], archive: true },
  { name: 'out: a directory to stdout', args: ['C:/w/dir', '-'], archive: true },
  { name: 'out: a directory with a trailing slash to stdout', args: ['C:/w/dir/', '-'], archive: true },
  { name: 'out: the contents of a directory to stdout', args: ['C:/w/dir/.', '-'], archive: true },
  { name: 'out: a link to stdout', args: ['C:/w/link', '-'], archive: true },
  { name: 'out: a link to stdout, followed', args: ['-L', 'C:/w/link', '-'], archive: true },
  { name: 'out: hard links to stdout', args: ['C:/w', '-'], inside: 'rm -rf dir empty', archive: true },
  { name: 'out: a missing file to stdout', args: ['C:/w/missing', '-'] },

  // Copies into the container.
  into('a file under a new name', 'file', '/w/new'),
  into('a file over a file', 'file', '/w/exe'),
  into('a file into a directory', 'file', '/w/empty'),
  into('a file into a directory with a trailing slash', 'file', '/w/empty/'),
  into('a file into a missing directory with a trailing slash', 'file', '/w/missing/'),
  into('a file below a missing directory', 'file', '/w/missing/new'),
  into('a file below a file', 'file', '/w/exe/new'),
  into('a file onto a file with a trailing slash', 'file', '/w/exe/'),
  into('a file to a relative path', 'exe', 'w/new'),
  into('a file to the root', 'exe', '/'),
  into('a file to a path with dot segments', 'exe', '/w/dir/../new'),
  into('a file whose name has a space', 'odd name', '/w/empty'),
  into('a file whose name has a colon', './a:b', '/w/new'),
  into('a missing file', 'missing', '/w/new'),
  into('the empty path', 'exe', ''),
  into('a directory under a new name', 'dir', '/w/new'),
  into('a directory into a directory', 'dir', '/w/empty'),
  into('a directory with a trailing slash into a directory', 'dir/', '/w/empty'),
  into('a directory with a trailing slash to a missing one with a trailing slash', 'dir/', '/w/new/'),
  into('the contents of a directory under a new name', 'dir/.', '/w/new'),
  into('the contents of a directory into a directory', 'dir/.', '/w/empty'),
  into('the contents of a directory below a missing one', 'dir/.', '/w/missing/new'),
  into('a directory over a file', 'dir', '/w/file'),
  into('the contents of a directory over a file', 'dir/.', '/w/file'),
  into('the contents of a directory over another', 'dir/.', '/w/dir'),
  into('the working directory', '.', '/w/new'),
  into('a link', 'link', '/w/new'),
  into('a link, followed', 'link', '/w/new', '-L'),
  into('a broken link', 'broken', '/w/new'),
  into('a broken link, followed', 'broken', '/w/new', '-L'),
  into('a link to a directory', 'dirlink', '/w/new'),
  into('a link to a directory, followed', 'dirlink', '/w/new', '-L'),
  into('a link to a directory with a trailing slash', 'dirlink/', '/w/new'),
  into('a file onto a link to a file', 'exe', '/w/link'),
  into('a file onto a link to a link to a file', 'exe', '/w/linklink'),
  into('a file onto a link to a directory', 'exe', '/w/dirlink'),
  into('a file onto a broken link', 'exe', '/w/broken'),
  into('a file onto a link loop', 'exe', '/w/loop1'),
  into('a file below a link to a directory', 'exe', '/w/dirlink/new'),
  into('a directory onto a link to a directory', 'dir', '/w/dirlink'),
  into('the contents of a directory onto a link to a directory', 'dir/.', '/w/dirlink'),
  into('a file with its owner', 'file', '/w/new', '-a'),
  into('a directory with its owners', 'dir', '/w/new', '-a'),
  into('a FIFO', 'fifo', '/w/new'),
  into('a directory to a volume', 'dir', '/volume'),
  into('a file to a volume', 'file', '/volume/new'),
  into('a file to a read-only volume', 'file', '/ro/new'),
  into('a file over a read-only volume', 'file', '/ro'),
  into('a file over a device', 'exe', '/dev/null'),
  { name: 'in: a file over a directory of its name', args: ['file', 'C:/w/holder'], inside: 'mkdir -p holder/file' },
  {
    name: 'in: a directory over a file of its name',
    args: ['dir', 'C:/w/holder'],
    inside: 'mkdir holder; echo x >holder/dir',
  },
  {
    name: 'in: a directory over a link of its name',
    args: ['dir', 'C:/w/holder'],
    inside: 'mkdir holder; ln -s ../empty holder/dir',
  },
  {
    name: 'in: a file over a link of its name',
    args: ['exe', 'C:/w/holder'],
    inside: 'mkdir holder; ln -s ../file holder/exe',
  },
  { name: 'in: an archive', args: ['-', 'C:/w/empty'], stdin: 'tar -c dir file' },
  { name: 'in: an archive, compressed', args: ['-', 'C:/w/empty'], stdin: 'tar -cz dir file' },
  { name: 'in: an archive with owners', args: ['-a', '-', 'C:/w/empty'], stdin: 'tar -c dir file' },
  { name: 'in: an archive to a missing directory', args: ['-', 'C:/w/missing'], stdin: 'tar -c file' },
  { name: 'in: an archive to a file', args: ['-', 'C:/w/file'], stdin: 'tar -c exe' },
  { name: 'in: an archive to a link to a directory', args: ['-', 'C:/w/dirlink'], stdin: 'tar -c exe' },
  { name: 'in: an archive with links', args: ['-', 'C:/w/empty'], stdin: 'tar -c file hard link broken fifo' },
  {
    name: 'in: an archive with names that lead out of the target',
    args: ['-', 'C:/w/empty'],
    stdin: "tar -cP --transform 's,^file,../climbed,' file",
  },
  {
    name: 'in: an archive with absolute names',
    args: ['-', 'C:/w/empty'],
    stdin: "tar -cP --transform 's,^file,/w/absolute,' file",
  },
  { name: 'in: text that is not an archive', args: ['-', 'C:/w/empty'], stdin: 'echo this is no archive' },
  { name: 'in: empty stdin', args: ['-', 'C:/w/empty'], stdin: 'true' },
  {
    name: 'in: an archive that writes through a link it contains',
    args: ['-', 'C:/w/empty'],
    stdin: "mkdir x; ln -s /etc x/etc; tar -c -C x etc --transform 's,^file,etc/through,' -C .. file",
  },

  // A container with a read-only rootfs.
  { name: 'read-only: a file out', args: ['C:/etc/passwd', 'new'], container: 'read-only' },
  { name: 'read-only: a file in', args: ['file', 'C:/w/new'], container: 'read-only' },
  { name: 'read-only: a file into a volume', args: ['file', 'C:/volume/new'], container: 'read-only' },
  { name: 'read-only: an archive in', args: ['-', 'C:/w'], container: 'read-only', stdin: 'tar -c exe' },

  // A stopped container.
  { name: 'stopped: a file out', args: ['C:/w/file', 'new'], container: 'stopped' },
  { name: 'stopped: a directory out', args: ['C:/w/dir', 'new'], container: 'stopped' },
  { name: 'stopped: a link out, followed', args: ['-L', 'C:/w/dirlink', 'new'], container: 'stopped' },
  { name: 'stopped: a file of a volume', args: ['C:/volume/kept', 'new'], container: 'stopped' },
  { name: 'stopped: /etc/hosts', args: ['C:/etc/hosts', 'new'], container: 'stopped' },
  { name: 'stopped: a file in', args: ['file', 'C:/w/new'], container: 'stopped' },
  { name: 'stopped: a directory in', args: ['dir/.', 'C:/w/dir'], container: 'stopped' },
  { name: 'stopped: a file into a volume', args: ['exe', 'C:/volume/new'], container: 'stopped' },
  { name: 'stopped: a file into a read-only volume', args: ['exe', 'C:/ro/new'], container: 'stopped' },
  { name: 'stopped: a link over a file', args: ['link', 'C:/w/exe'], container: 'stopped' },
  {
    name: 'stopped: a file in with its owner [cp-a-stopped-in]',
    args: ['-a', 'file', 'C:/w/new'],
    container: 'stopped',
  },
  {
    name: 'stopped: a directory out with its owners [cp-a-stopped-out]',
    args: ['-a', 'C:/w/dir', 'new'],
    container: 'stopped',
  },
  {
    name: 'stopped: a directory into a volume with its owners [cp-a-stopped-volume]',
    args: ['-a', 'dir', 'C:/volume/new'],
    container: 'stopped',
  },
  { name: 'in: a directory into a volume with its owners [cp-a-volume]', args: ['-a', 'dir', 'C:/volume/new'] },
  { name: 'stopped: a missing file', args: ['C:/w/missing', 'new'], container: 'stopped' },

  // Other arguments.
  { name: 'out of a missing container', args: ['missing:/etc/passwd', 'new'] },
  { name: 'into a missing container', args: ['file', 'missing:/w'] },
  { name: 'from one container to another', args: ['C:/etc/passwd', 'stopped:/w/new'] },
  { name: 'from a local path to a local path', args: ['file', 'new'] },
  { name: 'quiet', args: ['-q', 'C:/w/file', 'new'] },
];

const CHROOT = "the same refusal without the message prefix of 20.10's helper process, which newer engines do not have";
const LINKS =
  'dockerd refuses a link whose target leads out of the destination; Holdfast creates it, which is harmless because nothing is written through it';
const MESSAGE = 'the same refusal with the message of Docker 28';

/** Where Holdfast intentionally differs from Debian's dockerd 20.10, and why. */
export const copyDifferences: Record<
  string,
  { reason: string; exitCode?: number; printed?: unknown; inside?: unknown }
> = {
  'out: a file with a trailing slash': {
    reason: MESSAGE,
    printed: 'Error response from daemon: lstat /w/file/: not a directory\n',
  },
  'out: a file with a trailing slash and dot': {
    reason: MESSAGE,
    printed: 'Error response from daemon: lstat /w/file/.: not a directory\n',
  },
  'out: a file below a file': {
    reason: MESSAGE,
    printed: 'Error response from daemon: lstat /w/file/x: not a directory\n',
  },
  'out: the empty path': {
    reason: MESSAGE,
    printed: 'Error response from daemon: bad parameter: path cannot be empty\n',
  },
  'out: a link loop': {
    reason: MESSAGE,
    printed: 'Error response from daemon: evalSymlinksInScope: too many links in /w/loop1\n',
  },
  'out: a link loop, followed': {
    reason: MESSAGE,
    printed: 'Error response from daemon: evalSymlinksInScope: too many links in /w/loop1\n',
  },
  'in: a file over a directory of its name': {
    reason: CHROOT,
    printed: 'Error response from daemon: cannot overwrite directory "/w/holder/file" with non-directory "/w/holder"\n',
  },
  'in: a directory over a file of its name': {
    reason: CHROOT,
    printed: 'Error response from daemon: cannot overwrite non-directory "/w/holder/dir" with directory "/w/holder"\n',
  },
  'in: a directory over a link of its name': {
    reason: CHROOT,
    printed: 'Error response from daemon: cannot overwrite non-directory "/w/holder/dir" with directory "/w/holder"\n',
  },
  'in: an archive with names that lead out of the target': {
    reason: CHROOT,
    printed: 'Error response from daemon: "../climbed" is outside of "/w/empty"\n',
  },
  'in: text that is not an archive': { reason: CHROOT, printed: 'Error response from daemon: unexpected EOF\n' },
  ...Object.fromEntries(
    [
      'in: the contents of a directory into a directory',
      'in: the contents of a directory over another',
      'in: the contents of a directory onto a link to a directory',
      'stopped: a directory in',
    ].map((name) => [
      name,
      {
        reason: LINKS,
        exitCode: 0,
        printed: '',
        inside: expect.arrayContaining([expect.stringMatching(/^(dir|empty)\/up -> \.\.\/file$/)]),
      },
    ]),
  ),
};
