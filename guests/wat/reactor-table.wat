;; Reactor-table: a reactor whose _initialize writes the table that gojinn_handle calls through. No memory image and no global holds that state.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param $fd i32) (param $iovecs i32) (param $count i32) (param $put i32) (result i32)))
  (memory (export "memory") 1)
  ;; An iovec (address 16, length 94), then the response it describes.
  (data (i32.const 0) "\10\00\00\00\5e\00\00\00")
  (data (i32.const 16)
    "{\"status\":200,\"headers\":{\"Content-Type\":[\"text/plain\"]},\"body\":\"Hello from behind a table\\n\"}\n")

  (type $answer (func))
  (table $answers 1 funcref)
  (elem declare func $respond)

  (func $respond
    ;; An error from the host ends the guest, so that a half-written response is never taken for a whole one.
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then (unreachable))))

  (func (export "_initialize")
    (table.set $answers (i32.const 0) (ref.func $respond)))

  (func (export "gojinn_handle")
    (call_indirect $answers (type $answer) (i32.const 0))))
