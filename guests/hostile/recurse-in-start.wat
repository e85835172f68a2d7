;; endless recursion in the start section.
(module (memory (export "memory") 1) (func $f (call $f) (drop (memory.size))) (start $f) (func (export "_start")))
