/* The other end of every measurement, the same for all servers.

   client load PORT [--connections N] [--active N] [--depth N] [--interval-us N] [--seconds S] [--warmup S]
                    [--source N] [--pid PID] [--check] [--wait]
       Opens N connections and lets the active ones (default: all) send messages of 64 bytes: each keeps
       `depth` under way, or, with an interval, sends one every so often, however late the answers are.
       Prints how many connections stand, then what was measured. With --check every connection makes one
       round trip. With --wait a line on the input is waited for before the measurement and before the end.
   client flood PORT [--connections N] [--seconds S]
       Sends as fast as it can, and throws the echo away.
   client fetch PORT BYTES [--pid PID]
       GET /BYTES, counted and thrown away.

   The CPU time is that of the process PID, all its threads, over the very span that was measured. */
#include "common.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

enum { MESSAGE_LEN = 64, DEPTH_MAX = 64, EVENTS = 1024, OPENING_MAX = 256, SUB = 128 };
/* The kernel hands out the even ports of an address, or the odd, before it looks at the others, and when half
   of the usual 28,232 are gone it looks at all of those each time. */
enum { PORTS_A_SOURCE = 10000 };

struct connection {
    int fd;
    uint32_t partial;       /* bytes of a message that has come in part */
    uint32_t first, count;  /* messages under way, as a ring */
    uint64_t *sent_at;
};

static struct {
    int port, connections, active, depth, source, pid;
    uint64_t interval_ns;
    double seconds, warmup;
    bool check, wait;
} options = {.connections = 1, .active = -1, .depth = 1, .source = 1, .seconds = 3, .warmup = 0.5};

static struct connection *connections;
static char buffer[256 * 1024];
static int epoll;
static uint64_t lost, skipped;

static uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static double cpu_seconds(int pid) {
    clockid_t clock;
    struct timespec time;
    if (pid == 0) return 0;
    if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &time)) fail("the CPU time of the server");
    return time.tv_sec + time.tv_nsec / 1e9;
}

/* Latencies in ns, to within one part in 128. */

static uint64_t histogram[64 * SUB], histogram_count;

static void note(uint64_t ns) {
    int shift = ns < SUB ? 0 : 64 - __builtin_clzll(ns) - 8;
    if (shift < 0) shift = 0;
    histogram[shift * SUB + (ns >> shift)]++;
    histogram_count++;
}

static double percentile_us(double share) {
    uint64_t left = share * histogram_count;
    for (int i = 0; i < 64 * SUB; i++) {
        if (histogram[i] > left) {
            int shift = i < 2 * SUB ? 0 : i / SUB - 1;
            return ((uint64_t)(i - shift * SUB) << shift) / 1e3;
        }
        left -= histogram[i];
    }
    return 0;
}

/* Opening. */

static int begin_connect(int index) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;
    if (fd < 0) return -1;
    struct sockaddr_in from = loopback(0), to = loopback(options.port);
    from.sin_addr.s_addr = htonl(0x7f000100 + options.source + index / PORTS_A_SOURCE);
    set_nodelay(fd);
    /* Closed by a reset: what lingers in TIME_WAIT would slow down whatever is measured next. */
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    /* The port is chosen when the other end is known, so that sources do not run out of ports. */
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes) || bind(fd, (void *)&from, sizeof from)
        || (connect(fd, (void *)&to, sizeof to) && errno != EINPROGRESS)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Opens all; returns how many could not be. */
static int open_all(void) {
    struct epoll_event events[OPENING_MAX];
    int begun = 0, opening = 0, failed = 0, stand = 0;
    while (begun < options.connections || opening > 0) {
        while (begun < options.connections && opening < OPENING_MAX) {
            int fd = begin_connect(begun++);
            struct epoll_event event = {.events = EPOLLOUT | EPOLLONESHOT, .data.fd = fd};
            if (fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) failed++;
            else opening++;
        }
        int count = epoll_wait(epoll, events, OPENING_MAX, 30000);
        if (count == 0) return failed + opening;
        for (int i = 0; i < count; i++, opening--) {
            int error = 0, fd = events[i].data.fd;
            socklen_t len = sizeof error;
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
            if (error) {
                failed++;
                close(fd);
            } else
                connections[stand++].fd = fd;
        }
    }
    options.connections = stand;
    if (options.active < 0 || options.active > stand) options.active = stand;
    return failed;
}

/* Round trips. */

static void send_messages(struct connection *it, uint32_t count, uint64_t now) {
    static const char messages[DEPTH_MAX * MESSAGE_LEN];
    if (it->fd < 0) return;
    for (uint32_t i = 0; i < count; i++) it->sent_at[(it->first + it->count++) % DEPTH_MAX] = now;
    if (send(it->fd, messages, count * MESSAGE_LEN, MSG_NOSIGNAL) != (ssize_t)count * MESSAGE_LEN) {
        lost++;
        close(it->fd);
        it->fd = -1;
    }
}

