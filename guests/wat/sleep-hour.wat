;; Sleep-hour: waits an hour in one hostcall (poll_oneoff on the monotonic clock) and answers after that. The deadline must end the wait (504).
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param $fd i32) (param $iovecs i32) (param $count i32) (param $put i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll_oneoff (param $in i32) (param $out i32) (param $count i32) (param $got i32) (result i32)))
  (memory (export "memory") 1)
  ;; An iovec (address 16, length 98), then the response it describes.
  (data (i32.const 0) "\10\00\00\00\62\00\00\00")
  (data (i32.const 16)
    "{\"status\":200,\"headers\":{\"Content-Type\":[\"text/plain\"]},\"body\":\"Hello from a guest that slept\\n\"}\n")

  ;; A subscription, 48 bytes at 256: user data 7, tag 0 (clock), clock 1 (monotonic), 3 600 000 000 000 ns, precision 0, flags 0 (relative).
  (data (i32.const 256)
    "\07\00\00\00\00\00\00\00" "\00\00\00\00\00\00\00\00"
    "\01\00\00\00\00\00\00\00" "\00\a0\b8\30\46\03\00\00"
    "\00\00\00\00\00\00\00\00" "\00\00\00\00\00\00\00\00")

  (func $respond
    ;; An error from the host ends the guest, so that a half-written response is never taken for a whole one.
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then (unreachable))))

  (func (export "_start")
    (if (call $poll_oneoff (i32.const 256) (i32.const 320) (i32.const 1) (i32.const 352))
      (then (unreachable)))
    (call $respond)))
