;; a wait for 300 clocks.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $i i32) 
    (loop $l (i64.store (i32.add (i32.const 1024) (i32.mul (local.get $i) (i32.const 48))) (i64.const 1)) (i32.store (i32.add (i32.const 1040) (i32.mul (local.get $i) (i32.const 48))) (i32.const 1)) (i64.store (i32.add (i32.const 1048) (i32.mul (local.get $i) (i32.const 48))) (i64.const 3600000000000)) (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 300)))) (drop (call $poll_oneoff (i32.const 1024) (i32.const 32768) (i32.const 300) (i32.const 64)))))
