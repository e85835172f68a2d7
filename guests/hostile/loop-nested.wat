;; sixteen loops in each other.
(module
  (memory (export "memory") 1)
  (func (export "_start") 
    (loop $l (loop $l (loop $l (loop $l (loop $l (loop $l (loop $l (loop $l (loop $l (loop $l (loop $l (loop $l (loop $l (loop $l (loop $l (loop $l (br $l)))))))))))))))))))
