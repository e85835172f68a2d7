;; Trap: writes a complete, valid response and then traps. The answer must be 502: a trap counts whatever was written before it.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param $fd i32) (param $iovecs i32) (param $count i32) (param $put i32) (result i32)))
  (memory (export "memory") 1)
  ;; An iovec (address 16, length 100), then the response it describes.
  (data (i32.const 0) "\10\00\00\00\64\00\00\00")
  (data (i32.const 16)
    "{\"status\":200,\"headers\":{\"Content-Type\":[\"text/plain\"]},\"body\":\"Hello from a guest that trapped\\n\"}\n")

  (func $respond
    ;; An error from the host ends the guest, so that a half-written response is never taken for a whole one.
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then (unreachable))))

  (func $give_up
    (unreachable))

  (func (export "_start")
    (call $respond)
    (call $give_up)))
