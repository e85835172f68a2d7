// Lets each request go on to Caddy's next handler, changed in each way that there is, in C++.
#include "../gojinn.hpp"

int main() {
    // This function changes each request alike, so it only reads to the end.
    char ignored[4096];
    while (fread(ignored, 1, sizeof ignored, stdin) > 0) {}

    std::string out = gojinn::next({
        .method = "PUT",
        .uri = "/v2/cpp?a=b",
        .headers = {{"X-Language", "C++"}, {"X-Two", "1"}, {"Cookie", std::nullopt}, {"x-two", "2"}},
        .vars = {{"language", "C++"}},
        .response_headers = {{"X-Frame-Options", "DENY"}, {"Link", "</a>; rel=\"preload\""}, {"Link", "</b>"}, {"Server", std::nullopt}},
    });
    fwrite(out.data(), 1, out.size(), stdout);
    return 0;
}
