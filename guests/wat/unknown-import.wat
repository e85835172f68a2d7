;; Unknown-import: asks for env.foo, which no host offers. The config must be refused, with the import's name.
(module
  (import "env" "foo" (func $foo (param i32) (result i32)))
  (memory (export "memory") 1)

  (func (export "_start")
    (drop (call $foo (i32.const 1)))))
