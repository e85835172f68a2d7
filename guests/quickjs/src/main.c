// The runtime of scripts: QuickJS-NG as a reactor. _initialize makes the interpreter and runs the script, so that a snapshot
// has both; gojinn_handle answers one request.
//
// quickjs.c is included and not linked, because some of what is in it is needed here: the seed of Math.random, the frames of the
// running functions, and the way from their bytecode to lines.

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wasi/api.h>

#include "cutils.h"
#include "heap.h"
#include "room.h"

// Whether the interpreter itself is being made. What it asks of the clock then (for the seeds of its hash tables and of
// Math.random) would be frozen in a snapshot, and would differ between two recordings of it.
static int making_interpreter = 1;

static int64_t time_us(void) { return making_interpreter ? 1 : js__gettimeofday_us(); }
#define js__gettimeofday_us time_us
#include "quickjs.c"
#undef js__gettimeofday_us

#include "ada_c.h"
#include "native.h"

// The layer in JavaScript, bundled from js/ by the recipe, as the bytecode that compile.c made of it; and the part of it that only some
// scripts need.
static const uint8_t layer[] = {
#embed "layer.bytecode"
};
static const uint8_t streams_layer[] = {
#embed "streams.bytecode"
};

#define IMPORT(name) __attribute__((import_module("gojinn"), import_name(name)))
IMPORT("host_log") void host_log(int level, const char *text, size_t len);
IMPORT("call") int host_call(const char *op, size_t op_len, const void *request, size_t request_len);
IMPORT("reply") int host_reply(void *out, size_t len);

// The first line of records that say where the script is, see running. The plugin knows it too (caddy/logs.go).
#define RUNNING "gojinn:running"

static JSRuntime *rt;
static JSContext *ctx;
// Functions of the layer. loadStreams() loads the streams, start(namespace, settings) takes the script, answer(request) promises an answer, describe(error) says
// what an exception is, nextTimer() gives the milliseconds until the next timer may run (below 0: there is none), runTimers()
// runs those that may, and rejected(promise, reason, handled) hears of promises that are rejected without a handler.
static JSValue layer_load_streams, layer_start, layer_answer, layer_describe, layer_next_timer, layer_run_timers, layer_rejected;
// Why the script cannot answer requests: what it threw while it was loaded. NULL if it can.
static char *failure;
// Used when memory has run out, so that there is enough to say so.
static void *reserve;
static size_t reserve_size = 32 << 10;

// How much of the stack of STACK_SIZE bytes, which the recipe sets, JavaScript may use; the natives have the rest. QuickJS sets no
// limit on WASI, so this does. It is to be reached before the limit of the engine's own stack, so that a script which recurses
// further gets a RangeError with a stack. Of that one a recursion takes up to four times as much, and engines give 8 MiB.
static const size_t stack_size = STACK_SIZE - (512 << 10);

static void begin_entry(void) {
    JS_UpdateStackTop(rt);
    rt->stack_limit = rt->stack_top - stack_size;
}

static void log_text(int level, const char *text) { host_log(level, text, strlen(text)); }

static uint64_t monotonic(void) {
    __wasi_timestamp_t now = 0;
    (void)!__wasi_clock_time_get(__WASI_CLOCKID_MONOTONIC, 1, &now);
    return now;
}

// --- where the script is, when it cannot say so itself ---

// The places of the script that are running, as the lines of a stack. Nothing is allocated, since memory may have run out.
static char places[2048];

// Writes the places. Returns how many bytes they have; 0 if no part of the script is running.
static size_t note_places(void) {
    size_t len = 0;
    places[0] = 0;
    for (JSStackFrame *frame = rt->current_stack_frame; frame && len + 300 < sizeof places; frame = frame->prev_frame) {
        JSObject *function = JS_VALUE_GET_OBJ(frame->cur_func);
        if (!js_class_has_bytecode(function->class_id) || !frame->cur_pc) continue;
        JSFunctionBytecode *code = function->u.func.function_bytecode;
        // The layer has no names of files.
        if (!code->filename) continue;
        int column, line = find_line_num(ctx, code, frame->cur_pc - code->byte_code_buf - 1, &column);
        char name[128] = "<anonymous>", file[128];
        JSProperty *property;
        JSShapeProperty *shape = find_own_property(&property, function, JS_ATOM_name);
        if (shape && (shape->flags & JS_PROP_TMASK) == JS_PROP_NORMAL && JS_VALUE_GET_TAG(property->u.value) == JS_TAG_STRING) {
            JSString *text = JS_VALUE_GET_STRING(property->u.value);
            size_t most = text->len < sizeof name ? text->len : sizeof name - 1;
            for (size_t i = 0; i < most; i++) {
                unsigned c = text->is_wide_char ? str16(text)[i] : str8(text)[i];
                name[i] = c >= 0x20 && c < 0x7f ? c : '?';
            }
            if (most > 0) name[most] = 0;
        }
        len += snprintf(places + len, sizeof places - len, "    at %s (%s:%d:%d)\n", name,
                        JS_AtomGetStr(ctx, file, sizeof file, code->filename), line, column);
    }
    return len;
}

