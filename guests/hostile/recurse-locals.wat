;; endless recursion with 500 locals.
(module
  (memory (export "memory") 1)
  (func $f (param i64) (result i64) (local@{500| i64}) (local.set 499 (local.get 0)) (i64.add (call $f (local.get 499)) (local.get 499)))
  (func (export "_start") 
    (drop (call $f (i64.const 0)))))
