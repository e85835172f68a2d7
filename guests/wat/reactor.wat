;; Reactor: no _start; _initialize runs once, then gojinn_handle runs once per request and answers. It traps if _initialize did not run first, or ran twice.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param $fd i32) (param $iovecs i32) (param $count i32) (param $put i32) (result i32)))
  (memory (export "memory") 1)
  ;; An iovec (address 16, length 93), then the response it describes.
  (data (i32.const 0) "\10\00\00\00\5d\00\00\00")
  (data (i32.const 16)
    "{\"status\":200,\"headers\":{\"Content-Type\":[\"text/plain\"]},\"body\":\"Hello from a wat reactor\\n\"}\n")

  (global $initialized (mut i32) (i32.const 0))

  (func $respond
    ;; An error from the host ends the guest, so that a half-written response is never taken for a whole one.
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then (unreachable))))

  (func (export "_initialize")
    (if (global.get $initialized)
      (then (unreachable)))
    (global.set $initialized (i32.const 1)))

  (func (export "gojinn_handle")
    (if (i32.eqz (global.get $initialized))
      (then (unreachable)))
    (call $respond)))
