// A builder of small WebAssembly modules.

package gojinn

import (
	"encoding/binary"
	"strings"
)

// wasm is a handmade module, so that the tests need no tool to build one: a memory, fd_write of WASI, and functions without
// parameters, of which the first is _start.
type wasm struct {
	// code is that of _start. Function 0 is the import and function 1 _start.
	code string
	// imports is another imported function, as module and name.
	imports [2]string
	// pages is the size of the memory; 0 means 1.
	pages uint32
	// data is the beginning of the memory.
	data string
	// twice writes the data in two segments that overlap.
	twice bool
	// start runs _start as the start function, and exports an empty function as _start.
	start bool
	// name is the name of _start in the name section. If it is empty there is no such section.
	name string
}

// Addresses of what answering uses, in the first page.
const (
	vectorAt  = 0
	writtenAt = 8
	outputAt  = 16
)

// answering returns a module that writes output to stdout and then runs code.
func answering(output, code string) wasm {
	vector := binary.LittleEndian.AppendUint32(nil, outputAt)
	vector = binary.LittleEndian.AppendUint32(vector, uint32(len(output)))
	return wasm{
		data: string(vector) + strings.Repeat("\x00", outputAt-len(vector)) + output,
		code: i32(1) + i32(vectorAt) + i32(1) + i32(writtenAt) + "\x10\x00" + drop + code, // fd_write(1, …)
	}
}

// Instructions.
const (
	drop        = "\x1a"
	unreachable = "\x00"
	loop        = "\x03\x40\x0c\x00\x0b" // loop, br 0, end
	recurse     = "\x10\x01"             // call 1
)

// i32 returns the instruction that pushes n.
func i32(n int32) string {
	out := "\x41"
	for {
		b := byte(n & 0x7f)
		n >>= 7
		if n == 0 && b&0x40 == 0 || n == -1 && b&0x40 != 0 {
			return out + string([]byte{b})
		}
		out += string([]byte{b | 0x80})
	}
}

// String returns the module in the binary format.
func (m wasm) String() string {
	const procedure = "\x60\x00\x00"
	const fdWrite = "\x60\x04\x7f\x7f\x7f\x7f\x01\x7f"
	imports := []string{sized("wasi_snapshot_preview1") + sized("fd_write") + "\x00\x01"}
	if m.imports[0] != "" {
		imports = append(imports, sized(m.imports[0])+sized(m.imports[1])+"\x00\x00")
	}
	first := uint32(len(imports))
	bodies := []string{m.code}
	entry := first
	if m.start {
		bodies = append(bodies, "")
		entry++
	}
	for i, code := range bodies {
		bodies[i] = sized("\x00" + code + "\x0b")
	}

	out := "\x00asm\x01\x00\x00\x00" +
		section(1, listOf(procedure, fdWrite)) +
		section(2, listOf(imports...)) +
		section(3, uleb(uint32(len(bodies)))+strings.Repeat("\x00", len(bodies))) +
		section(5, listOf("\x00"+uleb(max(1, m.pages)))) +
		section(7, listOf(sized("memory")+"\x02\x00", sized("_start")+"\x00"+uleb(entry)))
	if m.start {
		out += section(8, uleb(first))
	}
	out += section(10, listOf(bodies...))
	if m.data != "" {
		segments := []string{"\x00" + i32(0) + "\x0b" + sized(m.data)}
		if m.twice {
			segments = append(segments, segments[0])
		}
		out += section(11, listOf(segments...))
	}
	if m.name != "" {
		out += section(0, sized("name")+"\x01"+sized(listOf(uleb(first)+sized(m.name))))
	}
	return out
}

func section(id byte, content string) string { return string([]byte{id}) + sized(content) }

func listOf(items ...string) string { return uleb(uint32(len(items))) + strings.Join(items, "") }

func sized(s string) string { return uleb(uint32(len(s))) + s }

func uleb(n uint32) string { return string(binary.AppendUvarint(nil, uint64(n))) }
