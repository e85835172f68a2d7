;; copies within a large table.
(module
  (memory (export "memory") 1)
  (table $t 0 funcref)
  (func (export "_start") 
    (drop (table.grow $t (ref.null func) (i32.const 900000)))(loop $l (table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 899999)) (br $l))))
