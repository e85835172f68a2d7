// What the recipe puts into functions of quickjs.c that recurse: the frame of the calling function gets n bytes more. The value is 0.

#define ROOM(n) ({ char room[n]; __asm__ volatile("" : : "r"(room) : "memory"); 0; })
