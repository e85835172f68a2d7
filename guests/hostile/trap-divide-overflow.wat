;; a division that overflows.
(module
  (memory (export "memory") 1)
  (func (export "_start") 
    (i32.store (i32.const 64) (i32.div_s (i32.const 0x80000000) (i32.sub (i32.load (i32.const 128)) (i32.const 1))))))
