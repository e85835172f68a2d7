module github.com/pauloappbr/gojinn/guests/go/github

go 1.24.0

replace github.com/pauloappbr/gojinn/guests/gojinn => ../../gojinn

require (
	github.com/google/go-github/v75 v75.0.0
	github.com/pauloappbr/gojinn/guests/gojinn v0.0.0
)

require github.com/google/go-querystring v1.1.0 // indirect
