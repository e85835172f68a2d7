;; growth and fills of what is new.
(module
  (memory (export "memory") 1)
  (func (export "_start") 
    (loop $l (drop (memory.grow (i32.const 100))) (memory.fill (i32.const 0) (i32.const 7) (i32.mul (memory.size) (i32.const 65536))) (br $l))))
