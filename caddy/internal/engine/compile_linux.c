//go:build cgo

// This file turns the program into the process that compiles one module, when the engine starts it as such.
//
// The engine starts its own program again for each compilation. That must not run Caddy: so it is noticed in a constructor,
// before main and before Go's runtime starts. It takes 1 ms to come here, and 35 ms to start Go's runtime and run the init
// functions of all of Caddy's modules. Any program that links this package can compile in this way, go test's included.

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "gojinn.h"

// The whole command line, as the engine starts it (compileCommand in compile.go). An operator who types the argument starts
// caddy by its own name, and gets caddy's answer.
static const char command[] = "/proc/self/exe\0gojinn-compile";

__attribute__((constructor)) static void gojinn_compile(void) {
	char line[sizeof command + 1];
	int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return;
	}
	ssize_t n = read(fd, line, sizeof line);
	close(fd);
	if (n == (ssize_t)sizeof command && memcmp(line, command, sizeof command) == 0) {
		_exit(gojinn_compile_process());
	}
}
