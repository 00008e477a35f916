/* A vendor that costs next to nothing: an OpenAI-shaped chat endpoint on one epoll thread.
 *
 * upstream PORT KEY ANSWER_FILE EVENTS_FILE PACE_US
 *
 * A POST whose body asks for "stream":true gets the events of EVENTS_FILE (separated by empty lines), each its own chunk and its
 * own write, PACE_US apart; the last one ([DONE]) follows the one before it at once, as vendors do. Any other POST gets ANSWER_FILE.
 * GET /stats tells what was counted since the start, GET /arrivals when the latest calls arrived; any other GET gets an empty list. A POST with another key than KEY
 * is refused with 401 and counted. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "http1.h"

enum { MAX_CONNECTIONS = 8192, BUFFER = 65536, MAX_EVENTS = 1024, ARRIVALS = 65536 };

typedef struct connection {
    int fd;
    size_t used;             /* bytes of the request in `buffer` */
    size_t step, sent;       /* the event to write next, and how much of it went out */
    int64_t due_ns;          /* when it is to be written */
    struct connection *next; /* the next one due: all waits are equal, so a queue stays in order */
    int streaming;
    char buffer[BUFFER];
} connection;

typedef struct { char *data; size_t size; } text;

static struct { uint64_t calls, streams, wrong_keys, bad_requests, broken_streams, in_flight, most_in_flight; } counted;
static int64_t stream_ns, level_since_ns; /* streams in flight, summed over time; and since when their number is what it is */
static int64_t arrivals_ns[ARRIVALS]; /* of the latest calls with the right key, a ring */
static uint64_t arrived;
static connection *connections[MAX_CONNECTIONS];
static connection *first_due, *last_due;
static text answer, events[MAX_EVENTS];
static size_t event_count;
static int64_t pace_ns;
static char wanted_key[256];
static int poller, timer;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static text read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    text out = {malloc(1 << 20), 0};
    if (!file || !out.data) fail(path);
    out.size = fread(out.data, 1, 1 << 20, file);
    fclose(file);
    return out;
}

static text http_answer(const char *status, text body) {
    text out = {malloc(body.size + 512), 0};
    out.size = (size_t)sprintf(out.data, "HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n", status, body.size);
    memcpy(out.data + out.size, body.data, body.size);
    out.size += body.size;
    return out;
}

/* Cuts the file at empty lines and dresses each event as one chunk; the first carries the head, the last the end of the body. */
static void load_events(const char *path) {
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
    text file = read_file(path);
    char *at = file.data, *end = file.data + file.size;
    while (at < end && event_count < MAX_EVENTS) {
        char *stop = memmem(at, (size_t)(end - at), "\n\n", 2);
        size_t size = stop ? (size_t)(stop - at) + 2 : (size_t)(end - at);
        text *event = &events[event_count++];
        event->data = malloc(size + sizeof head + 64);
        event->size = (size_t)sprintf(event->data, "%s%zx\r\n", event_count == 1 ? head : "", size);
        memcpy(event->data + event->size, at, size);
        event->size += size;
        event->size += (size_t)sprintf(event->data + event->size, at + size >= end ? "\r\n0\r\n\r\n" : "\r\n");
        at += size;
    }
    if (event_count < 2) fail("the events file needs two events at least");
}

/* Changes the number of streams in flight. */
static void level(int change) {
    int64_t now = now_ns();
    stream_ns += (int64_t)counted.in_flight * (now - level_since_ns);
    level_since_ns = now;
    counted.in_flight = (uint64_t)((int64_t)counted.in_flight + change);
    if (counted.in_flight > counted.most_in_flight) counted.most_in_flight = counted.in_flight;
}