// When memory cannot be had, the script's places are noted: the error that follows has no stack.
static void *noting_malloc(void *opaque, size_t size) {
    void *memory = js_def_malloc(opaque, size);
    if (!memory) note_places();
    return memory;
}

static void *noting_calloc(void *opaque, size_t count, size_t size) {
    void *memory = js_def_calloc(opaque, count, size);
    if (!memory) note_places();
    return memory;
}

static void *noting_realloc(void *opaque, void *old, size_t size) {
    void *memory = js_def_realloc(opaque, old, size);
    if (!memory && size > 0) note_places();
    return memory;
}

static const JSMallocFunctions allocator = {noting_calloc, noting_malloc, js_def_free, noting_realloc, js__malloc_usable_size};

// Whether a request is being answered; how long that may take, in nanoseconds, and when the script says next where it is.
static int in_request;
static uint64_t timeout, next_report;

// Called by QuickJS now and then while the script runs. When more than half of its time is over, the script says from time to time
// where it is. The host shows the last of these records if the request does not end in time, and no others.
//
// The top level of a script has no clock: what it says would be in a snapshot. It says where it is after 64, 128, 256 … calls.
static int running(JSRuntime *runtime, void *opaque) {
    static uint32_t calls;
    uint64_t now = 0;
    if (in_request ? timeout == 0 || (now = monotonic()) < next_report : ++calls < 64 || calls & (calls - 1)) return 0;
    size_t len = note_places();
    if (len == 0) {
        // Between two functions of the script: ask at another moment.
        ctx->interrupt_counter = 7;
        return 0;
    }
    static const char head[] = RUNNING "\n";
    static char text[sizeof head + sizeof places];
    memcpy(text, head, sizeof head - 1);
    memcpy(text + sizeof head - 1, places, len);
    host_log(0, text, sizeof head - 1 + len);
    next_report = now + timeout / 16;
    return 0;
}

// --- natives: what the layer cannot do in JavaScript ---

// The bytes of an ArrayBuffer or a view. NULL, with an exception, if the value is neither.
static uint8_t *bytes_of(JSContext *c, JSValueConst value, size_t *len) {
    if (JS_GetTypedArrayType(value) >= 0) {
        size_t offset, length, size;
        JSValue buffer = JS_GetTypedArrayBuffer(c, value, &offset, &length, NULL);
        if (JS_IsException(buffer)) return NULL;
        uint8_t *bytes = JS_GetArrayBuffer(c, &size, buffer);
        JS_FreeValue(c, buffer);
        if (!bytes) return NULL;
        *len = length;
        return bytes + offset;
    }
    return JS_GetArrayBuffer(c, len, value);
}

static JSValue js_utf8_encode(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    size_t len;
    const char *text = JS_ToCStringLen(c, &len, argv[0]);
    if (!text) return JS_EXCEPTION;
    JSValue out = JS_NewUint8ArrayCopy(c, (const uint8_t *)text, len);
    JS_FreeCString(c, text);
    return out;
}

// utf8Decode(bytes, fatal): the decoder of the Encoding Standard. null if fatal and the bytes are not UTF-8.
static JSValue js_utf8_decode(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    size_t len;
    const uint8_t *in = bytes_of(c, argv[0], &len);
    if (!in) return JS_EXCEPTION;
    int fatal = JS_ToBool(c, argv[1]);
    size_t ascii = 0;
    while (ascii < len && in[ascii] < 0x80) ascii++;
    if (ascii == len) return JS_NewStringLen(c, (const char *)in, len);
    uint16_t *out = js_malloc(c, (len + 1) * sizeof *out);
    if (!out) return JS_EXCEPTION;
    size_t n = 0, at = 0;
    while (at < len) {
        uint32_t lead = in[at++];
        if (lead < 0x80) {
            out[n++] = lead;
            continue;
        }
        int more = lead >= 0xc2 && lead <= 0xdf ? 1 : (lead & 0xf0) == 0xe0 ? 2 : lead >= 0xf0 && lead <= 0xf4 ? 3 : 0;
        uint32_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        uint32_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        uint32_t point = lead & (0x3f >> more);
        int ok = more;
        while (ok && more) {
            if (at == len || in[at] < low || in[at] > high) {
                ok = 0;
                break;
            }
            point = point << 6 | (in[at++] & 0x3f);
            low = 0x80;
            high = 0xbf;
            more--;
        }
        if (!ok) {
            if (fatal) {
                js_free(c, out);
                return JS_NULL;
            }
            out[n++] = 0xfffd;
        } else if (point < 0x10000) {
            out[n++] = point;
        } else {
            out[n++] = 0xd7c0 + (point >> 10);
            out[n++] = 0xdc00 + (point & 0x3ff);
        }
    }
    JSValue text = JS_NewStringUTF16(c, out, n);
    js_free(c, out);
    return text;
}

