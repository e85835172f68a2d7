/* Tests the whole ABI from C, with only the header: abi <hello.wasm> <cgi.wasm>
 *
 * For every backend of the build it makes an engine, deploys, calls, cancels and frees. run.sh runs it plain, under ASAN and
 * under Valgrind. The modules are guests/c/hello and guests/c/cgi. */
#include "gojinn.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition);      \
            exit(1);                                                                           \
        }                                                                                      \
    } while (0)

/* (module (func (export "_start") (loop (br 0)))) */
static const uint8_t SPIN[] = {0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, 0x01, 0x04, 0x01, 0x60, 0x00, 0x00,
                               0x03, 0x02, 0x01, 0x00, 0x07, 0x0a, 0x01, 0x06, 0x5f, 0x73, 0x74, 0x61, 0x72, 0x74,
                               0x00, 0x00, 0x0a, 0x09, 0x01, 0x07, 0x00, 0x03, 0x40, 0x0c, 0x00, 0x0b, 0x0b};

/* Calls the host for the operation "echo" with the request "ping", and answers with the reply as its body. In wat:
 * (module
 *   (import "gojinn" "call" (func $call (param i32 i32 i32 i32) (result i32)))
 *   (import "gojinn" "reply" (func $reply (param i32 i32) (result i32)))
 *   (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
 *   (memory (export "memory") 1)
 *   (data (i32.const 64) "echo" "ping" "{\"body\":\"" "\"}")
 *   (func $print (param i32 i32)
 *     (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1))
 *     (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
 *   (func (export "_start") (local i32)
 *     (local.set 0 (call $call (i32.const 64) (i32.const 4) (i32.const 68) (i32.const 4)))
 *     (drop (call $reply (i32.const 1024) (i32.const 1024)))
 *     (call $print (i32.const 72) (i32.const 9))
 *     (call $print (i32.const 1024) (local.get 0))
 *     (call $print (i32.const 81) (i32.const 2)))) */
static const uint8_t ASKS[] = {
    0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, 0x01, 0x17, 0x04, 0x60, 0x04, 0x7f, 0x7f, 0x7f, 0x7f, 0x01, 0x7f,
    0x60, 0x02, 0x7f, 0x7f, 0x01, 0x7f, 0x60, 0x02, 0x7f, 0x7f, 0x00, 0x60, 0x00, 0x00, 0x02, 0x40, 0x03, 0x06, 0x67,
    0x6f, 0x6a, 0x69, 0x6e, 0x6e, 0x04, 0x63, 0x61, 0x6c, 0x6c, 0x00, 0x00, 0x06, 0x67, 0x6f, 0x6a, 0x69, 0x6e, 0x6e,
    0x05, 0x72, 0x65, 0x70, 0x6c, 0x79, 0x00, 0x01, 0x16, 0x77, 0x61, 0x73, 0x69, 0x5f, 0x73, 0x6e, 0x61, 0x70, 0x73,
    0x68, 0x6f, 0x74, 0x5f, 0x70, 0x72, 0x65, 0x76, 0x69, 0x65, 0x77, 0x31, 0x08, 0x66, 0x64, 0x5f, 0x77, 0x72, 0x69,
    0x74, 0x65, 0x00, 0x00, 0x03, 0x03, 0x02, 0x02, 0x03, 0x05, 0x03, 0x01, 0x00, 0x01, 0x07, 0x13, 0x02, 0x06, 0x6d,
    0x65, 0x6d, 0x6f, 0x72, 0x79, 0x02, 0x00, 0x06, 0x5f, 0x73, 0x74, 0x61, 0x72, 0x74, 0x00, 0x04, 0x0a, 0x4e, 0x02,
    0x1b, 0x00, 0x41, 0x00, 0x20, 0x00, 0x36, 0x02, 0x00, 0x41, 0x04, 0x20, 0x01, 0x36, 0x02, 0x00, 0x41, 0x01, 0x41,
    0x00, 0x41, 0x01, 0x41, 0x08, 0x10, 0x02, 0x1a, 0x0b, 0x30, 0x01, 0x01, 0x7f, 0x41, 0xc0, 0x00, 0x41, 0x04, 0x41,
    0xc4, 0x00, 0x41, 0x04, 0x10, 0x00, 0x21, 0x00, 0x41, 0x80, 0x08, 0x41, 0x80, 0x08, 0x10, 0x01, 0x1a, 0x41, 0xc8,
    0x00, 0x41, 0x09, 0x10, 0x03, 0x41, 0x80, 0x08, 0x20, 0x00, 0x10, 0x03, 0x41, 0xd1, 0x00, 0x41, 0x02, 0x10, 0x03,
    0x0b, 0x0b, 0x1a, 0x01, 0x00, 0x41, 0xc0, 0x00, 0x0b, 0x13, 0x65, 0x63, 0x68, 0x6f, 0x70, 0x69, 0x6e, 0x67, 0x7b,
    0x22, 0x62, 0x6f, 0x64, 0x79, 0x22, 0x3a, 0x22, 0x22, 0x7d, 0x00, 0x23, 0x04, 0x6e, 0x61, 0x6d, 0x65, 0x01, 0x1c,
    0x04, 0x00, 0x04, 0x63, 0x61, 0x6c, 0x6c, 0x01, 0x05, 0x72, 0x65, 0x70, 0x6c, 0x79, 0x02, 0x05, 0x77, 0x72, 0x69,
    0x74, 0x65, 0x03, 0x05, 0x70, 0x72, 0x69, 0x6e, 0x74,
};

