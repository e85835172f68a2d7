/* Makes the system fail below the library: faults <hello.wasm>
 *
 * The program is linked with --wrap, so that mmap, mprotect, madvise, memfd_create, pthread_create and clock_gettime of the library
 * come here. For each of them, and each engine, the first call fails, then the second, and so on, once or from there on: while an
 * engine is made, while a function is deployed, and while it answers. Each time there is an error for what was asked for, or it
 * works nevertheless; and what is asked for next is right. At last the clock jumps, by ten years at each look. */
#include "gojinn.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define CHECK(condition)                                                                                             \
    do {                                                                                                             \
        if (!(condition)) {                                                                                          \
            fprintf(stderr, "%s:%d: check failed: %s (%s, %s, number %d)\n", __FILE__, __LINE__, #condition, backend, \
                    trial, number_of_fault);                                                                         \
            exit(1);                                                                                                 \
        }                                                                                                            \
    } while (0)

enum fault { NOTHING, MAP, PROTECT, ADVISE, MEMFD, THREAD, FAULTS };
static const char *const NAMES[] = {"nothing", "mmap", "mprotect", "madvise", "memfd_create", "pthread_create"};

/* Threads of the library come here as well. */
static _Atomic int armed, countdown, fired;
static _Atomic bool for_good, jumps;

static const char *backend = "", *trial = "";
static int number_of_fault;

static void arm(enum fault fault, int nth, bool stays) {
    fired = 0;
    countdown = nth;
    for_good = stays;
    number_of_fault = nth;
    armed = fault;
}

/* Ends the faults, and returns how many there were. */
static int disarm(void) {
    armed = NOTHING;
    return fired;
}

static bool fails(enum fault fault) {
    if (armed != (int)fault) return false;
    int left = --countdown;
    if (left > 0 || (left < 0 && !for_good)) return false;
    fired++;
    return true;
}

void *__real_mmap(void *, size_t, int, int, int, off_t);
void *__wrap_mmap(void *, size_t, int, int, int, off_t);
void *__wrap_mmap(void *at, size_t len, int protection, int flags, int file, off_t offset) {
    if (!fails(MAP)) return __real_mmap(at, len, protection, flags, file, offset);
    errno = ENOMEM;
    return MAP_FAILED;
}

void *__wrap_mmap64(void *, size_t, int, int, int, off_t);
void *__wrap_mmap64(void *at, size_t len, int protection, int flags, int file, off_t offset) {
    return __wrap_mmap(at, len, protection, flags, file, offset);
}

int __real_mprotect(void *, size_t, int);
int __wrap_mprotect(void *, size_t, int);
int __wrap_mprotect(void *at, size_t len, int protection) {
    if (!fails(PROTECT)) return __real_mprotect(at, len, protection);
    errno = ENOMEM;
    return -1;
}

int __real_madvise(void *, size_t, int);
int __wrap_madvise(void *, size_t, int);
int __wrap_madvise(void *at, size_t len, int advice) {
    if (!fails(ADVISE)) return __real_madvise(at, len, advice);
    errno = EAGAIN;
    return -1;
}

int __real_memfd_create(const char *, unsigned);
int __wrap_memfd_create(const char *, unsigned);
int __wrap_memfd_create(const char *name, unsigned flags) {
    if (!fails(MEMFD)) return __real_memfd_create(name, flags);
    errno = EMFILE;
    return -1;
}

int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    return fails(THREAD) ? EAGAIN : __real_pthread_create(thread, attributes, start, argument);
}

int __real_clock_gettime(clockid_t, struct timespec *);
int __wrap_clock_gettime(clockid_t, struct timespec *);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now) {
    static _Atomic unsigned looks;
    int failed = __real_clock_gettime(clock, now);
    if (clock == CLOCK_REALTIME && jumps) {
        static const long YEARS[] = {10, 0, -10, -100};
        now->tv_sec += YEARS[looks++ % 4] * 365 * 24 * 3600;
    }
    return failed;
}

/* (module (func (export "_start") (loop (br 0)))) */
static const uint8_t SPIN[] = {0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, 0x01, 0x04, 0x01, 0x60, 0x00, 0x00,
                               0x03, 0x02, 0x01, 0x00, 0x07, 0x0a, 0x01, 0x06, 0x5f, 0x73, 0x74, 0x61, 0x72, 0x74,
                               0x00, 0x00, 0x0a, 0x09, 0x01, 0x07, 0x00, 0x03, 0x40, 0x0c, 0x00, 0x0b, 0x0b};

static uint8_t *hello;
static size_t hello_len;

static void read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL && fseek(file, 0, SEEK_END) == 0);
    hello_len = (size_t)ftell(file);
    rewind(file);
    hello = malloc(hello_len);
    CHECK(hello != NULL && fread(hello, 1, hello_len, file) == hello_len);
    fclose(file);
}

/* Frees an error, which must say something. */
static void failed(int32_t code, gojinn_error *error) {
    uint8_t message[4096];
    CHECK(code >= 100 && error != NULL && gojinn_error_code(error) == code);
    CHECK(gojinn_error_message(error, message, sizeof message) > 0);
    gojinn_error_free(error);
}

static gojinn_engine *new_engine(void) {
    char config[200];
    gojinn_engine *engine = NULL;
    gojinn_error *error = NULL;
    int len = snprintf(config, sizeof config, "{\"backend\":\"%s\",\"max_concurrency\":2}", backend);
    int32_t code = gojinn_engine_new((const uint8_t *)config, (size_t)len, &engine, &error);
    if (code != GOJINN_OK) failed(code, error);
    return engine;
}

