;; draws of 60 MB of random bytes.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") 
    (drop (memory.grow (i32.const 1500)))(loop $l (drop (call $random_get (i32.const 64) (i32.const 60000000))) (br $l))))
