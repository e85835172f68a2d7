;; a write outside of a table.
(module
  (memory (export "memory") 1)
  (type $t (func)) (type $u (func (param i64))) (table $tab 2 funcref) (elem (i32.const 0) $f) (func $f (param i64))
  (func (export "_start") 
    (table.set $tab (i32.const -1) (ref.null func))))
