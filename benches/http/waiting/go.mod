module github.com/pauloappbr/gojinn/benches/http/waiting

go 1.25
