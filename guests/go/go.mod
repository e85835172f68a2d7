module github.com/pauloappbr/gojinn/guests/go

go 1.24
