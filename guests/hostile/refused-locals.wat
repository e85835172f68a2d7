;; a function with 60 000 locals.
(module (memory (export "memory") 1) (func (export "_start") (local@{60000| i64})))
