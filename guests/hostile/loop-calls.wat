;; a loop of calls.
(module
  (memory (export "memory") 1)
  (func $f)
  (func (export "_start") 
    (loop $l (call $f) (br $l))))
