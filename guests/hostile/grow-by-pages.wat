;; growth page by page, and a trap when it is refused.
(module
  (memory (export "memory") 1)
  (func (export "_start") 
    (loop $l (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable)) (br $l))))
