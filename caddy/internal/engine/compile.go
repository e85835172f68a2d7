// The command that starts the process in which a module is compiled.

package engine

import "runtime"

// compileCommand starts the process that compiles one module; compile_linux.c notices it. The program is the one that runs,
// also after the file was replaced by an upgrade.
var compileCommand = []string{"/proc/self/exe", "gojinn-compile"}

// CompileCommand is the command for [Config]; nil where modules are compiled in this process, which is everywhere but on Linux.
func CompileCommand() []string {
	if runtime.GOOS != "linux" {
		return nil
	}
	return compileCommand
}
