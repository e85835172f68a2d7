// This file has the operation secret.get: secrets that the Caddyfile names by a placeholder.

package gojinn

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

func init() {
	registerOperation("secret.get", getSecret)
}

var secretName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

func checkSecrets(secrets map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		if err := checkSecret(name, secrets[name]); err != nil {
			return err
		}
	}
	return nil
}

// checkSecret checks a line `secret`. The error does not contain the value, which may be a secret by mistake.
func checkSecret(name, value string) error {
	if !secretName.MatchString(name) {
		return fmt.Errorf("secret %q is not a name: want 1 to 64 letters, digits, -, _ and .", name)
	}
	var placeholder string
	if strings.HasPrefix(value, "{") {
		placeholder, _ = placeholderName(value)
	}
	if placeholder == "" || len(placeholder) != len(value)-2 {
		return fmt.Errorf("the value of secret %s is not one placeholder; write for example `secret %s {file./run/secrets/%s}`, "+
			"as text in the config is no secret: the admin API shows it", name, name, strings.ToLower(name))
	}
	if strings.HasPrefix(placeholder, "http.") {
		return fmt.Errorf("secret %s depends on the request; let the function find the value in its request", name)
	}
	return nil
}

// provisionSecrets refuses placeholders that Caddy does not know. The values are not kept.
func (h *Handler) provisionSecrets(repl *caddy.Replacer) error {
	for _, name := range slices.Sorted(maps.Keys(h.Secrets)) {
		key := strings.TrimSuffix(strings.TrimPrefix(h.Secrets[name], "{"), "}")
		if isServers(key) && !strings.HasPrefix(key, "system.") && !strings.HasPrefix(key, "time.") {
			continue // {env.*} or {file.*}, which need not be there yet.
		}
		if _, known := repl.Get(key); !known {
			return fmt.Errorf("secret %s: Caddy has no placeholder %s; write for example {file./run/secrets/%s} or {env.%s}",
				name, h.Secrets[name], strings.ToLower(name), name)
		}
	}
	return nil
}

// errNoSecret is the same for a file that is missing and for one that is empty, as Caddy does not tell them apart.
var errNoSecret = errors.New("the secret is empty, or its file or variable is missing")

// getSecret resolves the placeholder at each call, so that a secret may change at any time, and keeps nothing.
func getSecret(c *guestCall, request []byte) ([]byte, error) {
	var name string
	if _, err := decodeRequest(request, map[string]any{"name": &name}); err != nil {
		return nil, err
	}
	placeholder, given := c.handler.Secrets[name]
	if !given {
		if !secretName.MatchString(name) {
			return nil, badRequest("name is %.64q, want the name of a secret", name)
		}
		return nil, denied("the secret "+name, fmt.Sprintf("`secret %s {file./run/secrets/%s}` in the block of gojinn", name, strings.ToLower(name)))
	}
	// A new replacer, because that of the request knows what the client sent.
	value, _ := caddy.NewReplacer().GetString(strings.TrimSuffix(strings.TrimPrefix(placeholder, "{"), "}"))
	if value == "" {
		return nil, notFound("%v", errNoSecret)
	}
	return append([]byte(emptyHead), value...), nil
}
