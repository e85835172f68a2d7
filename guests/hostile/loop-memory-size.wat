;; a loop that asks for the size of memory.
(module
  (memory (export "memory") 1)
  (func (export "_start") 
    (loop $l (drop (memory.size)) (br $l))))
