/* A relay of plain TCP: `relay PORT` passes on every connection to 127.0.0.1:PORT. Read and write with one
   buffer a direction, no splice: the least that a proxy which looks at the bytes can cost. */
#include "../common.h"

enum { BUFFER_LEN = 64 * 1024, EVENTS = 256, DESCRIPTORS = 1 << 16 };

/* One direction; it is known by the descriptor that it reads from. */
struct pipe {
    int to;
    uint32_t sent, len;
    bool is_open, is_over;
    char bytes[BUFFER_LEN];
};

static struct pipe *pipes[DESCRIPTORS];

static void add(int epoll, int from, int to) {
    pipes[from] = calloc(1, sizeof *pipes[from]);
    pipes[from]->to = to;
    pipes[from]->is_open = true;
    set_nodelay(from);
    set_unpaced(from);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = from};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, from, &event)) fail("epoll_ctl");
}

/* Moves what can be moved; false if the connection broke. */
static bool pump(int from) {
    struct pipe *pipe = pipes[from];
    while (!pipe->is_over) {
        if (pipe->sent < pipe->len) {
            ssize_t count = send(pipe->to, pipe->bytes + pipe->sent, pipe->len - pipe->sent, MSG_NOSIGNAL);
            if (count < 0) return errno == EAGAIN;
            pipe->sent += count;
            continue;
        }
        ssize_t count = read(from, pipe->bytes, BUFFER_LEN);
        if (count < 0) return errno == EAGAIN;
        if (count == 0) {
            pipe->is_over = true;
            shutdown(pipe->to, SHUT_WR);
        }
        pipe->sent = 0;
        pipe->len = count;
    }
    return true;
}

static void end(int fd) {
    free(pipes[fd]);
    pipes[fd] = NULL;
    close(fd);
}

int main(int count, char **arguments) {
    if (count != 2) return fprintf(stderr, "usage: relay PORT\n"), 2;
    struct sockaddr_in backend = loopback(atoi(arguments[1]));
    int listener = listen_somewhere(SOCK_NONBLOCK), epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event)) fail("epoll_ctl");
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int near = accept4(listener, NULL, NULL, SOCK_NONBLOCK), far = socket(AF_INET, SOCK_STREAM, 0);
                /* On loopback this does not wait. */
                if (near < 0 || far < 0 || connect(far, (void *)&backend, sizeof backend)) fail("connect");
                fcntl(far, F_SETFL, O_NONBLOCK);
                add(epoll, near, far);
                add(epoll, far, near);
                continue;
            }
            if (!pipes[fd]) continue;
            int other = pipes[fd]->to;
            bool stands = pump(fd) && pump(other);
            if (!stands || (pipes[fd]->is_over && pipes[other]->is_over)) {
                end(fd);
                end(other);
            }
        }
    }
}