/* Takes what has come; returns how many messages. */
static uint32_t receive(struct connection *it, bool counts) {
    if (it->fd < 0) return 0;
    ssize_t len = read(it->fd, buffer, sizeof buffer);
    if (len < 0 && errno == EAGAIN) return 0;
    if (len <= 0) {
        lost++;
        close(it->fd);
        it->fd = -1;
        return 0;
    }
    uint64_t now = now_ns();
    uint32_t whole = (it->partial + len) / MESSAGE_LEN;
    it->partial = (it->partial + len) % MESSAGE_LEN;
    for (uint32_t i = 0; i < whole; i++, it->count--) {
        if (counts) note(now - it->sent_at[it->first]);
        it->first = (it->first + 1) % DEPTH_MAX;
    }
    return whole;
}

static void load(void) {
    struct epoll_event events[EVENTS];
    for (int i = 0; i < options.active; i++) {
        struct connection *it = &connections[i];
        it->sent_at = malloc(DEPTH_MAX * sizeof *it->sent_at);
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u32 = i};
        if (epoll_ctl(epoll, EPOLL_CTL_MOD, it->fd, &event)) fail("epoll_ctl");
    }
    uint64_t start = now_ns(), measure_at = start + options.warmup * 1e9, end_at = measure_at + options.seconds * 1e9;
    uint64_t gap = options.interval_ns / (options.active ? options.active : 1), next_at = start, now = start;
    int next = 0;
    bool measures = false;
    double cpu = 0, own_cpu = 0;
    if (!gap)
        for (int i = 0; i < options.active; i++) send_messages(&connections[i], options.depth, now_ns());
    while ((now = now_ns()) < end_at) {
        if (!measures && now >= measure_at) {
            measures = true;
            measure_at = now;
            cpu = cpu_seconds(options.pid);
            own_cpu = cpu_seconds(getpid());
        }
        for (; gap && next_at <= now; next_at += gap, next = (next + 1) % options.active) {
            if (connections[next].count < DEPTH_MAX) send_messages(&connections[next], 1, now_ns());
            else skipped++;
        }
        uint64_t until = measures ? end_at : measure_at;
        if (gap && next_at < until) until = next_at;
        now = now_ns();
        uint64_t wait = until > now ? until - now : 0;
        struct timespec timeout = {wait / 1000000000, wait % 1000000000};
        int count = epoll_pwait2(epoll, events, EVENTS, &timeout, NULL);
        for (int i = 0; i < count; i++) {
            struct connection *it = &connections[events[i].data.u32];
            uint32_t whole = receive(it, measures);
            if (whole && !gap) send_messages(it, whole, now_ns());
        }
    }
    double seconds = (now - measure_at) / 1e9;
    cpu = cpu_seconds(options.pid) - cpu;
    own_cpu = cpu_seconds(getpid()) - own_cpu;
    printf("{\"round_trips\": %lu, \"seconds\": %.4f, \"rate\": %.1f, \"cpu_us\": %.4f, \"cpu_share\": %.4f, "
           "\"client_share\": %.4f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f, "
           "\"lost\": %lu, \"skipped\": %lu}\n",
           histogram_count, seconds, histogram_count / seconds, histogram_count ? cpu * 1e6 / histogram_count : 0,
           cpu / seconds, own_cpu / seconds, percentile_us(0.5), percentile_us(0.99), percentile_us(0.999),
           percentile_us(1 - 1e-9), lost, skipped);
}

/* One round trip on every connection; returns how many were answered. */
static int check_all(void) {
    int answered = 0;
    for (int from = 0; from < options.connections; from += OPENING_MAX) {
        int to = from + OPENING_MAX < options.connections ? from + OPENING_MAX : options.connections;
        static const char message[MESSAGE_LEN];
        for (int i = from; i < to; i++)
            if (send(connections[i].fd, message, MESSAGE_LEN, MSG_NOSIGNAL) != MESSAGE_LEN) perror("send");
        for (int i = from; i < to; i++) {
            struct pollfd one = {.fd = connections[i].fd, .events = POLLIN};
            char answer[MESSAGE_LEN];
            if (poll(&one, 1, 30000) == 1 && recv(one.fd, answer, MESSAGE_LEN, 0) == MESSAGE_LEN) answered++;
        }
    }
    return answered;
}

static void wait_for_line(void) {
    fflush(stdout);
    for (int byte; options.wait && (byte = getchar()) != '\n' && byte != EOF;) {}
}

