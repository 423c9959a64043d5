/* echo_load PORT PID CONNECTIONS MESSAGES: keep an echo server on 127.0.0.1 busy.

   Every connection has one 64-byte message under way at a time, each message differs from every
   other, and every echo is compared. Prints how many came back right, how many wrong, the seconds
   that it took, and the CPU seconds that the process PID (the server) used meanwhile.

   In C, because it must be faster than the fastest server that it measures: edge-triggered events,
   no memory allocated, nothing but recv, compare, send for a message. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 64, MOST = 4096, UNREAD = 8 };

struct connection {
    int fd, under_way; /* messages said and not yet compared */
    ssize_t heard;     /* bytes of their echoes that have been read */
    uint64_t said[UNREAD][SIZE / 8];
    char echoes[UNREAD * SIZE];
} connections[MOST];

static long left, right, wrong; /* messages to send; echoes */
static uint64_t number;

static void need(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static double read_clock(clockid_t clock) {
    struct timespec now;
    need(clock_gettime(clock, &now) == 0, "clock_gettime");
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void say(struct connection *one) {
    uint64_t seed = ++number * 0x9E3779B97F4A7C15, *words = one->said[one->under_way++];
    for (int i = 0; i < SIZE / 8; i++)
        words[i] = seed ^ (seed >> (i + 7));
    left--;
    need(send(one->fd, words, SIZE, MSG_NOSIGNAL) == SIZE, "send");
}

/* An event says that the echo is there. It is read when UNREAD of them are, in one call: that saves
   us a system call for most messages, and the server none. */
static void hear(struct connection *one) {
    if (one->under_way == UNREAD || left <= 0) {
        ssize_t whole = one->under_way * SIZE;
        ssize_t size = recv(one->fd, one->echoes + one->heard, whole - one->heard, MSG_DONTWAIT);
        if (size < 0 && errno == EAGAIN)
            return;
        need(size > 0, "recv");
        one->heard += size;
        if (one->heard < whole)
            return;
        for (int i = 0; i < one->under_way; i++)
            if (memcmp(one->said[i], one->echoes + i * SIZE, SIZE) == 0)
                right++;
            else
                wrong++;
        one->heard = one->under_way = 0;
    }
    if (left > 0)
        say(one);
}

static void exchange(int epoll, long count, long messages) {
    left = messages;
    right = wrong = 0;
    for (int i = 0; i < count && left > 0; i++)
        say(&connections[i]);
    while (right + wrong < messages) {
        struct epoll_event events[256];
        int ready = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < ready; i++)
            hear(events[i].data.ptr);
    }
}

int main(int argc, char **argv) {
    if (argc != 5)
        return 2;
    alarm(240); /* a server that stops answering must not keep us for ever */
    long count = atol(argv[3]), messages = atol(argv[4]);
    clockid_t server;
    need(count <= MOST && clock_getcpuclockid(atoi(argv[2]), &server) == 0, "arguments");
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(atoi(argv[1])),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int epoll = epoll_create1(0), on = 1;
    for (int i = 0; i < count; i++) {
        int fd = connections[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        need(connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "connect");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = &connections[i]};
        need(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
    }
    exchange(epoll, count, count * 10); /* warm up: all are accepted, caches are filled */

    double started = read_clock(CLOCK_MONOTONIC), used = read_clock(server);
    exchange(epoll, count, messages);
    used = read_clock(server) - used;
    printf("%ld %ld %.6f %.6f\n", right, wrong, read_clock(CLOCK_MONOTONIC) - started, used);
}