static JSValue js_base64_encode(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    size_t len;
    const uint8_t *in = bytes_of(c, argv[0], &len);
    if (!in) return JS_EXCEPTION;
    size_t size = (len + 2) / 3 * 4;
    char *out = js_malloc(c, size + 1);
    if (!out) return JS_EXCEPTION;
    native_base64_encode(out, in, len);
    JSValue text = JS_NewStringLen(c, out, size);
    js_free(c, out);
    return text;
}

// base64Decode(text): an Uint8Array, or null if the text is not standard base64 with padding.
static JSValue js_base64_decode(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    size_t len;
    const char *text = JS_ToCStringLen(c, &len, argv[0]);
    if (!text) return JS_EXCEPTION;
    uint8_t *out = js_malloc(c, len / 4 * 3 + 1);
    JSValue bytes = JS_EXCEPTION;
    if (out) {
        ptrdiff_t size = native_base64_decode(out, text, len);
        bytes = size < 0 ? JS_NULL : JS_NewUint8ArrayCopy(c, out, size);
        js_free(c, out);
    }
    JS_FreeCString(c, text);
    return bytes;
}

// random(view): fills it with random bytes of the host.
static JSValue js_random(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    size_t len;
    uint8_t *bytes = bytes_of(c, argv[0], &len);
    if (!bytes) return JS_EXCEPTION;
    if (__wasi_random_get(bytes, len)) return JS_ThrowInternalError(c, "the host has no random bytes");
    return JS_UNDEFINED;
}

// Whether Math.random has been seeded in this request. Each request draws its own seed at its first use, so that no two
// requests that start from one snapshot see the same numbers.
static int seeded;

static JSValue js_seeded_random(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    if (!seeded) {
        if (getentropy(&ctx->random_state, sizeof ctx->random_state) || !ctx->random_state) ctx->random_state = 1;
        seeded = 1;
    }
    return js_math_random(ctx, self, argc, argv);
}

// digest(hash, bytes): hash is 1, 256, 384 or 512, for SHA-1 and the SHA-2 family. With a key, the HMAC.
static JSValue js_digest(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    int hash;
    size_t len, key_len = 0;
    uint8_t *bytes, *key = NULL, out[64];
    if (JS_ToInt32(c, &hash, argv[0]) || !(bytes = bytes_of(c, argv[1], &len))) return JS_EXCEPTION;
    int keyed = argc > 2 && !JS_IsUndefined(argv[2]);
    if (keyed && !(key = bytes_of(c, argv[2], &key_len))) return JS_EXCEPTION;
    size_t size = keyed ? native_hmac(hash, out, key, key_len, bytes, len) : native_digest(hash, out, bytes, len);
    return JS_NewUint8ArrayCopy(c, out, size);
}

// now(): milliseconds of the monotonic clock.
static JSValue js_now(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    return JS_NewFloat64(c, monotonic() / 1e6);
}

// log(level, text): 0 debug, 1 info, 2 warn, 3 error.
static JSValue js_log(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    int level;
    size_t len;
    const char *text;
    if (JS_ToInt32(c, &level, argv[0]) || !(text = JS_ToCStringLen(c, &len, argv[1]))) return JS_EXCEPTION;
    host_log(level, text, len);
    JS_FreeCString(c, text);
    return JS_UNDEFINED;
}

// The reply of the last operation, in memory from malloc, with a NUL behind it. NULL if memory has run out.
static uint8_t *take_reply(int code, size_t *len) {
    // A text that says what was wrong has no known length. It is short.
    size_t room = code >= 0 ? code : 4096;
    uint8_t *reply = malloc(room + 1);
    if (!reply) return NULL;
    int copied = host_reply(reply, room);
    *len = copied > 0 ? copied : 0;
    reply[*len] = 0;
    return reply;
}

