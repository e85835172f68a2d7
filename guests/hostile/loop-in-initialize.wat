;; a loop in _initialize.
(module (memory (export "memory") 1) (func (export "_initialize") (loop $l (br $l))) (func (export "gojinn_handle")))
