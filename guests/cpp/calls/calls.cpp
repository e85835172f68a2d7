// Calls an API and counts visits, in C++: the key of the API is a secret, and the number of visits is in a key-value store.
#include "../gojinn.hpp"

// Answers with a status and a text.
static int answer(int status, const std::string &text) {
    std::string out = "{\"status\":" + std::to_string(status) +
                      ",\"headers\":{\"Content-Type\":[\"text/plain\"]},\"body\":" + gojinn::quoted(text) + "}\n";
    fwrite(out.data(), 1, out.size(), stdout);
    return 0;
}

int main() {
    // This function answers each request alike, so it only reads to the end.
    char ignored[4096];
    while (fread(ignored, 1, sizeof ignored, stdin) > 0) {}

    auto key = gojinn::secret("API_KEY");
    if (!key) return answer(500, "the secret: " + gojinn::error());
    const char *url = getenv("API_URL");
    auto response = gojinn::fetch({
        .url = url ? url : "",
        .method = "POST",
        .headers = {{"Authorization", "Bearer " + key.value}, {"Content-Type", "text/plain"}},
        .body = "from C++",
    });
    if (!response) return answer(500, "the API: " + gojinn::error());

    gojinn::KV visits("visits");
    auto n = visits.increment("cpp");
    if (!n) return answer(500, "the visits: " + gojinn::error());
    // The answer of the API is kept for later.
    if (visits.set("cpp/last", response.value.body, 60000) < 0) return answer(500, "the last answer: " + gojinn::error());
    auto last = visits.get("cpp/last");
    if (!last || !last.value) return answer(500, "the last answer: " + gojinn::error());
    return answer(response.value.status, *last.value + ", visit " + std::to_string(n.value) + "\n");
}
