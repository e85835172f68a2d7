;; Names: answers from three named functions deep. Its identifiers become a name section, with spellings that a symboliser must bear.
;; The wat crate writes the section by itself; with wabt it takes wat2wasm --debug-names.
(module $names
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param $fd i32) (param $iovecs i32) (param $count i32) (param $put i32) (result i32)))
  (memory (export "memory") 1)
  ;; An iovec (address 16, length 95), then the response it describes.
  (data (i32.const 0) "\10\00\00\00\5f\00\00\00")
  (data (i32.const 16)
    "{\"status\":200,\"headers\":{\"Content-Type\":[\"text/plain\"]},\"body\":\"Hello from named functions\\n\"}\n")

  (func $respond
    ;; An error from the host ends the guest, so that a half-written response is never taken for a whole one.
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then (unreachable))))

  (func $main.main
    (call $hello::answer<i32>))

  (func $hello::answer<i32>
    (call $_ZN5hello7respondEv))

  (func $_ZN5hello7respondEv
    (call $respond))

  (func (export "_start")
    (call $main.main)))
