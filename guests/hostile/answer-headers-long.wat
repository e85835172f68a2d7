;; headers of 100 KB.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 3)
  (data (i32.const 1024) "{\22headers\22:{\22X-A\22:\22@{100000|x}\22}}")
  (func (export "_start") 
    (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 100022))(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))
