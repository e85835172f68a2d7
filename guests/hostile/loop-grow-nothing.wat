;; a loop that grows memory by nothing.
(module
  (memory (export "memory") 1)
  (func (export "_start") 
    (loop $l (drop (memory.grow (i32.const 0))) (br $l))))
