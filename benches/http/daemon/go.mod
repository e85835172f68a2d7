module github.com/pauloappbr/gojinn/benches/http/daemon

go 1.26
