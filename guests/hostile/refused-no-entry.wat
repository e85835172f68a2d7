;; no entry point.
(module (memory (export "memory") 1) (func (export "main")))
