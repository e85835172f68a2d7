;; overlapping copies of 98 MB.
(module
  (memory (export "memory") 1)
  (func (export "_start") 
    (drop (memory.grow (i32.const 1500)))(loop $l (memory.copy (i32.const 65) (i32.const 64) (i32.const 98000000)) (br $l))))
