;; a body over max_output.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 1024) "{\22body\22:\22@{20000|x}\22}")
  (func (export "_start") 
    (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 20011))(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))
