;; locals that are alive over many branches.
(module (memory (export "memory") 1) (func (export "_start") (local@{4000| i32})@{12000|(if (local.get 5) (then (local.set 6 (local.get 7))))}))
