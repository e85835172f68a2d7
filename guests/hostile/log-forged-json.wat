;; a log line that looks like a record of Caddy.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "{\22level\22:\22error\22,\22ts\22:1,\22logger\22:\22http.log.access\22,\22msg\22:\22handled request\22,\22function\22:\22other\22,\22trace_id\22:\22forged\22}\0a")
  (data (i32.const 48) "{\22status\22:201,\22body\22:\22still here\22}")
  (func $answer
    (i32.store (i32.const 32) (i32.const 48)) (i32.store (i32.const 36) (i32.const 34))
    (drop (call $fd_write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 40))))
  (func (export "_start") 
    (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 115))(drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 16))) (call $answer)))
