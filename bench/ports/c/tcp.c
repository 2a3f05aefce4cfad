/* What TCP alone costs, over loopback, with nothing beneath or above it.

   tcp serve --listen ADDRESS:PORT
       For each connection, one after the other: sends back every message of a ping-pong, or counts the bytes
       of a flood and says when all have come. The first 16 bytes say which, how many and how long.
   tcp remote-flood --connect ADDRESS:PORT COUNT SIZE
       Messages one way, gathered to 64 KiB a write.
   tcp remote-pingpong --connect ADDRESS:PORT COUNT SIZE */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64 * 1024, READ = 256 * 1024 };

struct greeting {
    uint64_t count;
    uint32_t size, flood;
};

static char buffer[READ];

static void fail(const char *what) {
    perror(what);
    exit(2);
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void write_all(int fd, const void *data, size_t len) {
    for (size_t done = 0; done < len;) {
        ssize_t wrote = write(fd, (const char *)data + done, len - done);
        if (wrote <= 0) fail("write");
        done += wrote;
    }
}

/* Whether all has come; false if the other side has ended before the first byte. */
static bool read_all(int fd, void *data, size_t len) {
    for (size_t done = 0; done < len;) {
        ssize_t got = read(fd, (char *)data + done, len - done);
        if (got < 0 || (got == 0 && done > 0)) fail("read");
        if (got == 0) return false;
        done += got;
    }
    return true;
}

static struct sockaddr_in address_of(const char *text) {
    char host[64];
    unsigned port;
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (sscanf(text, "%63[^:]:%u", host, &port) != 2 || port > 65535 || !inet_aton(host, &address.sin_addr)) {
        fprintf(stderr, "%s is no ADDRESS:PORT\n", text);
        exit(2);
    }
    address.sin_port = htons(port);
    return address;
}

static void no_delay(int fd) {
    int on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on)) fail("TCP_NODELAY");
    /* bbr, where it is the default, would pace what goes over loopback. */
    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
}

static void serve(const char *listen_on) {
    struct sockaddr_in address = address_of(listen_on);
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16)) fail(listen_on);
    printf("listening %s\n", listen_on);
    fflush(stdout);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        struct greeting greeting;
        if (fd < 0) fail("accept");
        no_delay(fd);
        if (read_all(fd, &greeting, sizeof greeting)) {
            if (greeting.flood) {
                uint64_t left = greeting.count * greeting.size;
                while (left > 0) {
                    ssize_t got = read(fd, buffer, sizeof buffer);
                    if (got <= 0) fail("read");
                    left -= got;
                }
                write_all(fd, &greeting.count, sizeof greeting.count);
            } else if (greeting.size <= sizeof buffer) {
                while (read_all(fd, buffer, greeting.size)) write_all(fd, buffer, greeting.size);
            }
        }
        close(fd);
    }
}

static int compare(const void *a, const void *b) {
    uint32_t first = *(const uint32_t *)a, second = *(const uint32_t *)b;
    return first < second ? -1 : first > second;
}

int main(int argc, char **argv) {
    if (argc == 4 && !strcmp(argv[1], "serve")) serve(argv[3]);
    if (argc != 6) {
        fprintf(stderr, "usage: tcp serve --listen A:P | remote-flood|remote-pingpong --connect A:P COUNT SIZE\n");
        return 2;
    }
    struct greeting greeting = {strtoull(argv[4], NULL, 10), atoi(argv[5]), !strcmp(argv[1], "remote-flood")};
    if (greeting.size == 0 || greeting.size > BATCH || greeting.count == 0) {
        fprintf(stderr, "no such count or size\n");
        return 2;
    }
    size_t batch = BATCH / greeting.size * greeting.size;
    struct sockaddr_in address = address_of(argv[3]);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) fail(argv[3]);
    no_delay(fd);
    write_all(fd, &greeting, sizeof greeting);
    uint32_t *times = greeting.flood ? NULL : calloc(greeting.count, sizeof *times);
    uint64_t start = clock_ns(CLOCK_MONOTONIC), cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    if (greeting.flood) {
        uint64_t count;
        for (uint64_t left = greeting.count * greeting.size; left > 0;) {
            size_t len = left < batch ? left : batch;
            /* Filled anew each time, as messages have to be made. */
            memset(buffer, (int)left, len);
            write_all(fd, buffer, len);
            left -= len;
        }
        if (!read_all(fd, &count, sizeof count) || count != greeting.count) fail("the answer");
    } else {
        for (uint64_t i = 0; i < greeting.count; i++) {
            uint64_t sent = clock_ns(CLOCK_MONOTONIC);
            write_all(fd, buffer, greeting.size);
            if (!read_all(fd, buffer, greeting.size)) fail("the answer");
            times[i] = clock_ns(CLOCK_MONOTONIC) - sent;
        }
    }
    double seconds = (clock_ns(CLOCK_MONOTONIC) - start) / 1e9;
    double cpu_seconds = (clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu) / 1e9;
    printf("{\"test\": \"%s\", \"system\": \"tcp\", \"messages\": %lu, \"seconds\": %.6f, \"cpu_seconds\": %.6f", argv[1],
           (unsigned long)greeting.count, seconds, cpu_seconds);
    if (times) {
        qsort(times, greeting.count, sizeof *times, compare);
        printf(", \"p50_us\": %.2f, \"p99_us\": %.2f", times[greeting.count / 2] / 1e3, times[greeting.count * 99 / 100] / 1e3);
    }
    printf("}\n");
    return 0;
}