struct bytes {
    uint8_t *at;
    size_t len;
};

static struct bytes read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    CHECK(fseek(file, 0, SEEK_END) == 0);
    struct bytes bytes = {NULL, (size_t)ftell(file)};
    rewind(file);
    bytes.at = malloc(bytes.len);
    CHECK(bytes.at != NULL && fread(bytes.at, 1, bytes.len, file) == bytes.len);
    fclose(file);
    return bytes;
}

static void number(struct bytes *out, uint32_t value) {
    for (int shift = 0; shift < 32; shift += 8) out->at[out->len++] = (uint8_t)(value >> shift);
}

static void string(struct bytes *out, const char *text) {
    number(out, (uint32_t)strlen(text));
    memcpy(out->at + out->len, text, strlen(text));
    out->len += strlen(text);
}

/* A request with one header, and no per-request values. */
static struct bytes head_with(const char *method, const char *uri, const char *header, const char *value) {
    struct bytes head = {malloc(4096), 0};
    const char *fields[] = {method, uri, "trace-c", "", "", "http", "localhost", "HTTP/1.1", uri};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) string(&head, fields[i]);
    number(&head, 1);
    string(&head, header);
    string(&head, value);
    number(&head, 0);
    return head;
}

static struct bytes head(void) {
    return head_with("GET", "/from-c", "Accept", "*/*");
}

static int32_t code_of(gojinn_error *error, const char *part) {
    uint8_t message[4096];
    size_t len = gojinn_error_message(error, message, sizeof message - 1);
    CHECK(len > 0 && len < sizeof message);
    message[len] = 0;
    if (strstr((char *)message, part) == NULL) {
        fprintf(stderr, "the message should mention %s: %s\n", part, message);
        exit(1);
    }
    uint8_t short_one[3] = {0, 0, 7};
    CHECK(gojinn_error_message(error, short_one, 2) == len && short_one[2] == 7);
    int32_t code = gojinn_error_code(error);
    gojinn_error_free(error);
    return code;
}

static gojinn_engine *new_engine(const char *config) {
    gojinn_engine *engine = NULL;
    gojinn_error *error = NULL;
    int32_t code = gojinn_engine_new((const uint8_t *)config, strlen(config), &engine, &error);
    CHECK(code == GOJINN_OK && engine != NULL && error == NULL);
    return engine;
}

static gojinn_function *deploy(gojinn_engine *engine, const uint8_t *wasm, size_t len, const char *config) {
    gojinn_function *function = NULL;
    gojinn_error *error = NULL;
    int32_t code = gojinn_function_new(engine, wasm, len, (const uint8_t *)config, strlen(config), NULL, &function, &error);
    if (code != GOJINN_OK) code_of(error, "\x01");
    CHECK(function != NULL);
    return function;
}

