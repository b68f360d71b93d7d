/* Closed-loop load on a framed echo server: every connection sends a frame, waits for a frame of
 * the same size, and sends the next one. Prints requests, seconds and latency quantiles.
 *
 *     load HOST PORT CONNECTIONS PAYLOAD_BYTES SECONDS
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

struct conn { int fd; size_t sent, got; double started; };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void die(const char *what) { perror(what); exit(1); }

static int compare(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static char *frame, *sink;
static size_t frame_size;

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

int main(int argc, char **argv) {
    if (argc != 6) { fprintf(stderr, "usage: load HOST PORT CONNECTIONS BYTES SECONDS\n"); return 2; }
    int count = atoi(argv[3]);
    size_t payload = strtoul(argv[4], 0, 10);
    double seconds = atof(argv[5]);
    frame_size = payload + 4;
    frame = malloc(frame_size);
    sink = malloc(1 << 20);
    memset(frame, 'x', frame_size);
    uint32_t size = htonl(payload);
    memcpy(frame, &size, 4);
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
    size_t capacity = 1 << 22, requests = 0;
    float *latencies = malloc(capacity * sizeof *latencies);
    double begin = now(), warm = begin + seconds * 0.2, end = warm + seconds;
    for (int i = 0; i < count; i++) { conns[i].started = now(); push(ep, &conns[i]); }
    struct epoll_event events[256];
    for (double t = now(); t < end; t = now()) {
        int n = epoll_wait(ep, events, 256, 100);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) push(ep, c);
            if (!(events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) continue;
            ssize_t got = recv(c->fd, sink, 1 << 20, 0);
            if (got == 0) { fprintf(stderr, "connection closed by the server\n"); return 1; }
            if (got < 0) { if (errno == EAGAIN) continue; die("recv"); }
            c->got += got;
            if (c->got < frame_size) continue;
            double done = now();
            if (done >= warm && requests < capacity) latencies[requests++] = done - c->started;
            c->got = c->sent = 0;
            c->started = done;
            push(ep, c);
        }
    }
    double took = now() - warm;
    qsort(latencies, requests, sizeof *latencies, compare);
    if (!requests) { fprintf(stderr, "no request finished\n"); return 1; }
    printf("%.1f %.1f %.1f %.1f\n", requests / took, latencies[requests / 2] * 1e6,
           latencies[(size_t)(requests * 0.99)] * 1e6, latencies[(size_t)(requests * 0.999)] * 1e6);
    return 0;
}
