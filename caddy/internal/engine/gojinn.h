/* Gojinn's C ABI. docs/abi.md says what a signature cannot. */
#ifndef GOJINN_H
#define GOJINN_H

#include <stddef.h>
#include <stdint.h>

#define GOJINN_ABI_VERSION 1

#define GOJINN_OK 0
#define GOJINN_NULL_ARGUMENT 100
#define GOJINN_BAD_CONFIG 101
#define GOJINN_BAD_FRAME 102
#define GOJINN_UNSUPPORTED 103
#define GOJINN_STALE_CALL 104
#define GOJINN_REJECTED 105
#define GOJINN_INVALID_MODULE 200
#define GOJINN_HOST 300
#define GOJINN_COMPILE 301
#define GOJINN_LOAD 302
#define GOJINN_PANIC 399

typedef struct gojinn_engine gojinn_engine;
typedef struct gojinn_error gojinn_error;
typedef struct gojinn_function gojinn_function;
typedef struct gojinn_rest gojinn_rest;

typedef struct gojinn_answer {
    uint32_t verdict;
    uint32_t status;
    uint32_t headers;
    uint32_t reserved;
    uint64_t duration_ns;
    uint64_t memory_peak;
    uint64_t logs_dropped;
    uint64_t headers_len;
    uint64_t reason_len;
    uint64_t logs_len;
    uint64_t body_len;
} gojinn_answer;

uint32_t gojinn_abi_version(void);
int32_t gojinn_engine_new(const uint8_t *config, size_t config_len, gojinn_engine **engine, gojinn_error **error);
void gojinn_engine_free(gojinn_engine *engine);
int32_t gojinn_engine_describe(const gojinn_engine *engine, uint8_t *out, size_t out_cap, size_t *len);
int32_t gojinn_engine_metrics(const gojinn_engine *engine, uint8_t *out, size_t out_cap, size_t *len);
int32_t gojinn_function_new(const gojinn_engine *engine, const uint8_t *wasm, size_t wasm_len,
                            const uint8_t *config, size_t config_len, gojinn_function **function, gojinn_error **error);
void gojinn_function_free(gojinn_function *function);
int32_t gojinn_function_describe(const gojinn_function *function, uint8_t *out, size_t out_cap, size_t *len);
int32_t gojinn_call_new(const gojinn_engine *engine, uint64_t *call);
void gojinn_call_free(const gojinn_engine *engine, uint64_t call);
void gojinn_call_cancel(const gojinn_engine *engine, uint64_t call);
int32_t gojinn_function_call(const gojinn_function *function, uint64_t call,
                             const uint8_t *head, size_t head_len, const uint8_t *body, size_t body_len,
                             uint8_t *out, size_t out_cap, gojinn_answer *answer, gojinn_rest **rest);
int32_t gojinn_rest_read(const gojinn_rest *rest, uint8_t *out, size_t out_cap);
void gojinn_rest_free(gojinn_rest *rest);
int32_t gojinn_error_code(const gojinn_error *error);
size_t gojinn_error_message(const gojinn_error *error, uint8_t *out, size_t out_cap);
void gojinn_error_free(gojinn_error *error);

#endif
