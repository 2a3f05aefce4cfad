/* Echo on bare epoll: edge-triggered, one shared read buffer, a list of those that have more to read.
   The least that an echo server on epoll can cost. */
#include "../common.h"

enum { BUFFER_LEN = 16 * 1024, EVENTS = 1024, DESCRIPTORS = 1 << 20 };

struct connection {
    char *unsent; /* what the kernel had no room for */
    uint32_t sent, len;
    bool is_open, has_end, is_ready;
};

static struct connection *connections;
static char buffer[BUFFER_LEN];

static void end(int fd) {
    free(connections[fd].unsent);
    memset(&connections[fd], 0, sizeof connections[fd]);
    close(fd);
}

static void accept_all(int epoll, int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN) return;
            fail("accept");
        }
        set_nodelay(fd);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
        connections[fd].is_open = true;
    }
}

/* One read, sent back. Whether there may be more: one read a turn, so that a peer that floods holds up
   no other. */
static bool serve(int fd) {
    struct connection *it = &connections[fd];
    if (it->unsent) {
        ssize_t count = send(fd, it->unsent + it->sent, it->len - it->sent, MSG_NOSIGNAL);
        if (count < 0 && errno != EAGAIN) return end(fd), false;
        if (count > 0) it->sent += count;
        if (it->sent < it->len) return false;
        free(it->unsent);
        it->unsent = NULL;
    }
    ssize_t count = read(fd, buffer, sizeof buffer);
    if (count < 0 && errno == EAGAIN) return false;
    if (count <= 0) return end(fd), false;
    ssize_t sent = send(fd, buffer, count, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return end(fd), false;
    if (sent < 0) sent = 0;
    if (sent < count) {
        it->sent = 0;
        it->len = count - sent;
        it->unsent = malloc(it->len);
        memcpy(it->unsent, buffer + sent, it->len);
        return false;
    }
    return count == sizeof buffer || it->has_end;
}

int main(void) {
    int listener = listen_somewhere(SOCK_NONBLOCK), epoll = epoll_create1(EPOLL_CLOEXEC);
    connections = calloc(DESCRIPTORS, sizeof *connections);
    static struct epoll_event events[EVENTS];
    /* Nobody stands on it twice, so it never holds more than there are descriptors. */
    int *ready = malloc(DESCRIPTORS * sizeof *ready), ready_count = 0;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = listener};
    if (!connections || !ready || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event)) fail("epoll_ctl");
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, ready_count ? 0 : -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_all(epoll, listener);
                continue;
            }
            struct connection *it = &connections[fd];
            it->has_end |= (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
            if (it->is_open && !it->is_ready) {
                it->is_ready = true;
                ready[ready_count++] = fd;
            }
        }
        int kept = 0;
        for (int i = 0; i < ready_count; i++) {
            int fd = ready[i];
            connections[fd].is_ready = false;
            if (connections[fd].is_open && serve(fd)) {
                connections[fd].is_ready = true;
                ready[kept++] = fd;
            }
        }
        ready_count = kept;
    }
}