static uint64_t new_call(gojinn_engine *engine) {
    uint64_t call = 0;
    CHECK(gojinn_call_new(engine, &call) == GOJINN_OK && call != 0);
    return call;
}

static void answers(gojinn_engine *engine, gojinn_function *hello) {
    struct bytes request = head();
    uint8_t out[4096];
    gojinn_answer answer;
    gojinn_event event;
    gojinn_rest *rest = NULL;

    uint64_t call = new_call(engine);
    CHECK(gojinn_function_call(hello, call, request.at, request.len, NULL, 0, out, sizeof out, &answer, &event, &rest) == GOJINN_OK);
    CHECK(rest == NULL && answer.outcome == 0 && answer.status == 200 && answer.headers == 1);
    const char *expected = "Hello from C: GET /from-c trace=trace-c\n";
    const uint8_t *body = out + answer.headers_len + answer.reason_len + answer.logs_len;
    CHECK(answer.body_len == strlen(expected) && memcmp(body, expected, strlen(expected)) == 0);
    CHECK(answer.duration_ns > 0 && answer.memory_peak >= 65536 && answer.reason_len == 0);

    /* The id is stale now. */
    CHECK(gojinn_function_call(hello, call, request.at, request.len, NULL, 0, out, sizeof out, &answer, &event, &rest)
          == GOJINN_STALE_CALL);

    /* A frame that does not fit. */
    uint8_t small[8] = {9, 9, 9, 9, 9, 9, 9, 9};
    CHECK(gojinn_function_call(hello, new_call(engine), request.at, request.len, NULL, 0, small, sizeof small, &answer, &event, &rest)
          == GOJINN_OK);
    CHECK(rest != NULL && small[0] == 9);
    size_t whole = answer.headers_len + answer.reason_len + answer.logs_len + answer.body_len;
    uint8_t *frame = malloc(whole);
    CHECK(gojinn_rest_read(rest, frame, whole - 1) == GOJINN_BAD_FRAME);
    CHECK(gojinn_rest_read(rest, frame, whole) == GOJINN_OK);
    CHECK(memcmp(frame + whole - strlen(expected), expected, strlen(expected)) == 0);
    gojinn_rest_free(rest);
    free(frame);

    /* Heads that are cut off. */
    for (size_t len = 0; len < request.len; len++) {
        CHECK(gojinn_function_call(hello, new_call(engine), request.at, len, NULL, 0, out, sizeof out, &answer, &event, &rest)
              == GOJINN_BAD_FRAME);
    }

    /* A body over max_body (10) is 413. */
    const uint8_t body_in[] = "more than ten bytes";
    CHECK(gojinn_function_call(hello, new_call(engine), request.at, request.len, body_in, sizeof body_in - 1, out, sizeof out,
                               &answer, &event, &rest) == GOJINN_OK);
    CHECK(rest == NULL && answer.outcome == 5 && answer.status == 413 && answer.reason_len > 0);
    free(request.at);
}

struct cancellation {
    gojinn_engine *engine;
    uint64_t call;
};

static void *cancel_soon(void *argument) {
    struct cancellation *cancellation = argument;
    usleep(30000);
    gojinn_call_cancel(cancellation->engine, cancellation->call);
    return NULL;
}

static void cancels(gojinn_engine *engine, gojinn_function *spin, gojinn_function *hasty) {
    struct bytes request = head();
    uint8_t out[4096];
    gojinn_answer answer;
    gojinn_event event;
    gojinn_rest *rest = NULL;
    struct cancellation cancellation = {engine, new_call(engine)};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, cancel_soon, &cancellation) == 0);
    CHECK(gojinn_function_call(spin, cancellation.call, request.at, request.len, NULL, 0, out, sizeof out, &answer, &event, &rest)
          == GOJINN_OK);
    CHECK(answer.outcome == 6 && answer.status == 499 && rest == NULL);
    pthread_join(thread, NULL);
    gojinn_call_cancel(engine, cancellation.call); /* a stale id: does nothing */

    /* Its own deadline: 504. */
    CHECK(gojinn_function_call(hasty, new_call(engine), request.at, request.len, NULL, 0, out, sizeof out, &answer, &event, &rest)
          == GOJINN_OK);
    CHECK(answer.outcome == 1 && answer.status == 504 && answer.reason_len > 0);
    free(request.at);
}

