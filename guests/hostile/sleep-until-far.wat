;; a sleep until a date in the year 2262.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") 
    (i64.store (i32.const 1024) (i64.const 7)) (i32.store (i32.const 1040) (i32.const 0)) (i64.store (i32.const 1048) (i64.const 9223372036854775807)) (i32.store16 (i32.const 1064) (i32.const 1))(drop (call $poll_oneoff (i32.const 1024) (i32.const 16384) (i32.const 1) (i32.const 64)))))
