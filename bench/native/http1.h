/* The little of HTTP/1.1 that both programs need: finding the end of a head, reading a field, and walking a chunked body. */
#ifndef BENCH_HTTP1_H
#define BENCH_HTTP1_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static inline int64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

/* Returns the number of bytes of the head with its empty line, or 0 while it is incomplete. */
static inline size_t head_length(const char *data, size_t size) {
    const char *end = memmem(data, size, "\r\n\r\n", 4);
    return end ? (size_t)(end - data) + 4 : 0;
}

/* Returns where the value of a header begins, or NULL; `name` is given with its colon. The value ends at "\r\n". */
static inline const char *field(const char *head, size_t size, const char *name) {
    size_t length = strlen(name);
    const char *end = head + size;
    for (const char *line = memchr(head, '\n', size); line && line + 1 + length < end;
         line = memchr(line, '\n', (size_t)(end - line))) {
        line++;
        if (strncasecmp(line, name, length) == 0) {
            const char *value = line + length;
            while (*value == ' ') value++;
            return value;
        }
    }
    return NULL;
}

/* How far a body has been read. `left` is of the body (by length) or of the present chunk. */
typedef enum { BODY_LENGTH, BODY_SIZE_LINE, BODY_CHUNK, BODY_CHUNK_END, BODY_TRAILER, BODY_DONE } body_state;

typedef struct {
    body_state state;
    uint64_t left;
    int line_bytes; /* of the present size or trailer line */
    int in_extension;
} body_reader;

static inline void body_begin(body_reader *body, const char *head, size_t size) {
    const char *encoding = field(head, size, "transfer-encoding:");
    const char *length = field(head, size, "content-length:");
    memset(body, 0, sizeof *body);
    if (encoding && strncasecmp(encoding, "chunked", 7) == 0) {
        body->state = BODY_SIZE_LINE;
    } else {
        body->left = length ? strtoull(length, NULL, 10) : 0;
        body->state = body->left ? BODY_LENGTH : BODY_DONE;
    }
}

static inline int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if ((c | 32) >= 'a' && (c | 32) <= 'f') return (c | 32) - 'a' + 10;
    return -1;
}

/* Takes bytes of the body; calls `take` for each run of content. Returns the bytes consumed, or (size_t)-1 on a bad chunk. */
static inline size_t body_read(body_reader *body, const char *data, size_t size,
                               void (*take)(void *, const char *, size_t), void *who) {
    size_t at = 0;
    while (at < size && body->state != BODY_DONE) {
        if (body->state == BODY_LENGTH || body->state == BODY_CHUNK) {
            size_t run = size - at < body->left ? size - at : (size_t)body->left;
            if (take) take(who, data + at, run);
            at += run;
            body->left -= run;
            if (!body->left) body->state = body->state == BODY_LENGTH ? BODY_DONE : BODY_CHUNK_END;
            continue;
        }
        char c = data[at++];
        if (body->state == BODY_CHUNK_END) {
            if (c == '\n') body->state = BODY_SIZE_LINE, body->line_bytes = body->in_extension = 0;
        } else if (body->state == BODY_TRAILER) {
            if (c == '\n') {
                if (!body->line_bytes) body->state = BODY_DONE;
                body->line_bytes = 0;
            } else if (c != '\r') {
                body->line_bytes++;
            }
        } else if (c == '\n') {
            if (!body->line_bytes) return (size_t)-1;
            body->state = body->left ? BODY_CHUNK : BODY_TRAILER;
            body->line_bytes = 0;
        } else if (c == ';') {
            body->in_extension = 1;
        } else if (c != '\r' && c != ' ' && !body->in_extension) {
            int digit = hex_digit(c);
            if (digit < 0 || ++body->line_bytes > 15) return (size_t)-1;
            body->left = body->left * 16 + (uint64_t)digit;
        }
    }
    return at;
}

#endif
