;; headers that frame a message.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 1024) "{\22status\22:201,\22headers\22:{\22Content-Length\22:\225\22,\22Transfer-Encoding\22:\22chunked\22,\22Connection\22:\22close, X-A\22,\22X-A\22:\221\22,\22Trailer\22:\22X-B\22,\22Upgrade\22:\22h2c\22,\22Keep-Alive\22:\22x\22},\22body\22:\22still here\22}")
  (func (export "_start") 
    (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 182))(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))
