;; an initialisation from a segment that was dropped.
(module
  (memory (export "memory") 1)
  (data $d "abc")
  (func (export "_start") 
    (data.drop $d) (memory.init $d (i32.const 64) (i32.const 0) (i32.const 1))))
