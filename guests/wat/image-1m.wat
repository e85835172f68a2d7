;; Image-1m: 1 MiB of memory whose image has data in each of its 16 wasm pages. It checks that each page is as the image says, dirties it, and answers.
;; A page left dirty by an earlier sandbox makes it trap (502): it measures the reset and proves it.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param $fd i32) (param $iovecs i32) (param $count i32) (param $put i32) (result i32)))
  (memory (export "memory") 16 16)
  ;; An iovec (address 16, length 93), then the response it describes.
  (data (i32.const 0) "\10\00\00\00\5d\00\00\00")
  (data (i32.const 16)
    "{\"status\":200,\"headers\":{\"Content-Type\":[\"text/plain\"]},\"body\":\"Hello from a 1 MiB image\\n\"}\n")

  ;; One small segment a page, at offset 4096 in it.
  (data (i32.const 4096) "page 00")
  (data (i32.const 69632) "page 01")
  (data (i32.const 135168) "page 02")
  (data (i32.const 200704) "page 03")
  (data (i32.const 266240) "page 04")
  (data (i32.const 331776) "page 05")
  (data (i32.const 397312) "page 06")
  (data (i32.const 462848) "page 07")
  (data (i32.const 528384) "page 08")
  (data (i32.const 593920) "page 09")
  (data (i32.const 659456) "page 10")
  (data (i32.const 724992) "page 11")
  (data (i32.const 790528) "page 12")
  (data (i32.const 856064) "page 13")
  (data (i32.const 921600) "page 14")
  (data (i32.const 987136) "page 15")

  (func $respond
    ;; An error from the host ends the guest, so that a half-written response is never taken for a whole one.
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then (unreachable))))

  (func $touch (param $page i32)
    (local $at i32)
    (local.set $at (i32.add (i32.mul (local.get $page) (i32.const 65536)) (i32.const 4096)))
    ;; "page" as a little-endian word.
    (if (i32.ne (i32.load (local.get $at)) (i32.const 0x65676170))
      (then (unreachable)))
    (i32.store (local.get $at) (i32.const 0x74726964)))

  (func (export "_start")
    (local $page i32)
    (loop $next
      (call $touch (local.get $page))
      (local.set $page (i32.add (local.get $page) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $page) (i32.const 16))))
    (call $respond)))
