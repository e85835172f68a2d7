// Tries the heap while the runtime is built: no block overlaps another one, each keeps what was written to it, and calloc gives zeros.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heap.h"

size_t malloc_usable_size(void *block);

enum { BLOCKS = 2000, STEPS = 200000 };

static struct {
    uint8_t *block, value;
    size_t size;
} blocks[BLOCKS];

static uint32_t below(uint32_t bound) {
    static uint32_t seed = 1;
    seed = seed * 1103515245 + 12345;
    return (seed >> 8) % bound;
}

static size_t some_size(void) {
    static const uint32_t bounds[] = {200, 200, 200, 5000, 5000, 100000};
    return 1 + below(bounds[below(6)]);
}

static void check(const uint8_t *block, uint8_t value, size_t size) {
    for (size_t i = 0; i < size; i += 1 + size / 64) {
        if (block[i] == value && block[size - 1] == value) continue;
        fprintf(stderr, "heap.c: byte %zu of %zu was changed\n", i, size);
        exit(1);
    }
}

int main(void) {
    for (int step = 0; step < STEPS; step++) {
        if (step == STEPS / 2) heap_settle();
        int at = below(BLOCKS), grows = below(2);
        uint8_t *old = blocks[at].block, value = step;
        size_t size = some_size();
        if (old) check(old, blocks[at].value, blocks[at].size);
        uint8_t *block;
        if (!old) {
            block = grows ? calloc(1, size) : malloc(size);
            if (block && grows) check(block, 0, size);
        } else if (grows) {
            block = realloc(old, size);
            if (block) check(block, blocks[at].value, size < blocks[at].size ? size : blocks[at].size);
        } else {
            free(old);
            blocks[at].block = NULL;
            continue;
        }
        if (!block || (uintptr_t)block % 8 || malloc_usable_size(block) < size) return 1;
        memset(block, value, malloc_usable_size(block));
        blocks[at].block = block;
        blocks[at].value = value;
        blocks[at].size = size;
    }
    return 0;
}
