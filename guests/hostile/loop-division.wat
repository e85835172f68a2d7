;; a loop of slow divisions.
(module
  (memory (export "memory") 1)
  (func (export "_start") 
    (loop $l (drop (i64.div_u (i64.const -1) (i64.or (i64.load (i32.const 64)) (i64.const 3)))) (br $l))))
