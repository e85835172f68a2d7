;; a new directory in one that is read-only.
(module
  (import "wasi_snapshot_preview1" "path_create_directory" (func $path_create_directory (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "dir")
  (data (i32.const 48) "{\22status\22:201,\22body\22:\22still here\22}")
  (func $answer
    (i32.store (i32.const 32) (i32.const 48)) (i32.store (i32.const 36) (i32.const 34))
    (drop (call $fd_write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 40))))
  (func (export "_start") 
    (if (i32.eqz (call $path_create_directory (i32.const 3) (i32.const 1024) (i32.const 3))) (then unreachable)) (call $answer)))
