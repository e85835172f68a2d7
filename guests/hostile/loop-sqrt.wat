;; a loop of square roots.
(module
  (memory (export "memory") 1)
  (func (export "_start") 
    (loop $l (f64.store (i32.const 64) (f64.sqrt (f64.add (f64.load (i32.const 64)) (f64.const 1)))) (br $l))))
