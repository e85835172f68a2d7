;; a loop that stores.
(module
  (memory (export "memory") 1)
  (func (export "_start") 
    (loop $l (i32.store (i32.const 64) (i32.add (i32.load (i32.const 64)) (i32.const 1))) (br $l))))
