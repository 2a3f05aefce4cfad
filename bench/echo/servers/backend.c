/* The HTTP server behind the relay or the proxy: `GET /N` is answered with N bytes, from no file. A process
   a connection, that stays for further requests. */
#include "../common.h"

static char zeros[256 * 1024];

/* Reads a request's head; its path as a number, or -1 at the end. */
static long long request(int fd) {
    char head[16 * 1024];
    size_t len = 0;
    while (len < sizeof head - 1) {
        ssize_t count = read(fd, head + len, sizeof head - 1 - len);
        if (count <= 0) return -1;
        len += count;
        head[len] = 0;
        if (strstr(head, "\r\n\r\n")) {
            const char *path = strchr(head, '/');
            return path ? atoll(path + 1) : -1;
        }
    }
    return -1;
}

static bool send_all(int fd, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t count = send(fd, bytes, len, MSG_NOSIGNAL);
        if (count < 0) return false;
        bytes += count;
        len -= count;
    }
    return true;
}

static void serve(int fd) {
    set_nodelay(fd);
    set_unpaced(fd);
    for (long long len; (len = request(fd)) >= 0;) {
        char head[128];
        int head_len = snprintf(head, sizeof head,
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %lld\r\n\r\n", len);
        if (!send_all(fd, head, head_len)) return;
        while (len > 0) {
            size_t part = len < (long long)sizeof zeros ? (size_t)len : sizeof zeros;
            if (!send_all(fd, zeros, part)) return;
            len -= part;
        }
    }
}

int main(void) {
    signal(SIGCHLD, SIG_IGN);
    int listener = listen_somewhere(0);
    for (int fd; (fd = accept(listener, NULL, NULL)) >= 0; close(fd))
        if (fork() == 0) {
            close(listener);
            serve(fd);
            return 0;
        }
    fail("accept");
}
