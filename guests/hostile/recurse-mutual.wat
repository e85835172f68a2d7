;; two functions that call each other.
(module
  (memory (export "memory") 1)
  (func $f (param i32) (result i32) (i32.add (call $g (local.get 0)) (i32.const 1))) (func $g (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 2)))
  (func (export "_start") 
    (drop (call $f (i32.const 1)))))
