/* Calls of Gojinn's operations from C and C++: HTTP requests, key-value stores and secrets; and the response that lets a request go
 * on to Caddy's next handler. Include it in one file of the program.
 *
 * docs/outbound.md describes the operations and the codes, docs/middleware.md the response. Every function returns 0, or a code below 0; then gojinn_error() is the
 * host's text. What a function gives out was allocated with malloc, and is the caller's. */
#ifndef GOJINN_H
#define GOJINN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    GOJINN_UNKNOWN = -1,
    GOJINN_DENIED = -2,
    GOJINN_BAD_REQUEST = -3,
    GOJINN_FAILED = -4,
    GOJINN_TOO_LARGE = -5,
    GOJINN_NOT_NOW = -6,
    GOJINN_NOT_FOUND = -7,
};

__attribute__((import_module("gojinn"), import_name("call"))) int32_t gojinn_import_call(
    const char *operation, int32_t operation_length, const char *request, int32_t request_length);
__attribute__((import_module("gojinn"), import_name("reply"))) int32_t gojinn_import_reply(char *bytes, int32_t length);

/* Bytes with a NUL behind them, which does not count. */
typedef struct {
    char *at;
    size_t length;
} gojinn_bytes;

/* The text of the last error. */
static char gojinn_error_text[1025];
static inline const char *gojinn_error(void) { return gojinn_error_text; }

/* --- writing requests --- */

static inline void gojinn_append(gojinn_bytes *to, const void *bytes, size_t length) {
    /* A program without memory cannot go on. */
    char *grown = (char *)realloc(to->at, to->length + length + 1);
    if (grown == NULL) abort();
    to->at = grown;
    if (length > 0) memcpy(to->at + to->length, bytes, length);
    to->length += length;
    to->at[to->length] = 0;
}

static inline void gojinn_append_text(gojinn_bytes *to, const char *text) { gojinn_append(to, text, strlen(text)); }

/* Appends a text, which is UTF-8, as a JSON string. */
static inline void gojinn_append_string(gojinn_bytes *to, const char *text) {
    gojinn_append(to, "\"", 1);
    for (const char *c = text; *c != 0; c++) {
        char escaped[8];
        if (*c == '"' || *c == '\\') {
            snprintf(escaped, sizeof escaped, "\\%c", *c);
            gojinn_append_text(to, escaped);
        } else if ((unsigned char)*c < 0x20) {
            snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)*c);
            gojinn_append_text(to, escaped);
        } else {
            gojinn_append(to, c, 1);
        }
    }
    gojinn_append(to, "\"", 1);
}

static inline void gojinn_append_number(gojinn_bytes *to, int64_t number) {
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)number);
    gojinn_append_text(to, text);
}

/* --- calling --- */

/* Calls an operation with a request, and sets reply. The functions below do it for their operations. */
static inline int gojinn_call(const char *operation, gojinn_bytes request, gojinn_bytes *reply) {
    int32_t n = gojinn_import_call(operation, (int32_t)strlen(operation), request.at, (int32_t)request.length);
    if (n < 0) {
        int32_t got = gojinn_import_reply(gojinn_error_text, (int32_t)sizeof gojinn_error_text - 1);
        gojinn_error_text[got < 0 ? 0 : got] = 0;
        return n;
    }
    reply->at = (char *)malloc((size_t)n + 1);
    if (reply->at == NULL) abort();
    n = gojinn_import_reply(reply->at, n);
    reply->length = n < 0 ? 0 : (size_t)n;
    reply->at[reply->length] = 0;
    return 0;
}

/* Where in the JSON object of a reply the value of a key begins, or NULL. Keys of objects inside of it do not count. */
static inline const char *gojinn_field(const char *object, const char *key) {
    size_t length = strlen(key);
    int depth = 0;
    for (const char *c = object; *c != 0 && *c != '\n'; c++) {
        if (*c == '{' || *c == '[') depth++;
        if (*c == '}' || *c == ']') depth--;
        if (*c != '"') continue;
        const char *start = ++c;
        for (; *c != 0 && *c != '"'; c++) {
            if (*c == '\\' && c[1] != 0) c++;
        }
        if (*c == 0) return NULL;
        if (depth == 1 && c[1] == ':' && (size_t)(c - start) == length && memcmp(start, key, length) == 0) return c + 2;
    }
    return NULL;
}

/* The bytes behind the JSON object of a reply, as a copy. */
static inline gojinn_bytes gojinn_body(gojinn_bytes reply) {
    gojinn_bytes body = {NULL, 0};
    const char *line = (const char *)memchr(reply.at, '\n', reply.length);
    size_t head = line == NULL ? reply.length : (size_t)(line - reply.at) + 1;
    gojinn_append(&body, reply.at + head, reply.length - head);
    return body;
}

/* Calls an operation and frees request and reply. value gets the reply's bytes; object, if it is not NULL, the whole reply. */
static inline int gojinn_call_for(const char *operation, gojinn_bytes request, gojinn_bytes *value, gojinn_bytes *object) {
    gojinn_bytes reply = {NULL, 0};
    int code = gojinn_call(operation, request, &reply);
    free(request.at);
    if (code < 0) return code;
    if (value != NULL) *value = gojinn_body(reply);
    if (object != NULL) *object = reply;
    else free(reply.at);
    return 0;
}

