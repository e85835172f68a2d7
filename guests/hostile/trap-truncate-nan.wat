;; a conversion of NaN.
(module
  (memory (export "memory") 1)
  (func (export "_start") 
    (i32.store (i32.const 64) (i32.trunc_f32_s (f32.const nan)))))
