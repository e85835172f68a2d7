;; a loop of host_log.
(module
  (import "gojinn" "host_log" (func $host_log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "_start") 
    (loop $l (call $host_log (i32.const 1) (i32.const 0) (i32.const 65536)) (br $l))))
