/* One buffer per thread for the message being made: a message is sent or copied before the next is begun, so
 * all pumps of a thread share it, and a call holds no memory for it.
 */
#ifndef FA_SCRATCH_H
#define FA_SCRATCH_H

#include <stddef.h>

/* Room for `size` bytes, valid until the thread's next call; NULL when memory is out. Once it was larger than
 * FA_SCRATCH_KEPT for one message it shrinks again with the next smaller one. */
#define FA_SCRATCH_KEPT 65536
char *fa_scratch(size_t size);

#endif