static gojinn_function *deploy(gojinn_engine *engine, const uint8_t *wasm, size_t wasm_len, long timeout_ms) {
    char config[200];
    gojinn_function *function = NULL;
    gojinn_error *error = NULL;
    int len = snprintf(config, sizeof config, "{\"name\":\"function\",\"timeout\":%ld000000}", timeout_ms);
    int32_t code = gojinn_function_new(engine, wasm, wasm_len, (const uint8_t *)config, (size_t)len, NULL, &function, &error);
    if (code != GOJINN_OK) failed(code, error);
    return function;
}

/* One request: the status of its answer, or 0 if there is an error instead of one. */
static uint32_t request(gojinn_engine *engine, gojinn_function *function) {
    /* GET / with neither headers nor per-request values. */
    static const uint8_t HEAD[] = {3, 0, 0, 0, 'G', 'E', 'T', 1, 0, 0, 0, '/', [12 ... 12 + 7 * 4 + 8 - 1] = 0};
    uint8_t out[4096];
    gojinn_answer answer = {0};
    gojinn_event event;
    gojinn_rest *rest = NULL;
    uint64_t call = 0;
    int32_t code = gojinn_call_new(engine, &call);
    if (code == GOJINN_OK)
        code = gojinn_function_call(function, call, HEAD, sizeof HEAD, NULL, 0, out, sizeof out, &answer, &event, &rest);
    gojinn_rest_free(rest);
    gojinn_call_free(engine, call);
    CHECK(code == GOJINN_OK || code >= 100);
    if (code != GOJINN_OK) return 0;
    CHECK(answer.outcome == 0 || answer.status >= 500);
    return answer.status;
}

/* More than the permits that there are, so that none is missing. */
static void works(gojinn_engine *engine, gojinn_function *function) {
    for (int i = 0; i < 4; i++) CHECK(request(engine, function) == 200);
}

/* Tries one fault in one place. Whether there was that many to fail. */
static bool in_engine(enum fault fault, int nth, bool stays) {
    arm(fault, nth, stays);
    gojinn_engine *engine = new_engine();
    int faults = disarm();
    if (engine != NULL) {
        gojinn_function *function = deploy(engine, hello, hello_len, 60000);
        CHECK(function != NULL);
        works(engine, function);
        gojinn_function_free(function);
    }
    gojinn_engine_free(engine);
    return faults > 0;
}

static bool in_deployment(enum fault fault, int nth, bool stays) {
    gojinn_engine *engine = new_engine();
    CHECK(engine != NULL);
    arm(fault, nth, stays);
    gojinn_function *function = deploy(engine, hello, hello_len, 60000);
    int faults = disarm();
    if (function != NULL) works(engine, function);
    gojinn_function *next = deploy(engine, hello, hello_len, 60001);
    CHECK(next != NULL);
    works(engine, next);
    gojinn_function_free(function);
    gojinn_function_free(next);
    gojinn_engine_free(engine);
    return faults > 0;
}

static bool in_call(enum fault fault, int nth, bool stays) {
    gojinn_engine *engine = new_engine();
    CHECK(engine != NULL);
    gojinn_function *function = deploy(engine, hello, hello_len, 60000);
    CHECK(function != NULL);
    bool any = false;
    /* The first call sets up more than those after it. */
    for (int i = 0; i < 3; i++) {
        arm(fault, nth, stays);
        uint32_t status = request(engine, function);
        any = disarm() > 0 || any;
        CHECK(status == 200 || status == 0 || status >= 500);
        works(engine, function);
    }
    gojinn_function_free(function);
    gojinn_engine_free(engine);
    return any;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    read_file(argv[1]);
    static const char *const BACKENDS[] = {"wasmtime", "wasmer", "wasmi"};
    static bool (*const PLACES[])(enum fault, int, bool) = {in_engine, in_deployment, in_call};
    static const char *const PLACE_NAMES[] = {"engine", "deployment", "call"};
    enum { MOST = 40 };
    for (size_t b = 0; b < sizeof BACKENDS / sizeof *BACKENDS; b++) {
        backend = BACKENDS[b];
        for (size_t place = 0; place < 3; place++) {
            printf("%s, %s:", backend, PLACE_NAMES[place]);
            for (enum fault fault = MAP; fault < FAULTS; fault++) {
                static char text[100];
                snprintf(text, sizeof text, "%s, %s", NAMES[fault], PLACE_NAMES[place]);
                trial = text;
                int faults = 0;
                for (int stays = 0; stays < 2; stays++)
                    for (int nth = 1; nth <= MOST && PLACES[place](fault, nth, stays != 0); nth++) faults++;
                printf(" %d of %s", faults, NAMES[fault]);
                fflush(stdout);
            }
            printf("\n");
        }
        trial = "jumps of the clock";
        gojinn_engine *engine = new_engine();
        CHECK(engine != NULL);
        jumps = true;
        gojinn_function *function = deploy(engine, hello, hello_len, 60000);
        gojinn_function *spins = deploy(engine, SPIN, sizeof SPIN, 20);
        CHECK(function != NULL && spins != NULL);
        for (int i = 0; i < 10; i++) {
            works(engine, function);
            CHECK(request(engine, spins) == 504);
        }
        jumps = false;
        gojinn_function_free(function);
        gojinn_function_free(spins);
        gojinn_engine_free(engine);
    }
    free(hello);
    return 0;
}
