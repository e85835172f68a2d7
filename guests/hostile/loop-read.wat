;; a loop that reads stdin after its end.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") 
    (loop $l (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 1024)) (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 64))) (br $l))))