static void waits(gojinn_engine *engine, gojinn_function *asks) {
    struct bytes request = head();
    uint8_t out[4096];
    gojinn_answer answer;
    gojinn_event event;
    gojinn_rest *rest = NULL;
    const uint8_t *pong = (const uint8_t *)"pong";

    /* Suspended, resumed, answered. The frame of the event fits the second time only. */
    uint64_t call = new_call(engine);
    uint8_t small[4];
    CHECK(gojinn_function_call(asks, call, request.at, request.len, NULL, 0, small, sizeof small, &answer, &event, &rest)
          == GOJINN_WAITING);
    CHECK(event.kind == 2 && event.operation_len == 4 && event.request_len == 4 && rest != NULL);
    CHECK(event.until_ns == UINT64_MAX && event.deadline_ns > 0);
    CHECK(gojinn_rest_read(rest, out, sizeof out) == GOJINN_OK && memcmp(out, "echoping", 8) == 0);
    gojinn_rest_free(rest);
    CHECK(gojinn_call_resume(engine, call, 0, pong, 4, out, sizeof out, &answer, &event, &rest) == GOJINN_OK);
    CHECK(rest == NULL && answer.outcome == 0 && answer.body_len == 4);
    CHECK(memcmp(out + answer.headers_len + answer.reason_len + answer.logs_len, pong, 4) == 0);
    CHECK(gojinn_call_resume(engine, call, 0, pong, 4, out, sizeof out, &answer, &event, &rest) == GOJINN_STALE_CALL);

    /* Cancelled while it waits: it ends when it is resumed. */
    call = new_call(engine);
    CHECK(gojinn_function_call(asks, call, request.at, request.len, NULL, 0, out, sizeof out, &answer, &event, &rest)
          == GOJINN_WAITING);
    CHECK(memcmp(out, "echoping", 8) == 0);
    gojinn_call_cancel(engine, call);
    CHECK(gojinn_call_resume(engine, call, 0, NULL, 0, out, sizeof out, &answer, &event, &rest) == GOJINN_OK);
    CHECK(answer.outcome == 6 && answer.status == 499);

    /* Dropped: its permit is free again, and its id is stale. */
    for (int i = 0; i < 100; i++) {
        call = new_call(engine);
        CHECK(gojinn_function_call(asks, call, request.at, request.len, NULL, 0, out, sizeof out, &answer, &event, &rest)
              == GOJINN_WAITING);
        gojinn_call_drop(engine, call);
        gojinn_call_drop(engine, call);
    }
    gojinn_call_drop(NULL, 1);
    CHECK(gojinn_call_resume(NULL, 1, 0, NULL, 0, NULL, 0, NULL, NULL, NULL) == GOJINN_NULL_ARGUMENT);
    CHECK(gojinn_call_resume(engine, call, 0, NULL, 0, out, sizeof out, NULL, &event, &rest) == GOJINN_NULL_ARGUMENT);

    /* One that waits when its engine is freed. */
    CHECK(gojinn_function_call(asks, new_call(engine), request.at, request.len, NULL, 0, out, sizeof out, &answer, &event, &rest)
          == GOJINN_WAITING);
    free(request.at);
}

