;; fills of a table of 900 000 elements.
(module
  (memory (export "memory") 1)
  (table $t 0 funcref)
  (func (export "_start") 
    (drop (table.grow $t (ref.null func) (i32.const 900000)))(loop $l (table.fill $t (i32.const 0) (ref.null func) (i32.const 900000)) (br $l))))