// call(operation, request): [code, reply], both as of gojinn.call.
static JSValue js_call(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    size_t op_len, len, reply_len;
    uint8_t *request = bytes_of(c, argv[1], &len);
    if (!request) return JS_EXCEPTION;
    const char *op = JS_ToCStringLen(c, &op_len, argv[0]);
    if (!op) return JS_EXCEPTION;
    int code = host_call(op, op_len, request, len);
    JS_FreeCString(c, op);
    uint8_t *reply = take_reply(code, &reply_len);
    if (!reply) return JS_ThrowOutOfMemory(c);
    JSValue out = JS_NewArray(c);
    JS_DefinePropertyValueUint32(c, out, 0, JS_NewInt32(c, code), JS_PROP_C_W_E);
    JS_DefinePropertyValueUint32(c, out, 1, JS_NewUint8ArrayCopy(c, reply, reply_len), JS_PROP_C_W_E);
    free(reply);
    return out;
}

static void write_answer(const char *text, size_t len);

// write(bytes): writes them to the response.
static JSValue js_write(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    size_t len;
    uint8_t *bytes = bytes_of(c, argv[0], &len);
    if (!bytes) return JS_EXCEPTION;
    write_answer((const char *)bytes, len);
    return JS_UNDEFINED;
}

// flush(): what was written to a stream leaves now, and waits for the client if it has not read what came before. While a snapshot
// is verified this does nothing.
static JSValue js_flush(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    static const char op[] = "stream.flush";
    host_call(op, sizeof op - 1, NULL, 0);
    return JS_UNDEFINED;
}

static JSValue evaluate(JSContext *c, const uint8_t *bytecode, size_t len) {
    JSValue code = JS_ReadObject(c, bytecode, len, JS_READ_OBJ_BYTECODE);
    return JS_IsException(code) ? code : JS_EvalFunction(c, code);
}

// streams(): the function that makes the streams. It is called once.
static JSValue js_streams(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    return evaluate(c, streams_layer, sizeof streams_layer);
}

// environment(): an object with the variables. Asked of the host each time, since a request may have values of its own.
static JSValue js_environment(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    JSValue out = JS_NewObject(c);
    size_t count = 0, size = 0;
    if (__wasi_environ_sizes_get(&count, &size) || count == 0) return out;
    uint8_t **list = malloc((count + 1) * sizeof *list), *text = malloc(size + 1);
    if (list && text && !__wasi_environ_get(list, text)) {
        for (size_t i = 0; i < count; i++) {
            char *name = (char *)list[i], *equals = strchr(name, '=');
            if (!equals) continue;
            *equals = 0;
            JS_DefinePropertyValueStr(c, out, name, JS_NewString(c, equals + 1), JS_PROP_C_W_E);
        }
    }
    free(list);
    free(text);
    return out;
}

static JSValue ada_text(JSContext *c, ada_string text) { return JS_NewStringLen(c, text.data, text.length); }

// The parts of a URL, in the order in which the layer reads them. Frees the URL. null if it is not valid.
static JSValue url_parts(JSContext *c, ada_url url) {
    JSValue out = JS_NULL;
    if (ada_is_valid(url)) {
        ada_owned_string origin = ada_get_origin(url);
        JSValue parts[] = {
            ada_text(c, ada_get_href(url)),     ada_text(c, ada_get_protocol(url)), ada_text(c, ada_get_username(url)),
            ada_text(c, ada_get_password(url)), ada_text(c, ada_get_host(url)),     ada_text(c, ada_get_hostname(url)),
            ada_text(c, ada_get_port(url)),     ada_text(c, ada_get_pathname(url)), ada_text(c, ada_get_search(url)),
            ada_text(c, ada_get_hash(url)),     JS_NewStringLen(c, origin.data, origin.length)};
        ada_free_owned_string(origin);
        out = JS_NewArrayFrom(c, countof(parts), parts);
    }
    ada_free(url);
    return out;
}

// urlParse(text, base): the parts of a URL; without base if it is undefined.
static JSValue js_url_parse(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    size_t len, base_len;
    const char *text = JS_ToCStringLen(c, &len, argv[0]);
    if (!text) return JS_EXCEPTION;
    JSValue out;
    if (argc < 2 || JS_IsUndefined(argv[1])) {
        out = url_parts(c, ada_parse(text, len));
    } else {
        const char *base = JS_ToCStringLen(c, &base_len, argv[1]);
        out = base ? url_parts(c, ada_parse_with_base(text, len, base, base_len)) : JS_EXCEPTION;
        JS_FreeCString(c, base);
    }
    JS_FreeCString(c, text);
    return out;
}

