package check

import "strings"

// sample is a request as the host might write it, with what it means.
type sample struct {
	name, request      string
	method, uri, trace string
}

var samples = []sample{
	{
		name:    "as in the contract",
		request: `{"method":"POST","uri":"/api/x?q=1","headers":{"Content-Type":["application/json"]},"body":"...","trace_id":"abc"}` + "\n",
		method:  "POST", uri: "/api/x?q=1", trace: "abc",
	},
	{
		name: "with every addition",
		request: `{"method":"GET","uri":"/","headers":{},"body":"","body_base64":"AP+A/v8=","trace_id":"t-1","remote_addr":"192.0.2.1:4711",` +
			`"client_ip":"192.0.2.1","scheme":"https","host":"example.org","proto":"HTTP/2.0","original_uri":"/?a=b"}`,
		method: "GET", uri: "/", trace: "t-1",
	},
	{name: "an empty object", request: `{}`},
	{name: "null for missing", request: `{"method":null,"uri":null,"trace_id":null}`},
	{
		name:    "raw Unicode",
		request: `{"method":"GÉT","uri":"/日本語/😀","trace_id":"naïve"}`,
		method:  "GÉT", uri: "/日本語/😀", trace: "naïve",
	},
	{
		name:    "escapes of every kind",
		request: `{"method":"\u0047E\u0054","uri":"\/a\\b\"c\b\f\n\r\t\u0000\u001f\u007F\u00e9\u20AC","trace_id":"\uD83D\uDE00\ud834\udd1e"}`,
		method:  "GET", uri: "/a\\b\"c\b\f\n\r\t\x00\x1f\x7fé€", trace: "😀𝄞",
	},
	{
		name:    "escapes in keys",
		request: `{"\u006dethod":"GET","ur\u0069":"/k","trace\u005fid":"k"}`,
		method:  "GET", uri: "/k", trace: "k",
	},
	{
		name:    "white space everywhere",
		request: " \r\n\t{ \"method\" :\t\"GET\" ,\n\"uri\":\r\"/w\" , \"x\" : [ 1 , { } ] , \"trace_id\" : \"w\" } \n",
		method:  "GET", uri: "/w", trace: "w",
	},
	{
		name: "values to skip",
		request: `{"a":[1,-2.5e+10,true,false,null,[],{},[[{"b":"}]\"\\"}]]],"headers":{"method":["no"],"uri":["\"}"]},` +
			`"n":0,"method":"PUT","s":"\\","uri":"/s","o":{"trace_id":"no"},"trace_id":"yes","last":-0.1}`,
		method: "PUT", uri: "/s", trace: "yes",
	},
	{
		name:    "deep nesting",
		request: `{"deep":` + strings.Repeat(`[{"a":`, 40) + `1` + strings.Repeat(`}]`, 40) + `,"method":"GET","uri":"/d","trace_id":"d"}`,
		method:  "GET", uri: "/d", trace: "d",
	},
	{
		name:    "names of markup",
		request: `{"method":"GET","uri":"/<a>&'\u2028","trace_id":"</script>"}`,
		method:  "GET", uri: "/<a>&'\u2028", trace: "</script>",
	},
	{
		name:    "a body of 3 MiB",
		request: `{"method":"POST","uri":"/big","body":"` + strings.Repeat(`\"x\u00e9\n`, 3<<20/11) + `","trace_id":"big"}`,
		method:  "POST", uri: "/big", trace: "big",
	},
	{
		name:    "a URI of 100 KiB",
		request: `{"method":"GET","uri":"/` + strings.Repeat("a", 100<<10) + `","trace_id":"long"}`,
		method:  "GET", uri: "/" + strings.Repeat("a", 100<<10), trace: "long",
	},
}

// badRequests must end every hello with exit code 1, a reason on stderr and nothing on stdout.
var badRequests = []string{
	``,
	"\n",
	`x`,
	`[]`,
	`"GET"`,
	`{`,
	`{"method":"GET"`,
	`{"method":"GET",}`,
	`{"method" "GET"}`,
	`{"method":"GET" "uri":"/"}`,
	`{"method":5}`,
	`{"method":{"a":"b"}}`,
	`{"method":nope}`,
	`{"method":"\x"}`,
	`{"uri":"\u00"}`,
	`{"uri":"\u00zz"}`,
	"{\"uri\":\"a\nb\"}",
	`{"uri":"/`,
	`{"uri":"\`,
	`{"a":[1,`,
	`{"a":"`,
	`{"a":}`,
	`{method:"GET"}`,
}
