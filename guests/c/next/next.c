/* Lets each request go on to Caddy's next handler, changed in each way that there is, in C. */
#include "../gojinn.h"

int main(void) {
    /* This function changes each request alike, so it only reads to the end. */
    char ignored[4096];
    while (fread(ignored, 1, sizeof ignored, stdin) > 0) {}

    const gojinn_pair headers[] = {{"X-Language", "C"}, {"X-Two", "1"}, {"Cookie", NULL}, {"x-two", "2"}, {NULL, NULL}};
    const gojinn_pair vars[] = {{"language", "C"}, {NULL, NULL}};
    const gojinn_pair response_headers[] = {
        {"X-Frame-Options", "DENY"}, {"Link", "</a>; rel=\"preload\""}, {"Link", "</b>"}, {"Server", NULL}, {NULL, NULL}};
    gojinn_bytes out = gojinn_next_response(&(gojinn_next){
        .method = "PUT", .uri = "/v2/c?a=b", .headers = headers, .vars = vars, .response_headers = response_headers});
    fwrite(out.at, 1, out.length, stdout);
    return 0;
}
