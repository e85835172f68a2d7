;; Spin: loops forever without a hostcall. Only the deadline ends it (504).
(module
  (memory (export "memory") 1)

  (func (export "_start")
    (loop $forever
      (br $forever))))
