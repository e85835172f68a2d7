;; stores in 4 GiB of addresses.
(module
  (memory (export "memory") 1)
  (func (export "_start") (local $i i32) 
    (loop $l (i32.store (local.get $i) (i32.const 1)) (local.set $i (i32.add (local.get $i) (i32.const 4096))) (br $l))))
