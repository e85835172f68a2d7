;; an initialisation from outside of a segment.
(module
  (memory (export "memory") 1)
  (data $d "abc")
  (func (export "_start") 
    (memory.init $d (i32.const 64) (i32.const 2) (i32.const 9))))
