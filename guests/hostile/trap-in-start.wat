;; a trap in the start section.
(module (memory (export "memory") 1) (func $f unreachable) (start $f) (func (export "_start")))
