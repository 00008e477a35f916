/* A crowd of callers on one epoll thread.
 *
 * load PORT REQUEST_FILE CONNECTIONS COUNT SECONDS RATE SPREAD_MS DRAIN_S
 *
 * Sends the bytes of REQUEST_FILE over kept-alive connections to 127.0.0.1:PORT, reads every answer to its last byte, and prints
 * what happened as one JSON object.
 * RATE 0: closed loop; each connection asks again as soon as it was answered; the first requests are spread over SPREAD_MS.
 * RATE r: open loop; r requests a second are due at fixed instants and their latency counts from that instant, also when
 * no connection was free. Requests become due until SECONDS have passed or COUNT were sent (0: no such bound). What is due or under
 * way then is waited for, until SECONDS + DRAIN_S after the start. */
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

enum { HEAD = 16384, SCRATCH = 65536, STATUSES = 600 };

typedef struct connection {
    int fd, busy, in_body, status, close_after, after_newline;
    int64_t start_ns;
    size_t used;
    body_reader body;
    struct connection *next_free;
    char head[HEAD];
} connection;

static struct { uint64_t sent, answered, lost, events, bytes, reconnects; uint64_t statuses[STATUSES]; } counted;
static int64_t *latencies_ns;
static size_t latency_room;
static char request[SCRATCH], scratch[SCRATCH];
static size_t request_size;
static connection *connections, *free_list, *last_free; /* the one that rested longest first */
static int connection_count, port, poller, timer, open_loop;
static uint64_t count_limit, released;
static int64_t begin_ns, end_ns, interval_ns, late_most_ns, last_answer_ns;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void dial(connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) fail("load: cannot connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event want = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &want);
}

static void redial(connection *c) {
    close(c->fd);
    counted.reconnects++;
    dial(c);
}

