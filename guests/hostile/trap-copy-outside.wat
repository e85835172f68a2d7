;; a copy from outside of memory.
(module
  (memory (export "memory") 1)
  (func (export "_start") 
    (memory.copy (i32.const 0) (i32.const 65530) (i32.const 7))))
