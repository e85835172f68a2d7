// malloc for snapshots. Blocks lie one behind the other, with 4 bytes in front of each, so that a snapshot has few pages. What is free
// when it is taken is zero there, and stays free: a request allocates behind the snapshot, and so writes to few of its pages.
//
// Free blocks are in lists, one for each size: multiples of 8 up to SMALL, then eight sizes up to the next power of two. They are not
// merged, except with the memory behind the last block.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "heap.h"

enum { HEADER = 4, SMALL = 1024, MOST = 1 << 30, PAGE = 1 << 16, SIZES = SMALL / 8 + 8 * 20 + 1 };

struct free_block {
    struct free_block *next;
};
static struct free_block *lists[SIZES];

// The next new block is at top, a multiple of 8. Memory from fresh on was never used, so it is zero.
static char *top, *end, *fresh;
static int settled;

extern char __heap_base;

// The size of the block that holds n bytes, and its list.
static inline size_t block_size(size_t n, unsigned *list) {
    size_t size = (n + HEADER + 7) & ~(size_t)7;
    if (size < 16) size = 16;
    if (size <= SMALL) {
        *list = size / 8;
        return size;
    }
    unsigned log = 31 - __builtin_clz(size - 1), shift = log - 3;
    size_t steps = (size - 1) >> shift;
    *list = SMALL / 8 + (log - 10) * 8 + steps - 7;
    return (steps + 1) << shift;
}

static inline size_t size_of(const void *block) { return ((const uint32_t *)block)[-1]; }

// Makes room for so many bytes at top.
static inline int extend(size_t size) {
    if (!end) {
        fresh = top = (char *)(((uintptr_t)&__heap_base + HEADER + 7) & ~(uintptr_t)7);
        end = (char *)(__builtin_wasm_memory_size(0) * PAGE);
    }
    while (end - top < (ptrdiff_t)size) {
        size_t pages = (size - (end - top) + PAGE - 1) / PAGE;
        size_t before = __builtin_wasm_memory_size(0);
        if (pages >= (size_t)MOST / PAGE * 4 - before || __builtin_wasm_memory_grow(0, pages) == SIZE_MAX) return 0;
        char *more = (char *)(before * PAGE);
        if (more != end) fresh = top = more + 8;
        end = more + pages * PAGE;
    }
    return 1;
}

static void *take(unsigned list) {
    struct free_block *block = lists[list];
    if (block) lists[list] = block->next;
    return block;
}

// The first free block of these sizes.
static void *take_any(unsigned list, unsigned last) {
    for (; list < SIZES && list <= last; list++) {
        void *block = take(list);
        if (block) return block;
    }
    return NULL;
}

void *malloc(size_t n) {
    if (n > MOST) return NULL;
    unsigned list;
    size_t size = block_size(n, &list);
    void *block = take(list);
    if (block) return block;
    // A large block may be up to twice as large as is needed, and any block may be larger when memory has run out.
    if (size >= PAGE && (block = take_any(list + 1, list + 8))) return block;
    if (!extend(size)) return take_any(list + 1, SIZES);
    block = top;
    top += size;
    if (top > fresh) fresh = top;
    ((uint32_t *)block)[-1] = size;
    return block;
}

void free(void *block) {
    if (!block) return;
    size_t size = size_of(block);
    if (!settled) memset(block, 0, size - HEADER);
    if ((char *)block + size == top) {
        ((uint32_t *)block)[-1] = 0;
        top = block;
        return;
    }
    unsigned list;
    block_size(size - HEADER, &list);
    struct free_block *free_block = block;
    free_block->next = lists[list];
    lists[list] = free_block;
}

void *calloc(size_t count, size_t each) {
    size_t n;
    if (__builtin_mul_overflow(count, each, &n)) return NULL;
    char *was_fresh = fresh, *block = malloc(n);
    if (!block) return NULL;
    if (block < was_fresh) memset(block, 0, was_fresh - block < n ? was_fresh - block : n);
    return block;
}

void *realloc(void *block, size_t n) {
    if (!block) return malloc(n);
    if (n == 0) {
        free(block);
        return NULL;
    }
    if (n > MOST) return NULL;
    unsigned list;
    size_t old = size_of(block), size = block_size(n, &list);
    if (size <= old && size >= old - old / 4) return block;
    if ((char *)block + old == top && (size <= old || extend(size - old)) && (char *)block + old == top) {
        if (size < old && !settled) memset((char *)block + size - HEADER, 0, old - size);
        top = (char *)block + size;
        if (top > fresh) fresh = top;
        ((uint32_t *)block)[-1] = size;
        return block;
    }
    void *other = malloc(n);
    if (!other) return size <= old ? block : NULL;
    memcpy(other, block, (old < size ? old : size) - HEADER);
    free(block);
    return other;
}

size_t malloc_usable_size(void *block) { return block ? size_of(block) - HEADER : 0; }

// Nothing here needs more than the alignment of malloc.
void *aligned_alloc(size_t alignment, size_t n) { return alignment <= 8 ? malloc(n) : NULL; }

void heap_settle(void) {
    settled = 1;
    for (unsigned list = 0; list < SIZES; list++) {
        while (lists[list]) {
            struct free_block *block = lists[list];
            lists[list] = block->next;
            block->next = NULL;
            ((uint32_t *)block)[-1] = 0;
        }
    }
    // Most requests need no more, and then they make no call to grow memory.
    extend(768 << 10);
}

void heap_use(void *block, size_t size) {
    top = block;
    fresh = end = top + size;
}
