;; a loop in the entry of a reactor.
(module
  (memory (export "memory") 1)
  (func (export "gojinn_handle") 
    (loop $l  (br $l))))
