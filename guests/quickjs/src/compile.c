// Compiles the layer while the runtime is built: JavaScript on stdin, QuickJS's bytecode on stdout. It is built from the same
// quickjs.c and for the same machine as the runtime, and the recipe runs it on Node.js.

#include <stdio.h>
#include <stdlib.h>

#include "room.h"

#include "quickjs.c"

int main(void) {
    size_t size = 1 << 20, len = 0, n;
    char *text = malloc(size + 1);
    while (text && (n = fread(text + len, 1, size - len, stdin)) > 0) {
        if ((len += n) == size) text = realloc(text, (size *= 2) + 1);
    }
    if (!text) return 1;
    text[len] = 0;
    JSContext *ctx = JS_NewContext(JS_NewRuntime());
    JSValue code = JS_Eval(ctx, text, len, "gojinn:runtime", JS_EVAL_TYPE_GLOBAL | JS_EVAL_FLAG_COMPILE_ONLY);
    if (JS_IsException(code)) {
        fprintf(stderr, "the layer: %s\n", JS_ToCString(ctx, JS_GetException(ctx)));
        return 1;
    }
    // Stacks show the script's places only, so the layer needs none.
    uint8_t *out = JS_WriteObject(ctx, &len, code, JS_WRITE_OBJ_BYTECODE | JS_WRITE_OBJ_STRIP_SOURCE | JS_WRITE_OBJ_STRIP_DEBUG);
    return !out || fwrite(out, 1, len, stdout) != len || fflush(stdout) != 0;
}
