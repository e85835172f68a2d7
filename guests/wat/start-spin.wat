;; Start-spin: loops forever in its start function, so instantiation itself never ends. The deadline must cover that too (504).
(module
  (memory (export "memory") 1)

  (func $forever
    (loop $again
      (br $again)))
  (start $forever)

  (func (export "_start")))
