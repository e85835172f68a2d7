module github.com/pauloappbr/gojinn/benches/http/load

go 1.26