/* Bodies that come in parts, in both directions, and calls that are dropped in the middle of them. */
static void streams(gojinn_engine *engine, gojinn_function *cgi) {
    uint8_t out[4096];
    gojinn_answer answer;
    gojinn_event event;
    gojinn_rest *rest = NULL;

    /* A body that arrives in two parts. */
    struct bytes request = head_with("POST", "/count", "Content-Length", "10");
    const uint8_t *body = (const uint8_t *)"0123456789";
    uint64_t call = new_call(engine);
    CHECK(gojinn_function_call(cgi, call, request.at, request.len, NULL, 0, out, sizeof out, &answer, &event, &rest) == GOJINN_WAITING);
    CHECK(rest == NULL && event.kind == 5 && event.status == 0 && event.until_ns == UINT64_MAX);
    CHECK(gojinn_call_resume(engine, call, 0, body, 5, out, sizeof out, &answer, &event, &rest) == GOJINN_WAITING);
    CHECK(rest == NULL && event.kind == 5);
    CHECK(gojinn_call_resume(engine, call, 1, body + 5, 5, out, sizeof out, &answer, &event, &rest) == GOJINN_OK);
    CHECK(rest == NULL && answer.outcome == 0 && answer.status == 200 && !answer.is_rest && answer.body_len == 3);
    CHECK(memcmp(out + answer.headers_len + answer.reason_len + answer.logs_len, "10\n", 3) == 0);

    /* One that is not read any more. */
    for (int i = 0; i < 20; i++) {
        call = new_call(engine);
        CHECK(gojinn_function_call(cgi, call, request.at, request.len, body, 3, out, sizeof out, &answer, &event, &rest) == GOJINN_WAITING);
        CHECK(rest == NULL && event.kind == 5);
        gojinn_call_drop(engine, call);
    }
    free(request.at);

    /* A response that comes in two parts; then one of which the client takes the first only. */
    request = head_with("GET", "/events?2", "Accept", "text/event-stream");
    for (int i = 0; i < 20; i++) {
        call = new_call(engine);
        CHECK(gojinn_function_call(cgi, call, request.at, request.len, NULL, 0, out, sizeof out, &answer, &event, &rest) == GOJINN_WAITING);
        CHECK(rest == NULL && event.kind == 1 && event.status == 200 && event.headers == 1 && event.output_len == 9);
        CHECK(memcmp(out + event.headers_len, "data: 1\n\n", 9) == 0);
        if (i > 0) {
            gojinn_call_drop(engine, call);
            continue;
        }
        int32_t code = GOJINN_WAITING;
        while (code == GOJINN_WAITING) {
            usleep(event.until_ns / 1000 + 1);
            code = gojinn_call_resume(engine, call, 0, NULL, 0, out, sizeof out, &answer, &event, &rest);
        }
        CHECK(code == GOJINN_OK && rest == NULL && answer.outcome == 0 && answer.is_rest && answer.body_len == 9);
        CHECK(memcmp(out + answer.headers_len + answer.reason_len + answer.logs_len, "data: 2\n\n", 9) == 0);
    }
    free(request.at);
}

