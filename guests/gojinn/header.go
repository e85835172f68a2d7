package gojinn

// Header maps canonical header names ("Content-Type") to their values. It converts to an http.Header and back.
type Header map[string][]string

// Set makes value the only one of that name.
func (h Header) Set(name, value string) {
	h[canonical(name)] = []string{value}
}

// Add adds a value to those of that name.
func (h Header) Add(name, value string) {
	name = canonical(name)
	h[name] = append(h[name], value)
}

// Del removes all values of that name.
func (h Header) Del(name string) {
	delete(h, canonical(name))
}

// Get is the first value of that name, in any case; "" if there is none.
func (h Header) Get(name string) string {
	if values := h.Values(name); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Values are all values of that name, in any case. They are not a copy.
func (h Header) Values(name string) []string {
	return h[canonical(name)]
}

// canonical spells a name as Go and the host do: capitals at the start and after each hyphen. net/textproto knows how, too,
// but brings the whole of net with it.
func canonical(name string) string {
	spelled := []byte(name)
	begins := true
	for i, c := range spelled {
		switch {
		case begins && 'a' <= c && c <= 'z':
			spelled[i] = c - 'a' + 'A'
		case !begins && 'A' <= c && c <= 'Z':
			spelled[i] = c - 'A' + 'a'
		}
		begins = c == '-'
	}
	return string(spelled)
}
