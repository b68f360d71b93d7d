/* Closed-loop load on a server of size-prefixed frames: every connection sends the same frame, waits
 * for the whole response, and sends it again.
 *
 *     load PORT PID CONNECTIONS FRAME_FILE SECONDS ZERO_AT
 *
 * PORT is of 127.0.0.1. PID is the server's process, 0 for none. FRAME_FILE holds one frame, its size
 * included. ZERO_AT is the offset in the response, size included, of an error code, two bytes, which
 * must be zero each time: a server that refuses is fast, too; -1 for none.
 *
 * Three phases, so that what is measured is a server at work and not one that gets started:
 *
 * 1. Connect, a few at a time. The next few come when all of those before were answered once, thus
 *    accepted: a backlog never overflows, where the kernel would drop the SYN and try again after 1 s.
 * 2. Warm up: all connections at once, for a fifth of SECONDS at least, and until each was answered.
 * 3. Measure, for SECONDS.
 *
 * Prints of the third: requests per second, the latency quantiles p50, p99 and p99.9 in microseconds,
 * and what the server's process worked for a request, microseconds of all of its threads. Then the
 * connections stay open until standard input ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SINK_BYTES (1 << 20)
#define HEAD_BYTES 256 /* of a response are looked at */
#define STEP 32        /* connects at a time; a backlog of 50 is Kafka's default */
#define MOST_LATENCIES (1 << 24)
#define PATIENCE_MS 10000

struct conn {
    int fd;
    size_t sent, got;
    int is_warm; /* answered since all were connected */
    double started;
    unsigned char head[HEAD_BYTES];
};

static unsigned char *frame, *sink;
static size_t frame_size;
static long zero_at = -1;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static int compare(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void read_frame(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    fseek(file, 0, SEEK_END);
    frame_size = ftell(file);
    rewind(file);
    frame = malloc(frame_size);
    if (fread(frame, 1, frame_size, file) != frame_size) die(path);
    fclose(file);
}

static void push(int ep, struct conn *c) {
    while (c->sent < frame_size) {
        ssize_t n = send(c->fd, frame + c->sent, frame_size - c->sent, 0);
        if (n < 0) {
            if (errno != EAGAIN) die("send");
            break;
        }
        c->sent += n;
    }
    if (frame_size > 65536) { /* only large frames can fill the socket buffer */
        struct epoll_event e = {.events = EPOLLIN | (c->sent < frame_size ? EPOLLOUT : 0), .data.ptr = c};
        epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
    }
}

/* Whether the whole response is there. */
static int receive(struct conn *c) {
    ssize_t n = recv(c->fd, sink, SINK_BYTES, 0);
    if (n == 0) fail("connection closed by the server");
    if (n < 0) {
        if (errno == EAGAIN) return 0;
        die("recv");
    }
    if (c->got < HEAD_BYTES) {
        size_t room = HEAD_BYTES - c->got;
        memcpy(c->head + c->got, sink, (size_t)n < room ? (size_t)n : room);
    }
    c->got += n;
    if (c->got < 4) return 0;
    uint32_t size;
    memcpy(&size, c->head, 4);
    size = ntohl(size);
    if (c->got > size + 4ul) fail("more bytes than one response");
    if (c->got < size + 4ul) return 0;
    if (zero_at >= 0 && (c->got < (size_t)zero_at + 2 || c->head[zero_at] || c->head[zero_at + 1])) {
        fprintf(stderr, "an error code of %d in the response, which has %zu bytes\n",
                (int16_t)(c->head[zero_at] << 8 | c->head[zero_at + 1]), c->got);
        exit(1);
    }
    return 1;
}

static void restart(int ep, struct conn *c, double at) {
    c->got = c->sent = 0;
    c->started = at;
    push(ep, c);
}

/* Connect some, and wait until the server has answered each of them. */
static void connect_some(int ep, struct conn *conns, int count, const struct sockaddr_in *address) {
    struct epoll_event events[STEP];
    int one = 1;
    for (int i = 0; i < count; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof *address)) die("connect");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        conns[i].fd = fd;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &conns[i]};
        if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e)) die("epoll_ctl");
        push(ep, &conns[i]);
    }
    for (int left = count; left;) {
        int n = epoll_wait(ep, events, STEP, PATIENCE_MS);
        if (n == 0) fail("a connection got no answer");
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) push(ep, c);
            if (events[i].events & ~EPOLLOUT) left -= receive(c);
        }
    }
}

/* Processor time of all threads of the server so far, those that are gone included. */
static double worked(pid_t pid) {
    clockid_t clock;
    struct timespec t;
    if (!pid) return 0;
    if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &t)) die("clock of the server");
    return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
    if (argc != 7) fail("usage: load PORT PID CONNECTIONS FRAME_FILE SECONDS ZERO_AT");
    pid_t pid = atoi(argv[2]);
    int count = atoi(argv[3]);
    double seconds = atof(argv[5]);
    read_frame(argv[4]);
    zero_at = atol(argv[6]);
    if (zero_at > HEAD_BYTES - 2) fail("ZERO_AT is too large");
    sink = malloc(SINK_BYTES);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    int ep = epoll_create1(0);
    struct conn *conns = calloc(count, sizeof *conns);
    for (int i = 0; i < count; i += STEP)
        connect_some(ep, conns + i, count - i < STEP ? count - i : STEP, &address);

    size_t requests = 0;
    float *latencies = malloc(MOST_LATENCIES * sizeof *latencies); /* pages come when written to */
    int cold = count;
    double warm = now() + seconds * 0.2, begin = 0, end = 0, worked_before = 0;
    for (int i = 0; i < count; i++) restart(ep, &conns[i], now());
    struct epoll_event events[256];
    for (double t = now(); !end || t < end; t = now()) {
        if (!end && !cold && t >= warm) {
            begin = t;
            end = t + seconds;
            worked_before = worked(pid);
        }
        int n = epoll_wait(ep, events, 256, PATIENCE_MS);
        if (n == 0) fail("no connection gets an answer");
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) push(ep, c);
            if (!(events[i].events & ~EPOLLOUT) || !receive(c)) continue;
            double done = now();
            if (!c->is_warm) cold--;
            c->is_warm = 1;
            if (end && requests < MOST_LATENCIES) latencies[requests++] = done - c->started;
            restart(ep, c, done);
        }
    }
    double took = now() - begin, work = worked(pid) - worked_before;
    if (!requests) fail("no request finished");
    qsort(latencies, requests, sizeof *latencies, compare);
    printf("%.1f %.1f %.1f %.1f %.2f\n", requests / took, latencies[requests / 2] * 1e6,
           latencies[(size_t)(requests * 0.99)] * 1e6, latencies[(size_t)(requests * 0.999)] * 1e6,
           work / requests * 1e6);
    fflush(stdout);
    while (getchar() != EOF) continue;
    return 0;
}
