/** Returns freed heap memory to the kernel. malloc_trim(3). */
import { declare } from './libc.ts';

const mallocTrim = declare('int malloc_trim(size_t pad)');

export const trimHeap = (): void => void mallocTrim(0);
