module github.com/pauloappbr/gojinn/guests/go/markdown

go 1.24

require github.com/pauloappbr/gojinn/guests/go v0.0.0

require github.com/yuin/goldmark v1.8.7

replace github.com/pauloappbr/gojinn/guests/go => ../
