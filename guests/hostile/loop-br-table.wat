;; a loop through br_table.
(module
  (memory (export "memory") 1)
  (func (export "_start") (local $i i32) 
    (loop $l (block $a (block $b (br_table $a $b $l (local.get $i)))) (br $l))))
