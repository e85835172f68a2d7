;; Grow: grows its memory page by page, writing to each page, until the host refuses; then it traps, as an allocator out of memory does (502, oom).
(module
  (memory (export "memory") 1)

  (func (export "_start")
    (local $old i32)
    (loop $more
      (local.set $old (memory.grow (i32.const 1)))
      (if (i32.ne (local.get $old) (i32.const -1))
        (then
          (i32.store8 (i32.mul (local.get $old) (i32.const 65536)) (i32.const 1))
          (br $more))))
    (unreachable)))
