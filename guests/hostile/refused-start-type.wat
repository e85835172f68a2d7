;; a start function with a parameter.
(module (memory (export "memory") 1) (func $f (param i32)) (start $f) (func (export "_start")))
