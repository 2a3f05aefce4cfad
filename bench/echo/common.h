/* What the C programs of this measurement share. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static inline void set_nodelay(int fd) {
    int yes = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes)) fail("TCP_NODELAY");
}

/* bbr paces what it sends, and on loopback the pace is all that would be measured. */
static inline void set_unpaced(int fd) {
    if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) && setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4))
        fail("TCP_CONGESTION");
}

static inline struct sockaddr_in loopback(int port) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return addr;
}

/* Listens on a free port of 127.0.0.1 and says which: the script that measures reads it. */
static inline int listen_somewhere(int flags) {
    int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    struct sockaddr_in addr = loopback(0);
    socklen_t len = sizeof addr;
    if (fd < 0 || bind(fd, (void *)&addr, len) || listen(fd, 4096) || getsockname(fd, (void *)&addr, &len)) fail("listen");
    printf("listening %d\n", ntohs(addr.sin_port));
    fflush(stdout);
    return fd;
}