static void ask(connection *c, int64_t start_ns) {
    c->busy = 1;
    c->in_body = c->status = c->close_after = c->after_newline = 0;
    c->used = 0;
    c->start_ns = start_ns;
    counted.sent++;
    if (send(c->fd, request, request_size, MSG_NOSIGNAL) == (ssize_t)request_size) return;
    redial(c); /* the gateway closed an idle connection: nothing of the request was read */
    if (send(c->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size) fail("load: cannot send");
}

/* When the next request of the timetable is due: each of an open loop, the first of each connection of a closed one. */
static int64_t next_due(void) {
    return begin_ns + (int64_t)released * interval_ns;
}

static int may_become_due(int64_t at) {
    return at < end_ns && (!count_limit || counted.sent < count_limit);
}

/* Sends what is due while a connection is free, then sets the timer to the next instant. */
static void send_due(void) {
    int64_t now = now_ns();
    while (free_list && next_due() <= now && may_become_due(next_due())) {
        connection *c = free_list;
        int64_t due = next_due();
        free_list = c->next_free;
        released++;
        if (open_loop && now - due > late_most_ns) late_most_ns = now - due;
        ask(c, open_loop ? due : now_ns());
    }
    struct itimerspec when = {0};
    if (free_list && may_become_due(next_due())) {
        when.it_value.tv_sec = next_due() / 1000000000;
        when.it_value.tv_nsec = next_due() % 1000000000;
    }
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void set_free(connection *c) {
    c->next_free = NULL;
    if (free_list) last_free->next_free = c;
    else free_list = c;
    last_free = c;
}

static void rest(connection *c) {
    c->busy = 0;
    if (!open_loop) {
        int64_t now = now_ns();
        if (may_become_due(now)) ask(c, now);
        return;
    }
    set_free(c);
    send_due();
}

static void finish(connection *c) {
    if (counted.answered == latency_room) {
        latency_room = latency_room ? latency_room * 2 : 1 << 16;
        latencies_ns = realloc(latencies_ns, latency_room * sizeof *latencies_ns);
        if (!latencies_ns) fail("load: out of memory");
    }
    last_answer_ns = now_ns();
    latencies_ns[counted.answered++] = last_answer_ns - c->start_ns;
    counted.statuses[c->status < STATUSES ? c->status : 0]++;
    if (c->close_after) redial(c);
    rest(c);
}

/* Counts the empty lines of a body: one for each event of a stream. */
static void take_content(void *who, const char *data, size_t size) {
    connection *c = who;
    const char *end = data + size;
    counted.bytes += size;
    while (data < end) {
        if (*data == '\n') {
            if (c->after_newline) counted.events++;
            c->after_newline = !c->after_newline;
            data++;
        } else if (*data == '\r') {
            data++;
        } else {
            c->after_newline = 0;
            const char *line = memchr(data, '\n', (size_t)(end - data));
            if (!line) return;
            data = line;
        }
    }
}

static void lose(connection *c) {
    counted.lost += (uint64_t)c->busy;
    redial(c);
    if (c->busy) rest(c);
}

/* Takes the head once it is whole. Returns 0 when it cannot be understood. */
static int take_head(connection *c, size_t *head) {
    *head = head_length(c->head, c->used);
    if (!*head) return c->used < HEAD;
    if (*head < 12 || memcmp(c->head, "HTTP/1.", 7) != 0) return 0;
    const char *close_field = field(c->head, *head, "connection:");
    c->status = atoi(c->head + 9);
    c->close_after = close_field && strncasecmp(close_field, "close", 5) == 0;
    c->in_body = 1;
    body_begin(&c->body, c->head, *head);
    return 1;
}

static void receive(connection *c) {
    char *into = c->in_body ? scratch : c->head + c->used;
    ssize_t n = recv(c->fd, into, c->in_body ? SCRATCH : HEAD - c->used, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0 || !c->busy) {
        lose(c);
        return;
    }
    const char *data = scratch;
    size_t size = (size_t)n, head = 0;
    if (!c->in_body) {
        c->used += (size_t)n;
        if (!take_head(c, &head)) {
            lose(c);
            return;
        }
        if (!c->in_body) return;
        data = c->head + head;
        size = c->used - head;
    }
    if (body_read(&c->body, data, size, take_content, c) == (size_t)-1) lose(c);
    else if (c->body.state == BODY_DONE) finish(c);
}

static int ascending(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static int64_t quantile(double share) {
    if (!counted.answered) return 0;
    size_t rank = (size_t)(share * (double)counted.answered);
    return latencies_ns[rank < counted.answered ? rank : counted.answered - 1];
}

/* What was due in an open loop and found no free connection until the end. */
static uint64_t never_sent(void) {
    if (!open_loop || (count_limit && counted.sent >= count_limit)) return 0;
    uint64_t due = (uint64_t)((end_ns - begin_ns + interval_ns - 1) / interval_ns);
    if (count_limit && due > count_limit) due = count_limit;
    return due > counted.sent ? due - counted.sent : 0;
}

static void report(void) {
    double sum = 0;
    for (size_t i = 0; i < counted.answered; i++) sum += (double)latencies_ns[i];
    qsort(latencies_ns, counted.answered, sizeof *latencies_ns, ascending);
    printf("{\"sent\":%lu,\"answered\":%lu,\"lost\":%lu,\"unanswered\":%lu,\"never_sent\":%lu,\"reconnects\":%lu,\"events\":%lu,\"bytes\":%lu,\"elapsed_ns\":%ld,\"late_most_ns\":%ld,",
           counted.sent, counted.answered, counted.lost, counted.sent - counted.answered - counted.lost, never_sent(), counted.reconnects,
           counted.events, counted.bytes, last_answer_ns ? last_answer_ns - begin_ns : 0, late_most_ns);
    printf("\"latency_ns\":{\"mean\":%.0f,\"p50\":%ld,\"p90\":%ld,\"p99\":%ld,\"most\":%ld},\"statuses\":{", counted.answered ? sum / (double)counted.answered : 0,
           quantile(0.5), quantile(0.9), quantile(0.99), quantile(1));
    const char *comma = "";
    for (int status = 0; status < STATUSES; status++) {
        if (!counted.statuses[status]) continue;
        printf("%s\"%d\":%lu", comma, status, counted.statuses[status]);
        comma = ",";
    }
    printf("}}\n");
}

static void run(int64_t drain_ns) {
    int64_t give_up_ns = end_ns + drain_ns;
    send_due();
    for (;;) {
        struct epoll_event ready[256];
        int n = epoll_wait(poller, ready, 256, 50);
        for (int i = 0; i < n; i++) {
            uint64_t expirations;
            if (ready[i].data.ptr) receive(ready[i].data.ptr);
            else if (read(timer, &expirations, sizeof expirations) > 0) send_due();
        }
        int in_flight = counted.sent > counted.answered + counted.lost;
        int over = !may_become_due(open_loop ? next_due() : now_ns());
        if ((over && !in_flight) || now_ns() >= give_up_ns) return;
    }
}

int main(int argc, char **argv) {
    if (argc != 9) {
        fprintf(stderr, "usage: %s PORT REQUEST_FILE CONNECTIONS COUNT SECONDS RATE SPREAD_MS DRAIN_S\n", argv[0]);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    port = atoi(argv[1]);
    connection_count = atoi(argv[3]);
    count_limit = strtoull(argv[4], NULL, 10);
    double duration_s = atof(argv[5]), rate = atof(argv[6]);
    open_loop = rate > 0;
    interval_ns = open_loop ? (int64_t)(1e9 / rate) : (int64_t)(atof(argv[7]) * 1e6) / connection_count;
    FILE *file = fopen(argv[2], "rb");
    if (!file) fail(argv[2]);
    request_size = fread(request, 1, sizeof request, file);
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event want = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &want);
    connections = calloc((size_t)connection_count, sizeof *connections);
    for (int i = 0; i < connection_count; i++) {
        dial(&connections[i]);
        set_free(&connections[i]);
    }
    begin_ns = now_ns();
    end_ns = begin_ns + (int64_t)(duration_s * 1e9);
    run((int64_t)(atof(argv[8]) * 1e9));
    report();
    return 0;
}