/* --- HTTP --- */

typedef struct {
    const char *method; /* NULL is GET */
    const char *url;
    const char *const *headers; /* names and values in turns, then NULL; or NULL */
    const void *body;
    size_t body_length;
    int64_t timeout_ms;  /* 0 for that of the Caddyfile */
    bool manual;         /* return redirects, in place of following them */
} gojinn_request;

typedef struct {
    int status;
    gojinn_bytes head; /* the JSON object with `status`, `url` and `headers`, and what follows it */
    gojinn_bytes body;
} gojinn_response;

/* Sends a request to a server that the Caddyfile allows. */
static inline int gojinn_fetch(const gojinn_request *request, gojinn_response *response) {
    gojinn_bytes text = {NULL, 0};
    gojinn_append_text(&text, "{\"url\":");
    gojinn_append_string(&text, request->url);
    if (request->method != NULL) {
        gojinn_append_text(&text, ",\"method\":");
        gojinn_append_string(&text, request->method);
    }
    if (request->headers != NULL && request->headers[0] != NULL) {
        gojinn_append_text(&text, ",\"headers\":{");
        for (const char *const *pair = request->headers; pair[0] != NULL; pair += 2) {
            if (pair != request->headers) gojinn_append_text(&text, ",");
            gojinn_append_string(&text, pair[0]);
            gojinn_append_text(&text, ":");
            gojinn_append_string(&text, pair[1]);
        }
        gojinn_append_text(&text, "}");
    }
    if (request->manual) gojinn_append_text(&text, ",\"redirect\":\"manual\"");
    if (request->timeout_ms != 0) {
        gojinn_append_text(&text, ",\"timeout_ms\":");
        gojinn_append_number(&text, request->timeout_ms);
    }
    gojinn_append_text(&text, "}\n");
    if (request->body_length > 0) gojinn_append(&text, request->body, request->body_length);
    int code = gojinn_call_for("http.send", text, &response->body, &response->head);
    if (code < 0) return code;
    const char *status = gojinn_field(response->head.at, "status");
    response->status = status == NULL ? 0 : atoi(status);
    return 0;
}

/* --- key-value stores --- */

/* The beginning of a request: store and key. */
static inline gojinn_bytes gojinn_kv_request(const char *store, const char *key, int64_t ttl_ms) {
    gojinn_bytes text = {NULL, 0};
    gojinn_append_text(&text, "{\"store\":");
    gojinn_append_string(&text, store);
    gojinn_append_text(&text, ",\"key\":");
    gojinn_append_string(&text, key);
    if (ttl_ms != 0) {
        gojinn_append_text(&text, ",\"ttl_ms\":");
        gojinn_append_number(&text, ttl_ms);
    }
    return text;
}

/* Gets the value of a key; GOJINN_NOT_FOUND if there is none. */
static inline int gojinn_kv_get(const char *store, const char *key, gojinn_bytes *value) {
    gojinn_bytes text = gojinn_kv_request(store, key, 0);
    gojinn_append_text(&text, "}\n");
    return gojinn_call_for("kv.get", text, value, NULL);
}

/* Sets the value of a key, which is deleted after ttl_ms milliseconds, or stays if that is 0. */
static inline int gojinn_kv_set(const char *store, const char *key, const void *value, size_t length, int64_t ttl_ms) {
    gojinn_bytes text = gojinn_kv_request(store, key, ttl_ms);
    gojinn_append_text(&text, "}\n");
    gojinn_append(&text, value, length);
    return gojinn_call_for("kv.set", text, NULL, NULL);
}

/* Deletes a key. It is no error if there is none. */
static inline int gojinn_kv_delete(const char *store, const char *key) {
    gojinn_bytes text = gojinn_kv_request(store, key, 0);
    gojinn_append_text(&text, "}\n");
    return gojinn_call_for("kv.delete", text, NULL, NULL);
}

/* Calls an operation whose reply has a field that is true or false. */
static inline int gojinn_kv_ask(const char *operation, gojinn_bytes text, const char *field, bool *answer) {
    gojinn_bytes reply = {NULL, 0};
    int code = gojinn_call_for(operation, text, NULL, &reply);
    if (code < 0) return code;
    const char *value = gojinn_field(reply.at, field);
    *answer = value != NULL && *value == 't';
    free(reply.at);
    return 0;
}

static inline int gojinn_kv_exists(const char *store, const char *key, bool *exists) {
    gojinn_bytes text = gojinn_kv_request(store, key, 0);
    gojinn_append_text(&text, "}\n");
    return gojinn_kv_ask("kv.exists", text, "exists", exists);
}