// urlSet(href, part, value): the parts after that part was set, as the setters of URL do. Parts are numbered as in url_parts.
static JSValue js_url_set(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    size_t len, value_len;
    int part;
    if (JS_ToInt32(c, &part, argv[1])) return JS_EXCEPTION;
    const char *href = JS_ToCStringLen(c, &len, argv[0]);
    const char *value = JS_ToCStringLen(c, &value_len, argv[2]);
    JSValue out = JS_EXCEPTION;
    if (href && value) {
        ada_url url = ada_parse(href, len);
        bool set = true;
        switch (part) {
        case 0: set = ada_set_href(url, value, value_len); break;
        case 1: set = ada_set_protocol(url, value, value_len); break;
        case 2: set = ada_set_username(url, value, value_len); break;
        case 3: set = ada_set_password(url, value, value_len); break;
        case 4: set = ada_set_host(url, value, value_len); break;
        case 5: set = ada_set_hostname(url, value, value_len); break;
        case 6: set = ada_set_port(url, value, value_len); break;
        case 7: set = ada_set_pathname(url, value, value_len); break;
        case 8: ada_set_search(url, value, value_len); break;
        default: ada_set_hash(url, value, value_len);
        }
        // What was refused may have been changed all the same.
        if (!set) {
            ada_free(url);
            url = ada_parse(href, len);
        }
        out = url_parts(c, url);
    }
    JS_FreeCString(c, href);
    JS_FreeCString(c, value);
    return out;
}

