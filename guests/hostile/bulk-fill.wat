;; fills of 100 MB.
(module
  (memory (export "memory") 1)
  (func (export "_start") 
    (drop (memory.grow (i32.const 1500)))(loop $l (memory.fill (i32.const 64) (i32.const 7) (i32.const 98000000)) (br $l))))
