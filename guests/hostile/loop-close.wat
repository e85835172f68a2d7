;; a loop that closes what is closed.
(module
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") 
    (loop $l (drop (call $fd_close (i32.const 77))) (br $l))))
