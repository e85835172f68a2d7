;; initialisation from a segment.
(module
  (memory (export "memory") 1)
  (data $d "@{60000|x}")
  (func (export "_start") 
    (loop $l (memory.init $d (i32.const 1024) (i32.const 0) (i32.const 60000)) (br $l))))
