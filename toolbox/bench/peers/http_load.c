/* http_load PORT PATH CONNECTIONS SECONDS: keep-alive GETs, one outstanding on each connection.

   Prints "ANSWERS SECONDS WRONG": answers received in the time, and how many of them were not a 200
   with the body of the very first one. In C, so that it asks faster than a Python server answers.
   Linux (epoll). cc -O2 -o http_load http_load.c */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 65536 };

struct guest { int fd; size_t filled; char buffer[ROOM + 1]; };

static char request[4096], first_body[ROOM];
static size_t request_size, first_size;
static long answers, wrong;

static void die(const char *what) { perror(what); exit(1); }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void ask(struct guest *guest) { /* a request is small: it always fits the socket's buffer */
    if (write(guest->fd, request, request_size) != (ssize_t)request_size) die("write");
}

/* The size of the whole answer at the start of the buffer; 0 if it is not all there yet. */
static size_t whole_answer(struct guest *guest, char **body, size_t *body_size) {
    guest->buffer[guest->filled] = 0;
    char *end = strstr(guest->buffer, "\r\n\r\n");
    if (!end) return 0;
    char *length = strcasestr(guest->buffer, "\r\ncontent-length:");
    if (!length || length > end) { fputs("no Content-Length\n", stderr); exit(1); }
    *body = end + 4;
    *body_size = strtoul(length + 17, NULL, 10);
    size_t size = (size_t)(*body - guest->buffer) + *body_size;
    if (size > ROOM) { fputs("the answer is too long\n", stderr); exit(1); }
    return size <= guest->filled ? size : 0;
}

static void hear(struct guest *guest) {
    ssize_t got = read(guest->fd, guest->buffer + guest->filled, ROOM - guest->filled);
    if (got <= 0) die("the server hung up");
    guest->filled += (size_t)got;
    char *body;
    size_t body_size, size = whole_answer(guest, &body, &body_size);
    if (!size) return;
    if (!first_size) memcpy(first_body, body, first_size = body_size);
    answers++;
    if (strncmp(guest->buffer, "HTTP/1.1 200", 12) || body_size != first_size ||
        memcmp(body, first_body, body_size))
        wrong++;
    guest->filled = 0; /* nothing can follow: the next request was not sent yet */
    ask(guest);
}

int main(int argc, char **argv) {
    if (argc != 5) { fputs("http_load PORT PATH CONNECTIONS SECONDS\n", stderr); return 2; }
    request_size = (size_t)snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n", argv[2]);
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int crowd = atoi(argv[3]), poll = epoll_create1(0), one = 1;
    for (int i = 0; i < crowd; i++) {
        struct guest *guest = calloc(1, sizeof *guest);
        if (!guest || (guest->fd = socket(AF_INET, SOCK_STREAM, 0)) < 0) die("socket");
        if (connect(guest->fd, (void *)&server, sizeof server)) die("connect");
        setsockopt(guest->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = guest};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, guest->fd, &event)) die("epoll_ctl");
        ask(guest);
    }
    double started = now(), until = started + atof(argv[4]);
    while (now() < until) {
        struct epoll_event events[64];
        int ready = epoll_wait(poll, events, 64, 100);
        if (ready < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < ready; i++) hear(events[i].data.ptr);
    }
    printf("%ld %.6f %ld\n", answers, now() - started, wrong);
    return 0;
}
