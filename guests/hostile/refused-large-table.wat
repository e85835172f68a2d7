;; a table of 4 billion elements.
(module (memory (export "memory") 1) (table 4294967295 funcref) (func (export "_start")))
