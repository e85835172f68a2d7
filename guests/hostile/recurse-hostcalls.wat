;; endless recursion with a hostcall in each frame.
(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func $f (param i32) (result i32) (drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 64))) (i32.add (call $f (local.get 0)) (i32.const 1)))
  (func (export "_start") 
    (drop (call $f (i32.const 1)))))
