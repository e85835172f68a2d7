;; a load as far outside as an address can be.
(module
  (memory (export "memory") 1)
  (func (export "_start") 
    (drop (i64.load offset=0xffffffff (i32.const -1)))))
