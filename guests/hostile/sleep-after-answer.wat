;; a whole answer, and then a sleep.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 48) "{\22status\22:201,\22body\22:\22still here\22}")
  (func $answer
    (i32.store (i32.const 32) (i32.const 48)) (i32.store (i32.const 36) (i32.const 34))
    (drop (call $fd_write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 40))))
  (func (export "_start") 
    (call $answer) (i64.store (i32.const 1024) (i64.const 7)) (i32.store (i32.const 1040) (i32.const 1)) (i64.store (i32.const 1048) (i64.const 3600000000000)) (i32.store16 (i32.const 1064) (i32.const 0))(drop (call $poll_oneoff (i32.const 1024) (i32.const 16384) (i32.const 1) (i32.const 64)))))
