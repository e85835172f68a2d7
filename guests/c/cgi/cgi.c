/* A program of the Common Gateway Interface in C, with nothing of Gojinn in it: the request is in the environment and on stdin, the
 * response on stdout. It is served with `contract cgi`.
 *
 *   GET  /               a greeting
 *   POST /count          the number of bytes in the body, which may have any length
 *   GET  /events?3       server-sent events, so many, 100 ms apart
 *   GET  /print?TEXT     TEXT as the whole response, head and body, to try what a web server makes of it
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *variable(const char *name);
static void greet(void);
static void count(void);
static void events(int number);
static void print(const char *encoded);
static int digit(char hex);

int main(void)
{
    const char *path = variable("PATH_INFO");
    if (strcmp(path, "/") == 0)
        greet();
    else if (strcmp(path, "/count") == 0)
        count();
    else if (strcmp(path, "/events") == 0)
        events(atoi(variable("QUERY_STRING")));
    else if (strcmp(path, "/print") == 0)
        print(variable("QUERY_STRING"));
    else
        printf("Status: 404 Not Found\nContent-Type: text/plain\n\nThere is no %s here.\n", path);
    return 0;
}

/* The value of a variable; empty if it is not set. */
static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

static void greet(void)
{
    printf("Content-Type: text/plain\n\n");
    printf("Hello %s, this is C with %s.\n", variable("REMOTE_ADDR"), variable("GATEWAY_INTERFACE"));
}

static void count(void)
{
    char part[4096];
    unsigned long long bytes = 0;
    ssize_t n;
    while ((n = read(STDIN_FILENO, part, sizeof part)) > 0)
        bytes += (unsigned long long)n;
    if (n < 0) {
        perror("reading the body");
        exit(1);
    }
    printf("Content-Type: text/plain\n\n%llu\n", bytes);
}

static void events(int number)
{
    printf("Content-Type: text/event-stream\n\n");
    for (int i = 1; i <= number; i++) {
        if (i > 1)
            nanosleep(&(struct timespec){.tv_nsec = 100 * 1000 * 1000}, NULL);
        printf("data: %d\n\n", i);
        /* What is written leaves when the program waits. */
        fflush(stdout);
    }
}

/* Writes a text in which %XX is a byte. */
static void print(const char *encoded)
{
    for (const char *at = encoded; *at; at++) {
        if (at[0] == '%' && digit(at[1]) >= 0 && digit(at[2]) >= 0) {
            putchar(digit(at[1]) << 4 | digit(at[2]));
            at += 2;
        } else {
            putchar(*at);
        }
    }
}

static int digit(char hex)
{
    if (hex >= '0' && hex <= '9')
        return hex - '0';
    if (hex >= 'A' && hex <= 'F')
        return hex - 'A' + 10;
    if (hex >= 'a' && hex <= 'f')
        return hex - 'a' + 10;
    return -1;
}
