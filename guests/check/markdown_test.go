package check

import (
	"slices"
	"testing"
)

func TestMarkdown(t *testing.T) {
	guest := load(t, built(t, "go-markdown"))
	for source, want := range map[string]string{
		"":                           "",
		"# Über *alles* & <more>\n":  "<h1>Über <em>alles</em> &amp; <!-- raw HTML omitted --></h1>\n",
		"a\n\n<script>x</script>\n":  "<p>a</p>\n<!-- raw HTML omitted -->\n",
		"[x](javascript:alert(1))\n": "<p><a href=\"\">x</a></p>\n",
		"|a|b|\n|-|-|\n|1|~~2~~|\n":  "<table>\n<thead>\n<tr>\n<th>a</th>\n<th>b</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td>1</td>\n<td><del>2</del></td>\n</tr>\n</tbody>\n</table>\n",
	} {
		got := respond(t, guest, post(t, "/", "text/markdown", []byte(source)))
		if got.Status != 200 || got.Body != want {
			t.Errorf("%q: status %d, body %q, want %q", source, got.Status, got.Body, want)
		}
		if want := []string{"text/html; charset=utf-8"}; !slices.Equal(got.Headers["Content-Type"], want) {
			t.Errorf("%q: headers %v", source, got.Headers)
		}
	}
	if got := respond(t, guest, post(t, "/", "text/markdown", []byte{0xff})); got.Status != 415 {
		t.Errorf("binary body: status %d, want 415", got.Status)
	}
}
