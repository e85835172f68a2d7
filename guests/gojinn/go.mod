module github.com/pauloappbr/gojinn/guests/gojinn

go 1.22
