/* Closed-loop load on a server of size-prefixed frames: every connection sends the same frame, waits
 * for the whole response, and sends it again. Prints requests per second, the latency quantiles p50,
 * p99 and p99.9 in microseconds, and how many responses came, those of the warm-up included.
 *
 *     load HOST PORT CONNECTIONS FRAME_FILE SECONDS [ZERO_AT]
 *
 * FRAME_FILE holds one frame, its size included. ZERO_AT is the offset in the response, size included,
 * of an error code, two bytes, which must be zero each time: a server that refuses is fast, too.
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

struct conn {
    int fd;
    size_t sent, got;
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

int main(int argc, char **argv) {
    if (argc != 6 && argc != 7) fail("usage: load HOST PORT CONNECTIONS FRAME_FILE SECONDS [ZERO_AT]");
    int count = atoi(argv[3]);
    double seconds = atof(argv[5]);
    read_frame(argv[4]);
    if (argc == 7) zero_at = atol(argv[6]);
    if (zero_at > HEAD_BYTES - 2) fail("ZERO_AT is too large");
    sink = malloc(SINK_BYTES);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    inet_pton(AF_INET, argv[1], &address.sin_addr);
    int ep = epoll_create1(0), one = 1;
    struct conn *conns = calloc(count, sizeof *conns);
    for (int i = 0; i < count; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) die("connect");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        conns[i].fd = fd;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &conns[i]};
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
    }
    size_t capacity = 1 << 22, requests = 0, answered = 0;
    float *latencies = malloc(capacity * sizeof *latencies);
    double begin = now(), warm = begin + seconds * 0.2, end = warm + seconds;
    for (int i = 0; i < count; i++) {
        conns[i].started = now();
        push(ep, &conns[i]);
    }
    struct epoll_event events[256];
    for (double t = now(); t < end; t = now()) {
        int n = epoll_wait(ep, events, 256, 100);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) push(ep, c);
            if (!(events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) || !receive(c)) continue;
            double done = now();
            answered++;
            if (done >= warm && requests < capacity) latencies[requests++] = done - c->started;
            c->got = c->sent = 0;
            c->started = done;
            push(ep, c);
        }
    }
    double took = now() - warm;
    if (!requests) fail("no request finished");
    qsort(latencies, requests, sizeof *latencies, compare);
    printf("%.1f %.1f %.1f %.1f %zu\n", requests / took, latencies[requests / 2] * 1e6,
           latencies[(size_t)(requests * 0.99)] * 1e6, latencies[(size_t)(requests * 0.999)] * 1e6,
           answered);
    return 0;
}
