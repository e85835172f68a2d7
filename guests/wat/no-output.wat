;; No-output: ends at once, successfully, without writing anything. The answer is 502 (bad output).
(module
  (memory (export "memory") 1)

  (func (export "_start")))
