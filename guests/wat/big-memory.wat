;; Big-memory: declares 4 GiB of memory from the start (65 536 pages, the most there can be). Over any memory limit: it must be refused before it runs.
(module
  (memory (export "memory") 65536)

  (func (export "_start")))
