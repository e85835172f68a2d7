package gojinn

// Secret returns a secret that the Caddyfile gives to the function. Ask for it in each request: so it may change at any time, and
// is not in the snapshot.
func Secret(name string) (string, error) {
	value, err := callJSON("secret.get", struct {
		Name string `json:"name"`
	}{name}, nil, nil)
	return string(value), err
}
