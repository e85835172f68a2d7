;; code that is not valid.
(module (memory (export "memory") 1) (func (export "_start") (i32.store (i32.const 0) (i64.const 0))))