/* Adds delta to the number that is the value of a key. A missing key is 0, and gets the time ttl_ms. */
static inline int gojinn_kv_increment(const char *store, const char *key, int64_t delta, int64_t ttl_ms, int64_t *sum) {
    gojinn_bytes text = gojinn_kv_request(store, key, ttl_ms), reply = {NULL, 0};
    gojinn_append_text(&text, ",\"delta\":");
    gojinn_append_number(&text, delta);
    gojinn_append_text(&text, "}\n");
    int code = gojinn_call_for("kv.increment", text, NULL, &reply);
    if (code < 0) return code;
    const char *value = gojinn_field(reply.at, "value");
    *sum = value == NULL ? 0 : strtoll(value, NULL, 10);
    free(reply.at);
    return 0;
}

/* Sets the value of a key if the present one is expected; if expected is NULL, the key must not exist. */
static inline int gojinn_kv_compare_and_swap(const char *store, const char *key, const void *expected, size_t expected_length,
                                             const void *value, size_t length, bool *swapped) {
    gojinn_bytes text = gojinn_kv_request(store, key, 0);
    gojinn_append_text(&text, ",\"expect\":");
    if (expected == NULL) {
        gojinn_append_text(&text, "null");
    } else {
        gojinn_append_number(&text, (int64_t)expected_length);
    }
    gojinn_append_text(&text, "}\n");
    if (expected != NULL) gojinn_append(&text, expected, expected_length);
    gojinn_append(&text, value, length);
    return gojinn_kv_ask("kv.compare_and_swap", text, "swapped", swapped);
}

/* --- secrets --- */

/* Gets a secret that the Caddyfile gives to the function. */
static inline int gojinn_secret(const char *name, gojinn_bytes *value) {
    gojinn_bytes text = {NULL, 0};
    gojinn_append_text(&text, "{\"name\":");
    gojinn_append_string(&text, name);
    gojinn_append_text(&text, "}\n");
    return gojinn_call_for("secret.get", text, value, NULL);
}

/* --- going on to Caddy's next handler --- */

/* A name and a value. A pair without a name ends a list of them. */
typedef struct {
    const char *name;
    const char *value; /* NULL removes the header */
} gojinn_pair;

/* How a request changes that goes on to Caddy's next handler in place of being answered. NULL changes nothing. */
typedef struct {
    const char *method;
    const char *uri;                     /* path and query, percent-encoded */
    const gojinn_pair *headers;          /* of the request; several pairs of one name are several values */
    const gojinn_pair *vars;             /* {http.vars.NAME} of later handlers; the last pair of a name counts */
    const gojinn_pair *response_headers; /* of the response, whichever handler writes it */
} gojinn_next;

/* Appends a JSON object: each name with an array of its values, which is empty if the header is removed. */
static inline void gojinn_append_headers(gojinn_bytes *to, const gojinn_pair *list) {
    gojinn_append(to, "{", 1);
    for (const gojinn_pair *pair = list; pair->name != NULL; pair++) {
        const gojinn_pair *other = list;
        while (strcasecmp(other->name, pair->name) != 0) other++;
        if (other != pair) continue; /* It was written with the first pair of its name. */
        if (pair != list) gojinn_append(to, ",", 1);
        gojinn_append_string(to, pair->name);
        const char *before = ":[";
        for (; other->name != NULL; other++) {
            if (other->value == NULL || strcasecmp(other->name, pair->name) != 0) continue;
            gojinn_append_text(to, before);
            gojinn_append_string(to, other->value);
            before = ",";
        }
        gojinn_append_text(to, *before == ':' ? ":[]" : "]");
    }
    gojinn_append(to, "}", 1);
}

/* The response of a function that lets the request go on. Write it to stdout, as any response. */
static inline gojinn_bytes gojinn_next_response(const gojinn_next *next) {
    gojinn_bytes out = {NULL, 0};
    gojinn_append_text(&out, "{\"next\":true");
    if (next->method != NULL) {
        gojinn_append_text(&out, ",\"method\":");
        gojinn_append_string(&out, next->method);
    }
    if (next->uri != NULL) {
        gojinn_append_text(&out, ",\"uri\":");
        gojinn_append_string(&out, next->uri);
    }
    if (next->headers != NULL) {
        gojinn_append_text(&out, ",\"headers\":");
        gojinn_append_headers(&out, next->headers);
    }
    if (next->vars != NULL) {
        const char *before = ",\"vars\":{";
        for (const gojinn_pair *pair = next->vars; pair->name != NULL; pair++) {
            const gojinn_pair *later = pair + 1;
            while (later->name != NULL && strcmp(later->name, pair->name) != 0) later++;
            if (later->name != NULL || pair->value == NULL) continue;
            gojinn_append_text(&out, before);
            gojinn_append_string(&out, pair->name);
            gojinn_append_text(&out, ":");
            gojinn_append_string(&out, pair->value);
            before = ",";
        }
        if (before[1] == 0) gojinn_append_text(&out, "}");
    }
    if (next->response_headers != NULL) {
        gojinn_append_text(&out, ",\"response_headers\":");
        gojinn_append_headers(&out, next->response_headers);
    }
    gojinn_append_text(&out, "}\n");
    return out;
}

#ifdef __cplusplus
}
#endif
#endif