static void arm_timer(void) {
    struct itimerspec when = {0};
    if (first_due) {
        when.it_value.tv_sec = first_due->due_ns / 1000000000;
        when.it_value.tv_nsec = first_due->due_ns % 1000000000;
    }
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void enqueue(connection *c) {
    c->due_ns += pace_ns;
    c->next = NULL;
    if (last_due) last_due->next = c;
    else first_due = c;
    last_due = c;
    if (first_due == c) arm_timer();
}

/* Ends a stream, not waiting in the queue, that its reader left. */
static void break_off(connection *c) {
    c->streaming = 0;
    counted.broken_streams++;
    level(-1);
}

static void hang_up(connection *c) {
    if (c->streaming) {
        break_off(c);
        connection *before = NULL;
        for (connection *d = first_due; d && d != c; d = d->next) before = d;
        if (before) before->next = c->next;
        else first_due = c->next;
        if (last_due == c) last_due = before;
        arm_timer();
    }
    connections[c->fd] = NULL;
    close(c->fd);
    free(c);
}

static void serve(connection *c);

/* Writes the present event, and the last one right behind the last but one. Returns 0 when the connection is gone. */
static int write_event(connection *c) {
    for (;;) {
        text *event = &events[c->step];
        ssize_t n = send(c->fd, event->data + c->sent, event->size - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) return 0;
        c->sent += n > 0 ? (size_t)n : 0;
        if (c->sent < event->size) break; /* a slow reader: the rest goes out at the next tick */
        c->sent = 0;
        if (++c->step == event_count) {
            c->streaming = 0;
            level(-1);
            return 1;
        }
        if (c->step < event_count - 1) break;
    }
    enqueue(c);
    return 1;
}

static void tick(void) {
    int64_t now = now_ns();
    while (first_due && first_due->due_ns <= now) {
        connection *c = first_due;
        first_due = c->next;
        if (!first_due) last_due = NULL;
        if (!write_event(c)) {
            break_off(c);
            hang_up(c);
        } else if (!c->streaming && c->used) {
            serve(c);
        }
    }
    arm_timer();
}

/* All answers but streams fit the socket buffer of a reader that waits for each answer before it asks again. */
static int reply(connection *c, text what) {
    return send(c->fd, what.data, what.size, MSG_NOSIGNAL) == (ssize_t)what.size;
}

static int reply_stats(connection *c) {
    char body[640];
    level(0);
    int size = sprintf(body, "{\"calls\":%lu,\"streams\":%lu,\"wrong_keys\":%lu,\"bad_requests\":%lu,\"broken_streams\":%lu,\"in_flight\":%lu,\"most_in_flight\":%lu,"
                       "\"stream_ns\":%ld,\"now_ns\":%ld}",
                       counted.calls, counted.streams, counted.wrong_keys, counted.bad_requests, counted.broken_streams, counted.in_flight, counted.most_in_flight, stream_ns,
                       level_since_ns);
    text out = http_answer("200 OK", (text){body, (size_t)size});
    int ok = reply(c, out);
    free(out.data);
    return ok;
}

/* Prints the ring, oldest first. It is asked for when no load is running, so this one answer may block. */
static int reply_arrivals(connection *c) {
    uint64_t first = arrived > ARRIVALS ? arrived - ARRIVALS : 0;
    text body = {malloc(ARRIVALS * 21 + 2), 0};
    body.data[body.size++] = '[';
    for (uint64_t i = first; i < arrived; i++) {
        body.size += (size_t)sprintf(body.data + body.size, i == first ? "%ld" : ",%ld", arrivals_ns[i % ARRIVALS]);
    }
    body.data[body.size++] = ']';
    text out = http_answer("200 OK", body);
    fcntl(c->fd, F_SETFL, 0);
    int ok = reply(c, out);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    free(body.data);
    free(out.data);
    return ok;
}

static int asks_for_stream(const char *body, size_t size) {
    const char *at = memmem(body, size, "\"stream\":", 9);
    if (!at) return 0;
    at += 9;
    while (at < body + size && *at == ' ') at++;
    return body + size - at >= 4 && memcmp(at, "true", 4) == 0;
}

/* Answers one whole request. Returns 0 when the connection must be closed. */
static int answer_request(connection *c, size_t head, size_t total) {
    static const text refused = {"{\"error\":{\"message\":\"wrong key\",\"code\":\"invalid_api_key\"}}", 58}, list = {"{\"object\":\"list\",\"data\":[]}", 27};
    if (memcmp(c->buffer, "POST ", 5) != 0) {
        if (memcmp(c->buffer, "GET /stats ", 11) == 0) return reply_stats(c);
        if (memcmp(c->buffer, "GET /arrivals ", 14) == 0) return reply_arrivals(c);
        text out = http_answer("200 OK", list);
        int ok = reply(c, out);
        free(out.data);
        return ok;
    }
    const char *key = field(c->buffer, head, "authorization:");
    size_t length = strlen(wanted_key);
    counted.calls++;
    if (!key || strncmp(key, wanted_key, length) != 0 || key[length] != '\r') {
        counted.wrong_keys++;
        text out = http_answer("401 Unauthorized", refused);
        int ok = reply(c, out);
        free(out.data);
        return ok;
    }
    arrivals_ns[arrived++ % ARRIVALS] = now_ns();
    if (!asks_for_stream(c->buffer + head, total - head)) return reply(c, answer);
    counted.streams++;
    level(1);
    c->streaming = 1;
    c->step = c->sent = 0;
    c->due_ns = now_ns();
    if (write_event(c)) return 1;
    break_off(c);
    return 0;
}

/* Serves every whole request in the buffer, one stream at a time. */
static void serve(connection *c) {
    while (c->used && !c->streaming) {
        size_t head = head_length(c->buffer, c->used);
        if (!head) break;
        body_reader body;
        body_begin(&body, c->buffer, head);
        size_t taken = body_read(&body, c->buffer + head, c->used - head, NULL, NULL);
        if (taken == (size_t)-1) {
            counted.bad_requests++;
            hang_up(c);
            return;
        }
        if (body.state != BODY_DONE) break;
        size_t total = head + taken;
        if (!answer_request(c, head, total)) {
            hang_up(c);
            return;
        }
        memmove(c->buffer, c->buffer + total, c->used - total);
        c->used -= total;
    }
    if (c->used == BUFFER) {
        counted.bad_requests++;
        hang_up(c);
    }
}

static void receive(connection *c) {
    ssize_t n = recv(c->fd, c->buffer + c->used, BUFFER - c->used, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        hang_up(c);
    } else if (n > 0) {
        c->used += (size_t)n;
        serve(c);
    }
}

static void accept_all(int door) {
    int fd, one = 1;
    while ((fd = accept4(door, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        connection *c = fd < MAX_CONNECTIONS ? malloc(sizeof *c) : NULL;
        if (!c) {
            close(fd);
            continue;
        }
        memset(c, 0, offsetof(connection, buffer));
        c->fd = fd;
        connections[fd] = c;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event want = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &want);
    }
}

static int open_door(int port) {
    int door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(door, (struct sockaddr *)&address, sizeof address) || listen(door, 4096)) fail("upstream: cannot listen");
    return door;
}

static void watch(int fd) {
    struct epoll_event want = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &want)) fail("upstream: cannot watch");
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: %s PORT KEY ANSWER_FILE EVENTS_FILE PACE_US\n", argv[0]);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    snprintf(wanted_key, sizeof wanted_key, "Bearer %s", argv[2]);
    answer = http_answer("200 OK", read_file(argv[3]));
    load_events(argv[4]);
    pace_ns = atoll(argv[5]) * 1000;
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int door = open_door(atoi(argv[1]));
    watch(door);
    watch(timer);
    for (;;) {
        struct epoll_event ready[256];
        int n = epoll_wait(poller, ready, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            uint64_t expirations;
            if (fd == door) accept_all(door);
            else if (fd != timer) { if (connections[fd]) receive(connections[fd]); }
            else if (read(timer, &expirations, sizeof expirations) > 0) tick();
        }
    }
}
