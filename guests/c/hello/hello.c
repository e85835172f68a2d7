/* Hello in C: a JSON request on stdin, a JSON response on stdout, with a small hand-written JSON reader.
 *
 * The reader decodes strings in place (decoded text is never longer than its escaped form), so a Text is a view into the
 * input. What is not used is skipped without being checked: the request comes from the host. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    char *at;
    size_t length;
} Text;

typedef struct {
    char *at, *end;
} Reader;

typedef struct {
    char *bytes;
    size_t length, capacity;
} Buffer;

/* The part of the request that this function looks at. */
typedef struct {
    Text method, uri, trace_id;
} Request;

static Request read_request(Reader *in);
static void report_args(int argc, char **argv);
static Buffer read_all(int fd);
static void write_all(int fd, const Buffer *buffer);
static void append(Buffer *to, const char *bytes, size_t length);
static void append_string(Buffer *to, const char *text);
static void append_escaped(Buffer *to, const char *bytes, size_t length);
_Noreturn static void fail(const char *reason);

int main(int argc, char **argv) {
    report_args(argc, argv);
    Buffer input = read_all(STDIN_FILENO);
    Reader reader = {input.bytes, input.bytes + input.length};
    Request request = read_request(&reader);

    Buffer out = {0};
    append_string(&out, "{\"status\":200,\"headers\":{\"Content-Type\":[\"text/plain\"]},\"body\":\"Hello from C: ");
    append_escaped(&out, request.method.at, request.method.length);
    append_string(&out, " ");
    append_escaped(&out, request.uri.at, request.uri.length);
    append_string(&out, " trace=");
    append_escaped(&out, request.trace_id.at, request.trace_id.length);
    append_string(&out, "\\n\"}\n");
    write_all(STDOUT_FILENO, &out);
    return 0;
}

/* With --verbose among the arguments, writes them on stderr as a JSON array. */
static void report_args(int argc, char **argv) {
    bool verbose = false;
    Buffer line = {0};
    append_string(&line, "hello: verbose, args=[");
    for (int i = 1; i < argc; i++) {
        verbose = verbose || strcmp(argv[i], "--verbose") == 0;
        append_string(&line, i == 1 ? "\"" : ",\"");
        append_escaped(&line, argv[i], strlen(argv[i]));
        append_string(&line, "\"");
    }
    append_string(&line, "]\n");
    if (verbose) write_all(STDERR_FILENO, &line);
}

/* --- reading JSON --- */

static void skip_space(Reader *in) {
    while (in->at < in->end && (*in->at == ' ' || *in->at == '\t' || *in->at == '\n' || *in->at == '\r')) in->at++;
}

/* The next character that is not space, without taking it; 0 at the end. */
static char peek(Reader *in) {
    skip_space(in);
    return in->at < in->end ? *in->at : 0;
}

static void expect(Reader *in, char wanted, const char *reason) {
    if (peek(in) != wanted) fail(reason);
    in->at++;
}

static uint32_t read_hex4(Reader *in) {
    if (in->end - in->at < 4) fail("request: a \\u escape is cut off");
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = *in->at++;
        uint32_t digit;
        if (c >= '0' && c <= '9') digit = (uint32_t)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f') digit = (uint32_t)((c | 32) - 'a' + 10);
        else fail("request: a \\u escape wants four hex digits");
        value = value << 4 | digit;
    }
    return value;
}

/* The code point of a \u escape whose "\u" was taken; a surrogate without its other half is U+FFFD. */
static uint32_t read_unicode(Reader *in) {
    uint32_t high = read_hex4(in);
    if (high < 0xD800 || high > 0xDFFF) return high;
    if (high <= 0xDBFF && in->end - in->at >= 6 && in->at[0] == '\\' && in->at[1] == 'u') {
        Reader ahead = {in->at + 2, in->end};
        uint32_t low = read_hex4(&ahead);
        if (low >= 0xDC00 && low <= 0xDFFF) {
            in->at = ahead.at;
            return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
        }
    }
    return 0xFFFD;
}

static char *put_utf8(char *to, uint32_t code) {
    if (code < 0x80) {
        *to++ = (char)code;
        return to;
    }
    if (code < 0x800) {
        *to++ = (char)(0xC0 | code >> 6);
    } else {
        if (code < 0x10000) {
            *to++ = (char)(0xE0 | code >> 12);
        } else {
            *to++ = (char)(0xF0 | code >> 18);
            *to++ = (char)(0x80 | (code >> 12 & 0x3F));
        }
        *to++ = (char)(0x80 | (code >> 6 & 0x3F));
    }
    *to++ = (char)(0x80 | (code & 0x3F));
    return to;
}

