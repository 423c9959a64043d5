/* The echo server that a C programmer would write on epoll: one thread, level-triggered, no library.
   Prints its port, then echoes whatever arrives until it is killed. The other rows of `bench echo`
   are measured beside it: it shows how much the kernel alone costs. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

static void need(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static void watch(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    need(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

static void answer(int fd) {
    char heard[65536];
    ssize_t size = recv(fd, heard, sizeof heard, 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    /* An answer that does not fit into the socket's buffer would need a queue; 64 bytes always fit. */
    if (size <= 0 || send(fd, heard, size, MSG_NOSIGNAL) != size)
        close(fd);
}

int main(void) {
    alarm(300); /* whoever started us may have been killed */
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    need(bind(door, (struct sockaddr *)&address, length) == 0, "bind");
    need(listen(door, 1024) == 0, "listen");
    getsockname(door, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);

    int epoll = epoll_create1(0);
    watch(epoll, door);
    for (;;) {
        struct epoll_event events[256];
        int count = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd != door) {
                answer(fd);
                continue;
            }
            while ((fd = accept4(door, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                watch(epoll, fd);
            }
        }
    }
}
