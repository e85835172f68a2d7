;; a copy outside of a table.
(module
  (memory (export "memory") 1)
  (type $t (func)) (type $u (func (param i64))) (table $tab 2 funcref) (elem (i32.const 0) $f) (func $f (param i64))
  (func (export "_start") 
    (table.copy $tab $tab (i32.const 1) (i32.const 0) (i32.const 2))))
