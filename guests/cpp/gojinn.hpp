// Calls of Gojinn's operations from C++: HTTP requests, key-value stores and secrets, with strings in place of pointers; and the
// response that lets a request go on to Caddy's next handler.
//
// docs/outbound.md describes the operations and the codes, docs/middleware.md the response. A function whose result is optional gives none for "not found"; other
// errors are in `code` of the result, below 0, and error() is the host's text. There are no exceptions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../c/gojinn.h"

namespace gojinn {

// The text of the last error.
inline std::string error() { return gojinn_error(); }

// A result, which is there if code is 0.
template <typename T>
struct Result {
    int code = 0;
    T value{};
    explicit operator bool() const { return code >= 0; }
};

namespace detail {
inline std::string take(gojinn_bytes bytes) {
    std::string text(bytes.at, bytes.length);
    free(bytes.at);
    return text;
}
}  // namespace detail

struct Response {
    int status = 0;
    // The JSON object with `status`, `url` and `headers`.
    std::string head;
    std::string body;
};

struct Request {
    std::string url;
    std::string method = "GET";
    std::vector<std::pair<std::string, std::string>> headers = {};
    std::string body = "";
};

// Sends a request to a server that the Caddyfile allows.
inline Result<Response> fetch(const Request &request) {
    std::vector<const char *> headers;
    for (const auto &[name, value] : request.headers) {
        headers.push_back(name.c_str());
        headers.push_back(value.c_str());
    }
    headers.push_back(nullptr);
    gojinn_request raw = {request.method.c_str(), request.url.c_str(), headers.data(), request.body.data(), request.body.size(), 0, false};
    gojinn_response got = {};
    Result<Response> result;
    result.code = gojinn_fetch(&raw, &got);
    if (result) {
        std::string head = detail::take(got.head);
        head.resize(head.find('\n') == std::string::npos ? head.size() : head.find('\n'));
        result.value = {got.status, std::move(head), detail::take(got.body)};
    }
    return result;
}

// A key-value store that the Caddyfile gives to the function.
class KV {
  public:
    explicit KV(std::string store) : store(std::move(store)) {}

    // The value of a key; none if there is no such key.
    Result<std::optional<std::string>> get(const std::string &key) const {
        gojinn_bytes value = {};
        Result<std::optional<std::string>> result;
        result.code = gojinn_kv_get(store.c_str(), key.c_str(), &value);
        if (result.code == GOJINN_NOT_FOUND) result.code = 0;
        else if (result) result.value = detail::take(value);
        return result;
    }

    // Sets a value, which is deleted after ttl_ms milliseconds, or stays if that is 0. Returns 0 or a code.
    int set(const std::string &key, std::string_view value, int64_t ttl_ms = 0) const {
        return gojinn_kv_set(store.c_str(), key.c_str(), value.data(), value.size(), ttl_ms);
    }

    int remove(const std::string &key) const { return gojinn_kv_delete(store.c_str(), key.c_str()); }

    Result<bool> exists(const std::string &key) const {
        Result<bool> result;
        result.code = gojinn_kv_exists(store.c_str(), key.c_str(), &result.value);
        return result;
    }

    // Adds to the number that is the value of a key. A missing key is 0, and gets the time ttl_ms.
    Result<int64_t> increment(const std::string &key, int64_t delta = 1, int64_t ttl_ms = 0) const {
        Result<int64_t> result;
        result.code = gojinn_kv_increment(store.c_str(), key.c_str(), delta, ttl_ms, &result.value);
        return result;
    }

    // Sets the value of a key if the present one is expected; without one, the key must not exist.
    Result<bool> compare_and_swap(const std::string &key, std::optional<std::string_view> expected, std::string_view value) const {
        Result<bool> result;
        const char *old = expected ? (expected->data() ? expected->data() : "") : nullptr;
        result.code = gojinn_kv_compare_and_swap(
            store.c_str(), key.c_str(), old, expected ? expected->size() : 0, value.data(), value.size(), &result.value);
        return result;
    }

  private:
    std::string store;
};

// A secret that the Caddyfile gives to the function.
inline Result<std::string> secret(const std::string &name) {
    gojinn_bytes value = {};
    Result<std::string> result;
    result.code = gojinn_secret(name.c_str(), &value);
    if (result) result.value = detail::take(value);
    return result;
}

// Names and values. A name without a value is a header that is removed.
using Changes = std::vector<std::pair<std::string, std::optional<std::string>>>;

// How a request changes that goes on to Caddy's next handler in place of being answered. What is empty changes nothing.
struct Next {
    std::string method = "";
    // Path and query, percent-encoded.
    std::string uri = "";
    // Headers of the request. Several pairs of one name are several values.
    Changes headers = {};
    // {http.vars.NAME} of later handlers. The last pair of a name counts.
    std::vector<std::pair<std::string, std::string>> vars = {};
    // Headers of the response, whichever handler writes it.
    Changes response_headers = {};
};

namespace detail {
// The pairs of a list, which points into it and ends with a pair without a name.
template <typename List>
std::vector<gojinn_pair> pairs(const List &list) {
    std::vector<gojinn_pair> pairs;
    for (const auto &[name, value] : list) {
        if constexpr (requires { value->c_str(); }) {
            pairs.push_back({name.c_str(), value ? value->c_str() : nullptr});
        } else {
            pairs.push_back({name.c_str(), value.c_str()});
        }
    }
    pairs.push_back({nullptr, nullptr});
    return pairs;
}
}  // namespace detail

// The response of a function that lets the request go on. Write it to stdout, as any response.
inline std::string next(const Next &changes = {}) {
    auto headers = detail::pairs(changes.headers), vars = detail::pairs(changes.vars),
         response_headers = detail::pairs(changes.response_headers);
    gojinn_next raw = {changes.method.empty() ? nullptr : changes.method.c_str(), changes.uri.empty() ? nullptr : changes.uri.c_str(),
                       headers.data(), vars.data(), response_headers.data()};
    return detail::take(gojinn_next_response(&raw));
}

// A text as a JSON string, for the response of the function.
inline std::string quoted(std::string_view text) {
    gojinn_bytes json = {};
    gojinn_append_string(&json, std::string(text).c_str());
    return detail::take(json);
}

}  // namespace gojinn
