;; Reactor-count: a reactor with state; its answer counts the requests since _initialize, from 1. It traps if memory and global do not agree on the number.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param $fd i32) (param $iovecs i32) (param $count i32) (param $put i32) (result i32)))
  (memory (export "memory") 1)
  ;; An iovec (address 16, length 83), then the response it describes; the digit is at 88.
  (data (i32.const 0) "\10\00\00\00\53\00\00\00")
  (data (i32.const 16)
    "{\"status\":200,\"headers\":{\"Content-Type\":[\"text/plain\"]},\"body\":\"request 0 of 9\\n\"}\n")

  ;; Requests so far; the same number is in memory at 256.
  (global $count (mut i32) (i32.const -1))

  (func (export "_initialize")
    (if (i32.ne (global.get $count) (i32.const -1))
      (then (unreachable)))
    (global.set $count (i32.const 0)))

  (func (export "gojinn_handle")
    (if (i32.ne (global.get $count) (i32.load (i32.const 256)))
      (then (unreachable)))
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (i32.store (i32.const 256) (global.get $count))
    (i32.store8 (i32.const 88) (i32.add (i32.const 48) (global.get $count)))
    ;; An error from the host ends the guest, so that a half-written response is never taken for a whole one.
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then (unreachable)))))
