// Hello in C++: a JSON request on stdin, a JSON response on stdout, with a small hand-written JSON reader.
//
// Built without exceptions: a bad request ends the program with a reason on stderr and exit code 1.
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace {

// The part of the request that this function looks at.
struct Request {
    std::string method, uri, trace_id;
};

[[noreturn]] void fail(std::string_view reason) {
    std::string line = "hello: " + std::string(reason) + "\n";
    std::fwrite(line.data(), 1, line.size(), stderr);
    std::exit(1);
}

// Reads the JSON it is asked for. What is skipped is not checked: the request comes from the host.
class Reader {
public:
    explicit Reader(std::string_view rest) : rest_(rest) {}

    Request request() {
        Request request;
        expect('{', "request: want a JSON object");
        if (peek() == '}') return request;
        for (;;) {
            const std::string key = string();
            expect(':', "request: want a colon after a key");
            if (key == "method") request.method = text();
            else if (key == "uri") request.uri = text();
            else if (key == "trace_id") request.trace_id = text();
            else skip_value();
            if (peek() == '}') return request;
            expect(',', "request: want a comma or the object's end");
        }
    }

private:
    // A string, or null for the empty one.
    std::string text() {
        if (peek() != 'n') return string();
        if (!rest_.starts_with("null")) fail("request: want a string");
        rest_.remove_prefix(4);
        return {};
    }

    std::string string() {
        expect('"', "request: want a string");
        std::string out;
        for (;;) {
            const char c = take();
            if (c == '"') return out;
            if (static_cast<unsigned char>(c) < 0x20) fail("request: a control character inside a string");
            if (c == '\\') escape(out);
            else out += c;
        }
    }

    void escape(std::string& out) {
        switch (const char c = take()) {
        case '"': case '\\': case '/': out += c; break;
        case 'b': out += '\b'; break;
        case 'f': out += '\f'; break;
        case 'n': out += '\n'; break;
        case 'r': out += '\r'; break;
        case 't': out += '\t'; break;
        case 'u': append_utf8(out, code_point()); break;
        default: fail("request: an unknown escape inside a string");
        }
    }

    // The code point of a \u escape whose "\u" was taken; a surrogate without its other half is U+FFFD.
    char32_t code_point() {
        const char32_t high = hex4();
        if (high < 0xD800 || high > 0xDFFF) return high;
        if (high <= 0xDBFF && rest_.starts_with("\\u")) {
            Reader ahead(rest_.substr(2));
            const char32_t low = ahead.hex4();
            if (low >= 0xDC00 && low <= 0xDFFF) {
                rest_ = ahead.rest_;
                return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            }
        }
        return 0xFFFD;
    }

    char32_t hex4() {
        char32_t value = 0;
        for (int i = 0; i < 4; i++) {
            const char c = take();
            const char lower = static_cast<char>(c | 32);
            if (c >= '0' && c <= '9') value = value << 4 | static_cast<char32_t>(c - '0');
            else if (lower >= 'a' && lower <= 'f') value = value << 4 | static_cast<char32_t>(lower - 'a' + 10);
            else fail("request: a \\u escape wants four hex digits");
        }
        return value;
    }

    static void append_utf8(std::string& out, char32_t code) {
        const auto tail = [&](int shift) { out += static_cast<char>(0x80 | (code >> shift & 0x3F)); };
        if (code < 0x80) {
            out += static_cast<char>(code);
        } else if (code < 0x800) {
            out += static_cast<char>(0xC0 | code >> 6);
            tail(0);
        } else if (code < 0x10000) {
            out += static_cast<char>(0xE0 | code >> 12);
            tail(6), tail(0);
        } else {
            out += static_cast<char>(0xF0 | code >> 18);
            tail(12), tail(6), tail(0);
        }
    }

    // Takes one value of any type. Brackets are counted and not matched by kind, so depth costs no stack.
    void skip_value() {
        std::size_t depth = 0;
        do {
            switch (peek()) {
            case '"': skip_string(); break;
            case '{': case '[': depth++, take(); break;
            case '}': case ']':
                if (depth == 0) fail("request: want a value");
                depth--, take();
                break;
            case ',': case ':':
                if (depth == 0) fail("request: want a value");
                take();
                break;
            case '\0': fail("request: a value is cut off");
            default: // a number, true, false or null
                rest_.remove_prefix(std::min(rest_.find_first_of(" \t\r\n\"{}[],:"), rest_.size()));
            }
        } while (depth > 0);
    }

    void skip_string() {
        take();
        for (char c = take(); c != '"'; c = take())
            if (c == '\\') take();
    }

    // The next character that is not space, without taking it; 0 at the end.
    char peek() {
        rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t\r\n"), rest_.size()));
        return rest_.empty() ? '\0' : rest_.front();
    }

    char take() {
        if (rest_.empty()) fail("request: the JSON is cut off");
        const char c = rest_.front();
        rest_.remove_prefix(1);
        return c;
    }

    void expect(char wanted, std::string_view reason) {
        if (peek() != wanted) fail(reason);
        rest_.remove_prefix(1);
    }

    std::string_view rest_;
};

// UTF-8 text as a JSON string, with its quotes.
std::string quoted(std::string_view text) {
    static constexpr char hex[] = "0123456789abcdef";
    std::string out = "\"";
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') (out += '\\') += c;
        else if (byte < 0x20) ((out += "\\u00") += hex[byte >> 4]) += hex[byte & 15];
        else out += c;
    }
    return out += '"';
}

std::string read_all(std::FILE* from) {
    std::string all;
    std::vector<char> chunk(64 * 1024);
    while (const std::size_t got = std::fread(chunk.data(), 1, chunk.size(), from)) all.append(chunk.data(), got);
    if (std::ferror(from)) fail("stdin cannot be read");
    return all;
}

void write_all(std::string_view text, std::FILE* to) {
    if (std::fwrite(text.data(), 1, text.size(), to) != text.size() || std::fflush(to) != 0) std::exit(1);
}

// With --verbose among the arguments, writes them on stderr as a JSON array.
void report_args(const std::vector<std::string_view>& args) {
    bool verbose = false;
    std::string list;
    for (const auto arg : args) {
        verbose = verbose || arg == "--verbose";
        if (!list.empty()) list += ',';
        list += quoted(arg);
    }
    if (verbose) write_all("hello: verbose, args=[" + list + "]\n", stderr);
}

} // namespace

int main(int argc, char** argv) {
    report_args({argv + (argc > 0), argv + argc});
    const std::string input = read_all(stdin);
    const Request request = Reader(input).request();
    const std::string body = "Hello from C++: " + request.method + " " + request.uri + " trace=" + request.trace_id + "\n";
    write_all(R"({"status":200,"headers":{"Content-Type":["text/plain"]},"body":)" + quoted(body) + "}\n", stdout);
}
