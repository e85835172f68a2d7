;; a loop of growths of a table.
(module
  (memory (export "memory") 1)
  (table $t 0 funcref)
  (func (export "_start") 
    (loop $l (drop (table.grow $t (ref.null func) (i32.const 1))) (br $l))))
