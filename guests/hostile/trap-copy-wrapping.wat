;; a copy whose end wraps around.
(module
  (memory (export "memory") 1)
  (func (export "_start") 
    (memory.copy (i32.const -4) (i32.const -8) (i32.const -16))))
