/* Calls an API and counts visits, in C: the key of the API is a secret, and the number of visits is in a key-value store. */
#include "../gojinn.h"

/* Answers 500 with what the host said, and ends. */
_Noreturn static void fail(const char *what) {
    gojinn_bytes out = {NULL, 0}, text = {NULL, 0};
    gojinn_append_text(&text, what);
    gojinn_append_text(&text, ": ");
    gojinn_append_text(&text, gojinn_error());
    gojinn_append_text(&out, "{\"status\":500,\"headers\":{\"Content-Type\":[\"text/plain\"]},\"body\":");
    gojinn_append_string(&out, text.at);
    gojinn_append_text(&out, "}\n");
    fwrite(out.at, 1, out.length, stdout);
    exit(0);
}

int main(void) {
    /* This function answers each request alike, so it only reads to the end. */
    char ignored[4096];
    while (fread(ignored, 1, sizeof ignored, stdin) > 0) {}

    gojinn_bytes key = {NULL, 0};
    if (gojinn_secret("API_KEY", &key) < 0) fail("the secret");
    gojinn_bytes bearer = {NULL, 0};
    gojinn_append_text(&bearer, "Bearer ");
    gojinn_append(&bearer, key.at, key.length);

    const char *url = getenv("API_URL");
    const char *headers[] = {"Authorization", bearer.at, "Content-Type", "text/plain", NULL};
    gojinn_request request = {.method = "POST", .url = url ? url : "", .headers = headers, .body = "from C", .body_length = 6};
    gojinn_response response = {0};
    if (gojinn_fetch(&request, &response) < 0) fail("the API");

    int64_t visits = 0;
    if (gojinn_kv_increment("visits", "c", 1, 0, &visits) < 0) fail("the visits");
    /* The answer of the API is kept for later. */
    if (gojinn_kv_set("visits", "c/last", response.body.at, response.body.length, 60000) < 0) fail("the last answer");
    gojinn_bytes last = {NULL, 0};
    if (gojinn_kv_get("visits", "c/last", &last) < 0) fail("the last answer");

    gojinn_bytes body = {NULL, 0}, out = {NULL, 0};
    gojinn_append(&body, last.at, last.length);
    gojinn_append_text(&body, ", visit ");
    gojinn_append_number(&body, visits);
    gojinn_append_text(&body, "\n");
    gojinn_append_text(&out, "{\"status\":");
    gojinn_append_number(&out, response.status);
    gojinn_append_text(&out, ",\"headers\":{\"Content-Type\":[\"text/plain\"]},\"body\":");
    gojinn_append_string(&out, body.at);
    gojinn_append_text(&out, "}\n");
    fwrite(out.at, 1, out.length, stdout);
    return 0;
}