static void refusals(gojinn_engine *engine) {
    gojinn_engine *no_engine = NULL;
    gojinn_function *none = NULL;
    gojinn_error *error = NULL;
    const char *bad = "{\"backend\":\"v8\"}";
    CHECK(gojinn_engine_new((const uint8_t *)bad, strlen(bad), &no_engine, &error) == GOJINN_BAD_CONFIG);
    CHECK(no_engine == NULL && code_of(error, "v8") == GOJINN_BAD_CONFIG);

    const char *name = "{\"name\":\"text\"}";
    const uint8_t *config = (const uint8_t *)name;
    CHECK(gojinn_function_new(engine, (const uint8_t *)"hello", 5, config, strlen(name), NULL, &none, &error)
          == GOJINN_INVALID_MODULE);
    CHECK(none == NULL && code_of(error, "function text") == GOJINN_INVALID_MODULE);

    CHECK(gojinn_engine_new(NULL, 2, &no_engine, &error) == GOJINN_NULL_ARGUMENT);
    gojinn_error_free(error);
    CHECK(gojinn_engine_new(config, 2, NULL, &error) == GOJINN_NULL_ARGUMENT);
    CHECK(gojinn_function_new(NULL, SPIN, sizeof SPIN, config, strlen(name), NULL, &none, &error) == GOJINN_NULL_ARGUMENT);
    gojinn_error_free(error);
    CHECK(gojinn_call_new(NULL, NULL) == GOJINN_NULL_ARGUMENT);
    CHECK(gojinn_call_new(engine, NULL) == GOJINN_NULL_ARGUMENT);
    CHECK(gojinn_function_call(NULL, 1, NULL, 0, NULL, 0, NULL, 0, NULL, NULL, NULL) == GOJINN_NULL_ARGUMENT);
    CHECK(gojinn_rest_read(NULL, NULL, 0) == GOJINN_NULL_ARGUMENT);
    CHECK(gojinn_error_code(NULL) == GOJINN_NULL_ARGUMENT && gojinn_error_message(NULL, NULL, 0) == 0);
    gojinn_engine_free(NULL);
    gojinn_function_free(NULL);
    gojinn_rest_free(NULL);
    gojinn_error_free(NULL);
    gojinn_call_free(NULL, 1);
    CHECK(gojinn_memory_take(NULL, 1) == GOJINN_NULL_ARGUMENT);
    gojinn_memory_give(NULL, 1);
    gojinn_call_cancel(NULL, 1);
    gojinn_cancel_set(NULL);
    gojinn_cancel_free(NULL);

    /* A deployment that is cancelled before it begins. */
    gojinn_cancel *cancel = gojinn_cancel_new();
    CHECK(cancel != NULL);
    gojinn_cancel_set(cancel);
    gojinn_cancel_set(cancel);
    CHECK(gojinn_function_new(engine, SPIN, sizeof SPIN, config, strlen(name), cancel, &none, &error) == GOJINN_CANCELLED);
    CHECK(none == NULL && code_of(error, "cancelled") == GOJINN_CANCELLED);
    gojinn_cancel_free(cancel);

    /* No cache to purge. */
    uint64_t entries = 7, bytes = 7;
    CHECK(gojinn_engine_purge_cache(engine, &entries, &bytes, &error) == GOJINN_BAD_CONFIG);
    CHECK(entries == 7 && bytes == 7 && code_of(error, "no artifact cache") == GOJINN_BAD_CONFIG);
    CHECK(gojinn_engine_purge_cache(NULL, &entries, &bytes, &error) == GOJINN_NULL_ARGUMENT);
    CHECK(gojinn_engine_purge_cache(engine, NULL, &bytes, &error) == GOJINN_NULL_ARGUMENT);
    CHECK(gojinn_engine_purge_cache(engine, &entries, &bytes, NULL) == GOJINN_NULL_ARGUMENT);

    /* Two permits, and both are taken. */
    uint64_t one = new_call(engine), two = new_call(engine), three = 7;
    CHECK(gojinn_call_new(engine, &three) == GOJINN_REJECTED && three == 7);
    gojinn_call_free(engine, one);
    gojinn_call_free(engine, one); /* a stale id: does nothing */
    gojinn_call_free(engine, two);
    gojinn_call_free(engine, 0);
    gojinn_call_free(engine, UINT64_MAX);
}

static void describes(gojinn_engine *engine, gojinn_function *hello, const char *backend) {
    uint8_t out[16384];
    size_t len = 0;
    CHECK(gojinn_function_describe(hello, out, sizeof out - 1, &len) == GOJINN_OK && len < sizeof out);
    out[len] = 0;
    CHECK(strstr((char *)out, backend) != NULL && strstr((char *)out, "\"name\":\"hello\"") != NULL);
    size_t whole = 0;
    CHECK(gojinn_function_describe(hello, NULL, 0, &whole) == GOJINN_OK && whole == len);
    CHECK(gojinn_engine_describe(engine, out, sizeof out - 1, &len) == GOJINN_OK && len < sizeof out);
    out[len] = 0;
    CHECK(strstr((char *)out, "\"functions\":3") != NULL);
    CHECK(gojinn_engine_metrics(engine, out, sizeof out - 1, &len) == GOJINN_OK && len < sizeof out);
    out[len] = 0;
    CHECK(strstr((char *)out, "gojinn_engine_calls_total") != NULL);
    CHECK(gojinn_engine_metrics(NULL, out, sizeof out, &len) == GOJINN_NULL_ARGUMENT);
}