static void flood(void) {
    struct epoll_event events[EVENTS];
    for (int i = 0; i < options.connections; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u32 = i};
        if (epoll_ctl(epoll, EPOLL_CTL_MOD, connections[i].fd, &event)) fail("epoll_ctl");
    }
    uint64_t end_at = now_ns() + options.seconds * 1e9, sent = 0, received = 0;
    while (now_ns() < end_at) {
        int count = epoll_wait(epoll, events, EVENTS, 100);
        for (int i = 0; i < count; i++) {
            int fd = connections[events[i].data.u32].fd;
            ssize_t len = events[i].events & EPOLLIN ? recv(fd, buffer, sizeof buffer, MSG_DONTWAIT) : 0;
            if (len > 0) received += len;
            len = events[i].events & EPOLLOUT ? send(fd, buffer, 16 * 1024, MSG_NOSIGNAL) : 0;
            if (len > 0) sent += len;
            else if (len < 0 && errno != EAGAIN) fail("send");
        }
    }
    printf("{\"sent\": %lu, \"received\": %lu}\n", sent, received);
}

static void fetch(long long wanted) {
    struct sockaddr_in to = loopback(options.port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    set_unpaced(fd);
    if (connect(fd, (void *)&to, sizeof to)) fail("connect");
    double cpu = cpu_seconds(options.pid);
    uint64_t start = now_ns();
    int len = snprintf(buffer, sizeof buffer, "GET /%lld HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", wanted);
    if (send(fd, buffer, len, MSG_NOSIGNAL) != len) fail("send");
    char head[16 * 1024], *body = NULL;
    size_t head_len = 0;
    while (!body && head_len < sizeof head - 1) {
        ssize_t count = read(fd, head + head_len, sizeof head - 1 - head_len);
        if (count <= 0) fail("the answer's head");
        head_len += count;
        head[head_len] = 0;
        body = strstr(head, "\r\n\r\n");
    }
    if (!body || strncmp(head, "HTTP/1.1 200", 12)) {
        fprintf(stderr, "not what was asked for:\n%s\n", head);
        exit(1);
    }
    long long received = head + head_len - (body + 4);
    while (received < wanted) {
        /* Thrown away in the kernel: this end shares a processor with the backend. */
        ssize_t count = recv(fd, NULL, 4 << 20, MSG_TRUNC);
        if (count <= 0) fail("the answer's body");
        received += count;
    }
    printf("{\"bytes\": %lld, \"seconds\": %.4f, \"cpu_seconds\": %.4f}\n", received, (now_ns() - start) / 1e9,
           cpu_seconds(options.pid) - cpu);
}

static void parse(int count, char **arguments) {
    for (int i = 0; i < count; i++) {
        const char *name = arguments[i];
        if (!strcmp(name, "--check")) options.check = true;
        else if (!strcmp(name, "--wait")) options.wait = true;
        else {
            const char *value = i + 1 < count ? arguments[++i] : "";
            if (!strcmp(name, "--connections")) options.connections = atoi(value);
            else if (!strcmp(name, "--active")) options.active = atoi(value);
            else if (!strcmp(name, "--depth")) options.depth = atoi(value);
            else if (!strcmp(name, "--interval-us")) options.interval_ns = atoll(value) * 1000;
            else if (!strcmp(name, "--seconds")) options.seconds = atof(value);
            else if (!strcmp(name, "--warmup")) options.warmup = atof(value);
            else if (!strcmp(name, "--source")) options.source = atoi(value);
            else if (!strcmp(name, "--pid")) options.pid = atoi(value);
            else fprintf(stderr, "unknown option %s\n", name), exit(2);
        }
    }
    if (options.depth < 1 || options.depth > DEPTH_MAX) fprintf(stderr, "a depth of 1 to %d\n", DEPTH_MAX), exit(2);
}

int main(int count, char **arguments) {
    if (count < 3) return fprintf(stderr, "usage: client load|flood|fetch PORT …, see client.c\n"), 2;
    const char *command = arguments[1];
    bool fetches = !strcmp(command, "fetch");
    options.port = atoi(arguments[2]);
    parse(count - 3 - fetches, arguments + 3 + fetches);
    if (fetches) return fetch(atoll(arguments[3])), 0;

    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    prctl(PR_SET_TIMERSLACK, 1);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    connections = calloc(options.connections, sizeof *connections);
    int failed = open_all();
    printf("{\"connected\": %d, \"failed\": %d}\n", options.connections, failed);
    wait_for_line();
    if (!strcmp(command, "flood")) flood();
    else if (options.check) printf("{\"answered\": %d}\n", check_all());
    else load();
    wait_for_line();
    return 0;
}