static Text read_string(Reader *in) {
    expect(in, '"', "request: want a string");
    char *start = in->at, *to = start;
    while (in->at < in->end) {
        char c = *in->at++;
        if (c == '"') return (Text){start, (size_t)(to - start)};
        if ((unsigned char)c < 0x20) fail("request: a control character inside a string");
        if (c != '\\') {
            *to++ = c;
            continue;
        }
        if (in->at == in->end) break;
        switch (c = *in->at++) {
        case '"': case '\\': case '/': *to++ = c; break;
        case 'b': *to++ = '\b'; break;
        case 'f': *to++ = '\f'; break;
        case 'n': *to++ = '\n'; break;
        case 'r': *to++ = '\r'; break;
        case 't': *to++ = '\t'; break;
        case 'u': to = put_utf8(to, read_unicode(in)); break;
        default: fail("request: an unknown escape inside a string");
        }
    }
    fail("request: a string is cut off");
}

/* A string, or null for the empty one. */
static Text read_text(Reader *in) {
    if (peek(in) != 'n') return read_string(in);
    if (in->end - in->at < 4 || memcmp(in->at, "null", 4) != 0) fail("request: want a string");
    in->at += 4;
    return (Text){in->at, 0};
}

static void skip_string(Reader *in) {
    for (in->at++; in->at < in->end; in->at++) {
        if (*in->at == '"') {
            in->at++;
            return;
        }
        if (*in->at == '\\') in->at++;
    }
    fail("request: a string is cut off");
}

/* Takes one value of any type. Brackets are counted and not matched by kind, so depth costs no stack. */
static void skip_value(Reader *in) {
    size_t depth = 0;
    do {
        switch (peek(in)) {
        case 0: fail("request: a value is cut off");
        case '"': skip_string(in); break;
        case '{': case '[': depth++; in->at++; break;
        case '}': case ']':
            if (depth == 0) fail("request: want a value");
            depth--; in->at++; break;
        case ',': case ':':
            if (depth == 0) fail("request: want a value");
            in->at++; break;
        default: /* a number, true, false or null */
            while (in->at < in->end && !strchr(" \t\r\n\"{}[],:", *in->at)) in->at++;
        }
    } while (depth > 0);
}

static bool is(Text text, const char *name) {
    return text.length == strlen(name) && memcmp(text.at, name, text.length) == 0;
}

static Request read_request(Reader *in) {
    Request request = {0};
    expect(in, '{', "request: want a JSON object");
    if (peek(in) == '}') return request;
    for (;;) {
        Text key = read_string(in);
        expect(in, ':', "request: want a colon after a key");
        if (is(key, "method")) request.method = read_text(in);
        else if (is(key, "uri")) request.uri = read_text(in);
        else if (is(key, "trace_id")) request.trace_id = read_text(in);
        else skip_value(in);
        if (peek(in) == '}') return request;
        expect(in, ',', "request: want a comma or the object's end");
    }
}

/* --- bytes in and out --- */

static void reserve(Buffer *buffer, size_t more) {
    if (buffer->capacity - buffer->length >= more) return;
    size_t capacity = buffer->capacity ? buffer->capacity * 2 : 4096;
    while (capacity - buffer->length < more) capacity *= 2;
    buffer->bytes = realloc(buffer->bytes, capacity);
    if (!buffer->bytes) fail("out of memory");
    buffer->capacity = capacity;
}

static void append(Buffer *to, const char *bytes, size_t length) {
    if (length == 0) return;
    reserve(to, length);
    memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
}

static void append_string(Buffer *to, const char *text) {
    append(to, text, strlen(text));
}

/* Appends UTF-8 text as the inside of a JSON string. */
static void append_escaped(Buffer *to, const char *bytes, size_t length) {
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '"' || c == '\\') {
            append(to, (char[]){'\\', (char)c}, 2);
        } else if (c < 0x20) {
            append(to, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
        } else {
            append(to, &bytes[i], 1);
        }
    }
}

static Buffer read_all(int fd) {
    Buffer buffer = {0};
    for (;;) {
        reserve(&buffer, 4096);
        ssize_t got = read(fd, buffer.bytes + buffer.length, buffer.capacity - buffer.length);
        if (got < 0) fail("stdin cannot be read");
        if (got == 0) return buffer;
        buffer.length += (size_t)got;
    }
}

static void write_all(int fd, const Buffer *buffer) {
    for (size_t done = 0; done < buffer->length;) {
        ssize_t put = write(fd, buffer->bytes + done, buffer->length - done);
        if (put <= 0) _exit(1);
        done += (size_t)put;
    }
}

/* Ends the function without a response: the host answers 502 and logs the reason. */
_Noreturn static void fail(const char *reason) {
    Buffer line = {0};
    append_string(&line, "hello: ");
    append_string(&line, reason);
    append_string(&line, "\n");
    write_all(STDERR_FILENO, &line);
    _exit(1);
}