/* What the caller takes of max_memory is missing for calls, until it is given back. */
static void memory(const uint8_t *wasm, size_t len) {
    gojinn_engine *engine = new_engine("{\"max_memory\": 33554432, \"hold_answers\": true, \"pool\": {\"slots\": -1}}");
    gojinn_function *hello = deploy(engine, wasm, len, "{\"name\": \"hello\"}");
    struct bytes request = head();
    uint8_t out[4096];
    gojinn_answer answer;
    gojinn_event event;
    gojinn_rest *rest = NULL;

    CHECK(gojinn_memory_take(engine, 33554432) == GOJINN_OK);
    CHECK(gojinn_memory_take(engine, 1) == GOJINN_REJECTED);
    for (int full = 1; full >= 0; full--) {
        uint64_t call = new_call(engine);
        int32_t code = gojinn_function_call(hello, call, request.at, request.len, NULL, 0, out, sizeof out, &answer, &event,
                                            &rest);
        CHECK(code == GOJINN_OK && rest == NULL && answer.held == 0);
        CHECK(full ? answer.outcome == 5 && answer.status == 503 : answer.outcome == 0);
        gojinn_memory_give(engine, UINT64_MAX); /* more than was taken: all of it */
    }
    free(request.at);
    gojinn_function_free(hello);
    gojinn_engine_free(engine);
}

/* Compiled code is kept in a directory until it is purged. */
static void caches(const uint8_t *wasm, size_t len) {
    char directory[] = P_tmpdir "/gojinn-abi-XXXXXX", config[128];
    CHECK(mkdtemp(directory) != NULL);
    snprintf(config, sizeof config, "{\"cache\":{\"directory\":\"%s\"},\"compile_timeout\":600000000000}", directory);
    gojinn_engine *engine = new_engine(config);
    gojinn_cancel *unused = gojinn_cancel_new();
    gojinn_function *hello = NULL;
    gojinn_error *error = NULL;
    const char *name = "{\"name\":\"hello\"}";
    CHECK(gojinn_function_new(engine, wasm, len, (const uint8_t *)name, strlen(name), unused, &hello, &error) == GOJINN_OK);
    gojinn_cancel_free(unused);
    uint64_t entries = 7, bytes = 0;
    CHECK(gojinn_engine_purge_cache(engine, &entries, &bytes, &error) == GOJINN_OK && entries == 1 && bytes > 0);
    CHECK(gojinn_engine_purge_cache(engine, &entries, &bytes, &error) == GOJINN_OK && entries == 0 && bytes == 0);
    gojinn_function_free(hello);
    gojinn_engine_free(engine);
    const char *left[] = {"key", "lock", ""};
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        snprintf(config, sizeof config, "%s/%s", directory, left[i]);
        CHECK(remove(config) == 0);
    }
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    CHECK(gojinn_abi_version() == GOJINN_ABI_VERSION);
    struct bytes wasm = read_file(argv[1]), cgi_wasm = read_file(argv[2]);
    const char *backends[] = {"wasmtime", "wasmer", "wasmi"};
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        char config[128];
        snprintf(config, sizeof config, "{\"backend\":\"%s\",\"max_concurrency\":2}", backends[i]);
        gojinn_engine *engine = new_engine(config);
        gojinn_function *hello = deploy(engine, wasm.at, wasm.len, "{\"name\":\"hello\",\"program\":\"hello.wasm\",\"max_body\":10}");
        gojinn_function *spin = deploy(engine, SPIN, sizeof SPIN, "{\"name\":\"spin\"}");
        gojinn_function *hasty = deploy(engine, SPIN, sizeof SPIN, "{\"name\":\"hasty\",\"timeout\":300000000}");
        answers(engine, hello);
        cancels(engine, spin, hasty);
        describes(engine, hello, backends[i]);
        refusals(engine);
        gojinn_function *asks = deploy(engine, ASKS, sizeof ASKS, "{\"name\":\"asks\"}");
        waits(engine, asks);
        gojinn_function_free(asks);
        gojinn_function *cgi = deploy(engine, cgi_wasm.at, cgi_wasm.len, "{\"name\":\"cgi\",\"contract\":\"cgi\"}");
        streams(engine, cgi);
        gojinn_function_free(cgi);
        gojinn_function_free(spin);
        gojinn_function_free(hasty);
        gojinn_engine_free(engine); /* its last function keeps it alive */
        gojinn_function_free(hello);
        printf("%s: ok\n", backends[i]);
    }
    memory(wasm.at, wasm.len);
    caches(wasm.at, wasm.len);
    free(wasm.at);
    free(cgi_wasm.at);
    return 0;
}
