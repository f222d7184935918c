/** Terminals. ioctl_tty(2). */
import { check, declare, type Fd } from './libc.ts';

const ioctlCall = declare('int ioctl(int fd, unsigned long request, void *argument)');
const TIOCSWINSZ = 0x5414;

/** Sets a terminal's size; its foreground process gets SIGWINCH. */
export function setWindowSize(fd: Fd, height: number, width: number): void {
  const size = Buffer.alloc(8);
  size.writeUInt16LE(height, 0);
  size.writeUInt16LE(width, 2);
  check(ioctlCall(fd, TIOCSWINSZ, size), 'ioctl TIOCSWINSZ');
}
