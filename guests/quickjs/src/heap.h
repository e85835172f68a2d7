// The heap, see heap.c.

#include <stddef.h>

// Ends the time before the snapshot: free blocks are cleared, and no more used.
void heap_settle(void);

// Allocates from this block of malloc from now on, when no other memory can be had.
void heap_use(void *block, size_t size);