// headerName(name): the name in lower case, or null if it is not the name of a header.
static JSValue js_header_name(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    size_t len;
    const char *name = JS_ToCStringLen(c, &len, argv[0]);
    if (!name) return JS_EXCEPTION;
    int valid = len > 0 && len <= 256, upper = 0;
    for (size_t i = 0; i < len && valid; i++) {
        unsigned char byte = name[i];
        upper |= byte >= 'A' && byte <= 'Z';
        valid = (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z' ? 1 : byte && strchr("0123456789!#$%&'*+-.^_`|~", byte) != NULL;
    }
    char lower[256];
    for (size_t i = 0; i < len && valid && upper; i++) lower[i] = name[i] >= 'A' && name[i] <= 'Z' ? name[i] | 0x20 : name[i];
    JSValue out = !valid ? JS_NULL : upper ? JS_NewStringLen(c, lower, len) : JS_DupValue(c, argv[0]);
    JS_FreeCString(c, name);
    return out;
}

// headerValue(value): the value without white space around it; null if it has NUL, CR, LF or something beyond ASCII.
static JSValue js_header_value(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    size_t len, from = 0;
    const char *value = JS_ToCStringLen(c, &len, argv[0]);
    if (!value) return JS_EXCEPTION;
    size_t to = len;
    while (from < to && strchr("\t\n\r ", value[from]) && value[from]) from++;
    while (to > from && strchr("\t\n\r ", value[to - 1]) && value[to - 1]) to--;
    int valid = 1;
    for (size_t i = from; i < to && valid; i++) valid = value[i] > 0 && value[i] != '\n' && value[i] != '\r';
    JSValue out = !valid ? JS_NULL : to - from < len ? JS_NewStringLen(c, value + from, to - from) : JS_DupValue(c, argv[0]);
    JS_FreeCString(c, value);
    return out;
}

// isASCII(text)
static JSValue js_is_ascii(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    size_t len, i = 0;
    const char *text = JS_ToCStringLen(c, &len, argv[0]);
    if (!text) return JS_EXCEPTION;
    while (i < len && !(text[i] & 0x80)) i++;
    JS_FreeCString(c, text);
    return JS_NewBool(c, i == len);
}

// classOf(object): 1 for an object like {}, 2 for a Proxy, 0 for all others.
static JSValue js_class_of(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    JSClassID id = JS_GetClassID(argv[0]);
    return JS_NewInt32(c, id == JS_CLASS_OBJECT ? 1 : id == JS_CLASS_PROXY ? 2 : 0);
}

// paramsParse(text): the names and values of application/x-www-form-urlencoded, one after the other.
static JSValue js_params_parse(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    size_t len;
    const char *text = JS_ToCStringLen(c, &len, argv[0]);
    if (!text) return JS_EXCEPTION;
    ada_url_search_params params = ada_parse_search_params(text, len);
    JS_FreeCString(c, text);
    ada_url_search_params_entries_iter iter = ada_search_params_get_entries(params);
    JSValue out = JS_NewArray(c);
    for (uint32_t n = 0; ada_search_params_entries_iter_has_next(iter);) {
        ada_string_pair pair = ada_search_params_entries_iter_next(iter);
        JS_DefinePropertyValueUint32(c, out, n++, ada_text(c, pair.key), JS_PROP_C_W_E);
        JS_DefinePropertyValueUint32(c, out, n++, ada_text(c, pair.value), JS_PROP_C_W_E);
    }
    ada_free_search_params_entries_iter(iter);
    ada_free_search_params(params);
    return out;
}

// paramsWrite(list): the inverse.
static JSValue js_params_write(JSContext *c, JSValueConst self, int argc, JSValueConst *argv) {
    ada_url_search_params params = ada_parse_search_params("", 0);
    int64_t count = 0;
    JSValue out = JS_EXCEPTION;
    if (!JS_GetLength(c, argv[0], &count)) {
        out = JS_UNDEFINED;
        for (int64_t i = 0; i + 1 < count; i += 2) {
            size_t name_len, value_len;
            JSValue name = JS_GetPropertyInt64(c, argv[0], i), value = JS_GetPropertyInt64(c, argv[0], i + 1);
            const char *n = JS_ToCStringLen(c, &name_len, name), *v = JS_ToCStringLen(c, &value_len, value);
            if (n && v) ada_search_params_append(params, n, name_len, v, value_len);
            else out = JS_EXCEPTION;
            JS_FreeCString(c, n);
            JS_FreeCString(c, v);
            JS_FreeValue(c, name);
            JS_FreeValue(c, value);
        }
        if (!JS_IsException(out)) {
            ada_owned_string text = ada_search_params_to_string(params);
            out = JS_NewStringLen(c, text.data, text.length);
            ada_free_owned_string(text);
        }
    }
    ada_free_search_params(params);
    return out;
}

static const JSCFunctionListEntry natives[] = {
    JS_CFUNC_DEF("utf8Encode", 1, js_utf8_encode),     JS_CFUNC_DEF("utf8Decode", 2, js_utf8_decode),
    JS_CFUNC_DEF("base64Encode", 1, js_base64_encode), JS_CFUNC_DEF("base64Decode", 1, js_base64_decode),
    JS_CFUNC_DEF("random", 1, js_random),              JS_CFUNC_DEF("digest", 3, js_digest),
    JS_CFUNC_DEF("now", 0, js_now),                    JS_CFUNC_DEF("log", 2, js_log),
    JS_CFUNC_DEF("call", 2, js_call),                  JS_CFUNC_DEF("environment", 0, js_environment),
    JS_CFUNC_DEF("write", 1, js_write),                JS_CFUNC_DEF("flush", 0, js_flush),
    JS_CFUNC_DEF("streams", 0, js_streams),            JS_CFUNC_DEF("classOf", 1, js_class_of),
    JS_CFUNC_DEF("headerName", 1, js_header_name),     JS_CFUNC_DEF("headerValue", 1, js_header_value),
    JS_CFUNC_DEF("isASCII", 1, js_is_ascii),
    JS_CFUNC_DEF("urlParse", 2, js_url_parse),         JS_CFUNC_DEF("urlSet", 3, js_url_set),
    JS_CFUNC_DEF("paramsParse", 1, js_params_parse),   JS_CFUNC_DEF("paramsWrite", 1, js_params_write),
};

// --- the life of a sandbox ---

// The text that says what an exception is. It is freed by free. Never NULL.
static char *describe(JSValue error) {
    if (reserve) heap_use(reserve, reserve_size);
    reserve = NULL;
    // Further failures to allocate would overwrite where the script was.
    static char noted[sizeof places];
    memcpy(noted, places, sizeof noted);
    JSValue text = JS_Call(ctx, layer_describe, JS_UNDEFINED, 1, &error);
    if (JS_IsException(text)) {
        // The layer cannot say it, perhaps for want of memory or stack.
        JS_FreeValue(ctx, JS_GetException(ctx));
        text = JS_ToString(ctx, error);
    }
    const char *chars = JS_IsException(text) ? NULL : JS_ToCString(ctx, text);
    if (!chars) chars = "an exception that cannot be shown";
    // Such an error has no stack.
    const char *stack = !strcmp(chars, "InternalError: out of memory") && *noted ? noted : "";
    char *copy = malloc(strlen(chars) + 1 + strlen(stack) + 1);
    if (!copy) return "InternalError: out of memory";
    stpcpy(stpcpy(stpcpy(copy, chars), *stack ? "\n" : ""), stack);
    return copy;
}

// Ends the sandbox with an error in the log. The client gets 502.
static _Noreturn void fail(const char *text) {
    log_text(3, text);
    _exit(1);
}

// Runs jobs and timers until the promise is settled. Returns its value, or an exception.
static JSValue settle(JSValue promise, const char *unsettled) {
    for (;;) {
        JSContext *c;
        int more;
        while ((more = JS_ExecutePendingJob(rt, &c)) > 0) {
        }
        if (more < 0) return JS_EXCEPTION;
        JSPromiseStateEnum state = JS_PromiseState(ctx, promise);
        if (state == JS_PROMISE_NOT_A_PROMISE) return JS_DupValue(ctx, promise);
        if (state == JS_PROMISE_FULFILLED) return JS_PromiseResult(ctx, promise);
        if (state == JS_PROMISE_REJECTED) return JS_Throw(ctx, JS_PromiseResult(ctx, promise));
        double wait = -1;
        JSValue next = JS_Call(ctx, layer_next_timer, JS_UNDEFINED, 0, NULL);
        if (JS_IsException(next)) return next;
        JS_ToFloat64(ctx, &wait, next);
        JS_FreeValue(ctx, next);
        if (wait < 0) return JS_ThrowTypeError(ctx, "%s", unsettled);
        if (wait > 0) {
            struct timespec time = {(time_t)(wait / 1e3), (long)(wait * 1e6) % 1000000000L};
            nanosleep(&time, NULL);
        }
        JSValue ran = JS_Call(ctx, layer_run_timers, JS_UNDEFINED, 0, NULL);
        if (JS_IsException(ran)) return ran;
        JS_FreeValue(ctx, ran);
    }
}

// The function of that name in the layer.
static JSValue take(JSValue object, const char *name) { return JS_GetPropertyStr(ctx, object, name); }

static void make_interpreter(void) {
    rt = JS_NewRuntime2(&allocator, NULL);
    begin_entry();
    ctx = JS_NewContextRaw(rt);
    if (!ctx || JS_AddIntrinsicBaseObjects(ctx) || JS_AddIntrinsicDate(ctx) || JS_AddIntrinsicEval(ctx) ||
        JS_AddIntrinsicRegExp(ctx) || JS_AddIntrinsicJSON(ctx) || JS_AddIntrinsicProxy(ctx) || JS_AddIntrinsicMapSet(ctx) ||
        JS_AddIntrinsicTypedArrays(ctx) || JS_AddIntrinsicPromise(ctx) || JS_AddIntrinsicWeakRef(ctx) ||
        JS_AddIntrinsicDOMException(ctx) || JS_AddIntrinsicAToB(ctx))
        fail("the interpreter cannot be made; is memory_limit too small? a script needs 8 MiB at least");
    ctx->random_state = 1;
    JSValue global = JS_GetGlobalObject(ctx), math = JS_GetPropertyStr(ctx, global, "Math");
    JS_DefinePropertyValueStr(ctx, math, "random", JS_NewCFunction(ctx, js_seeded_random, "random", 0),
                              JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE);
    JS_FreeValue(ctx, math);

    JSValue make = evaluate(ctx, layer, sizeof layer);
    JSValue native = JS_NewObject(ctx);
    JS_SetPropertyFunctionList(ctx, native, natives, countof(natives));
    JSValue made = JS_IsException(make) ? make : JS_Call(ctx, make, JS_UNDEFINED, 1, &native);
    if (JS_IsException(made)) {
        JSValue error = JS_GetException(ctx);
        const char *text = JS_ToCString(ctx, error);
        fail(text ? text : "the runtime's layer cannot be loaded");
    }
    layer_load_streams = take(made, "loadStreams");
    layer_start = take(made, "start");
    layer_answer = take(made, "answer");
    layer_describe = take(made, "describe");
    layer_next_timer = take(made, "nextTimer");
    layer_run_timers = take(made, "runTimers");
    layer_rejected = take(made, "rejected");
    JS_FreeValue(ctx, made);
    JS_FreeValue(ctx, native);
    JS_FreeValue(ctx, make);
    JS_FreeValue(ctx, global);
    making_interpreter = 0;
}

// Tells the layer of promises that are rejected without a handler, and of those that get one later.
static void rejected(JSContext *c, JSValueConst promise, JSValueConst reason, bool handled, void *opaque) {
    JSValueConst args[] = {promise, reason, JS_NewBool(c, handled)};
    JSValue done = JS_Call(c, layer_rejected, JS_UNDEFINED, countof(args), args);
    if (JS_IsException(done)) JS_FreeValue(c, JS_GetException(c));
    JS_FreeValue(c, done);
}

// Runs the script, which is the data of the deployment: a JSON object with settings, a newline, and a module.
static JSValue run_script(void) {
    static const char op[] = "deployment.data";
    int code = host_call(op, sizeof op - 1, NULL, 0);
    size_t len;
    char *data = (char *)take_reply(code, &len);
    if (!data) return JS_ThrowOutOfMemory(ctx);
    char *script = code < 0 ? NULL : memchr(data, '\n', len);
    if (!script) return JS_ThrowTypeError(ctx, "there is no script: %s", code < 0 ? data : "its data has one line only");
    *script++ = 0;
    JSValue settings = JS_ParseJSON(ctx, data, script - 1 - data, "gojinn:settings");
    if (JS_IsException(settings)) return settings;
    uint32_t milliseconds = 0;
    JSValue time = JS_GetPropertyStr(ctx, settings, "timeout_ms");
    JS_ToUint32(ctx, &milliseconds, time);
    timeout = milliseconds * UINT64_C(1000000);
    begin_entry();
    JSValue module = JS_Eval(ctx, script, data + len - script, "gojinn:script", JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY);
    // A script that names neither will hardly meet a stream. If it does, they are loaded then.
    int streams = memmem(script, data + len - script, "Stream", 6) || memmem(script, data + len - script, ".body", 5);
    free(data);
    if (JS_IsException(module)) return module;
    JSModuleDef *def = JS_VALUE_GET_PTR(module);
    JSValue ran = JS_EvalFunction(ctx, module);
    if (JS_IsException(ran)) return ran;
    JSValue done = settle(ran, "the script waits at its top level for something that never happens");
    JS_FreeValue(ctx, ran);
    if (JS_IsException(done)) return done;
    JS_FreeValue(ctx, done);
    JSValue args[] = {JS_GetModuleNamespace(ctx, def), settings};
    if (streams) {
        JSValue loaded = JS_Call(ctx, layer_load_streams, JS_UNDEFINED, 0, NULL);
        if (JS_IsException(loaded)) return loaded;
        JS_FreeValue(ctx, loaded);
    }
    JSValue started = JS_Call(ctx, layer_start, JS_UNDEFINED, 2, args);
    JS_FreeValue(ctx, args[0]);
    JS_FreeValue(ctx, settings);
    return started;
}

__attribute__((constructor)) static void start(void) {
    reserve = malloc(reserve_size);
    make_interpreter();
    JS_SetHostPromiseRejectionTracker(rt, rejected, NULL);
    JS_SetInterruptHandler(rt, running, NULL);
    JSValue started = run_script();
    if (JS_IsException(started)) failure = describe(JS_GetException(ctx));
    JS_FreeValue(ctx, started);
    JS_RunGC(rt);
    // A request rarely lives long enough for a collection to be worth its time.
    JS_SetGCThreshold(rt, 16 << 20);
    seeded = 0;
    // The larger reserve of requests is behind the snapshot, whose pages would have a hole otherwise. Engines fill holes.
    free(reserve);
    heap_settle();
    reserve_size = 256 << 10;
    reserve = malloc(reserve_size);
}

// All of stdin, with a NUL behind it. The memory is not freed: the sandbox ends with the request.
static char *read_request(size_t *len) {
    size_t size = 16 << 10, used = 0;
    char *text = malloc(size + 1);
    for (;;) {
        if (!text) fail("memory has run out while the request was read; raise memory_limit");
        ssize_t n = read(0, text + used, size - used);
        if (n < 0) fail("the request cannot be read");
        used += n;
        if (n == 0) break;
        if (used == size) text = realloc(text, (size *= 2) + 1);
    }
    text[used] = 0;
    *len = used;
    return text;
}

static void write_answer(const char *text, size_t len) {
    while (len > 0) {
        ssize_t n = write(1, text, len);
        if (n <= 0) fail("the response cannot be written");
        text += n;
        len -= n;
    }
}

__attribute__((export_name("gojinn_handle"))) void gojinn_handle(void) {
    if (failure) fail(failure);
    begin_entry();
    in_request = 1;
    next_report = monotonic() + timeout / 2;
    size_t len;
    const char *text = read_request(&len);
    JSValue request = JS_ParseJSON(ctx, text, len, "gojinn:request");
    if (JS_IsException(request)) fail(describe(JS_GetException(ctx)));
    JSValue promise = JS_Call(ctx, layer_answer, JS_UNDEFINED, 1, &request);
    if (JS_IsException(promise)) fail(describe(JS_GetException(ctx)));
    JSValue answer = settle(promise, "the handler waits for something that never happens: no timer is left that could end the wait");
    if (JS_IsException(answer)) fail(describe(JS_GetException(ctx)));
    // It was a stream, and all of it is written.
    if (JS_IsUndefined(answer)) return;
    JSValue json = JS_JSONStringify(ctx, answer, JS_UNDEFINED, JS_UNDEFINED);
    if (JS_IsException(json)) fail(describe(JS_GetException(ctx)));
    const char *out = JS_ToCStringLen(ctx, &len, json);
    if (!out) fail(describe(JS_GetException(ctx)));
    write_answer(out, len);
}
