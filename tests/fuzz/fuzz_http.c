/* fuzz_http.c: any bytes on a connection to the HTTP server. Whatever they are, what comes back is HTTP or nothing, it
 * comes soon, and no request stays behind. The routes answer what the chat and the other routes would: a whole
 * reply, a stream, an error; with a key, and by whoever asks first. */
#include "fuzz.h"
#include "serve/http.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_MS = 10000, QUIET_MS = 2 };

static http_server *server;

static void whole(void *user, http_call *call)
{
    size_t size;
    (void)user;
    const char *body = http_body(call, &size), *type = http_header(call, "content-type"), *q = http_query(call, "q");
    fuzz_that(strlen(http_method(call)) && *http_path(call) == '/' && *http_id(call) && body[size] == '\0');
    fuzz_that(http_query_string(call) != NULL);
    http_add_header(call, "x-drr-verdict", "accept");
    if (q && *q == 'e')
        http_reply_error(call, 400, NULL, "q", NULL, "q is %.40s, and the type %.40s", q, type ? type : "");
    else
        http_reply_json(call, 200, json_pack("{s:I, s:s}", "size", (json_int_t)size, "id", http_id(call)));
}

static void stream(void *user, http_call *call)
{
    size_t size;
    (void)user;
    const char *body = http_body(call, &size);
    http_stream_begin(call, 200, "text/event-stream");
    http_stream_write(call, ": ", 2);
    http_stream_write(call, body, size < 64 ? size : 64);
    http_stream_write(call, "\n\n", 2);
    http_stream_end(call);
}

static void close_server(void)
{
    http_close(server);
}

static void open_server(void)
{
    static const char *const keys[] = {"fuzz-key-one", "fuzz-key-two"};
    static const http_route routes[] = {{"GET", "/health", HTTP_PUBLIC, whole, NULL},
                                        {"POST", "/v1/chat/completions", HTTP_KEYED, whole, NULL},
                                        {"POST", "/stream", HTTP_PUBLIC, stream, NULL},
                                        {"GET", "/v1/models/*", HTTP_PUBLIC, whole, NULL}};
    http_options options;
    drr_error err = {0};
    http_options_defaults(&options);
    options.keys = keys;
    options.n_keys = 2;
    options.body_bytes = 4096;
    options.header_bytes = 4096;
    options.threads = 1;
    fuzz_that(http_open(&server, &options, routes, sizeof routes / sizeof *routes, NULL, &err) == DRR_OK);
    atexit(close_server);
}

static void settle(void)
{
    const struct timespec pause = {.tv_nsec = 50000};
    for (int i = 0; http_in_flight(server); i++) {
        fuzz_that(i < 1000 * PATIENCE_MS / 50);
        nanosleep(&pause, NULL);
    }
}

/* Whether there is something to do on the socket. Once all is said, and a moment after that (libmicrohttpd, which asks
 * epoll for edges, would miss an end that comes with the last bytes), so is that nothing follows; and after an answer,
 * with no request under way, nothing more comes. */
static bool wait_for(struct pollfd *p, bool said, bool answered)
{
    int left = PATIENCE_MS;
    for (; left > 0 && poll(p, 1, QUIET_MS) == 0; left -= QUIET_MS) {
        if (said && answered && !http_in_flight(server))
            return false;
        if (said)
            shutdown(p->fd, SHUT_WR);
    }
    fuzz_that(left > 0); /* it neither reads nor answers nor ends */
    return true;
}

/* A connection from one of many addresses of this machine, in turn: ports that have just been used rest for a minute,
 * and a single address has 28,000, which some processes of this program use up. */
static int connected(void)
{
    static uint32_t n;
    const uint32_t address = (127u << 24) + (((uint32_t)getpid() * 251 + n++ / 64) % 0xfffffe) + 1;
    const struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(http_port(server)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    fuzz_that(fd >= 0 && setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int)) == 0);
    fuzz_that(bind(fd, (const struct sockaddr *)&from, sizeof from) == 0);
    int failed = connect(fd, (const struct sockaddr *)&to, sizeof to) ? errno : 0;
    if (failed == EINTR) { /* by libFuzzer's clock, while the server is slow to take it: it goes on by itself */
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        while (poll(&p, 1, PATIENCE_MS) < 0)
            fuzz_that(errno == EINTR);
        fuzz_that(getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &(socklen_t){sizeof failed}) == 0 && p.revents);
    }
    if (failed)
        fprintf(stderr, "connect: %s\n", strerror(failed));
    fuzz_that(!failed);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char reply[1 << 16];
    size_t n = 0, sent = 0;
    bool open_end = true;
    if (!server)
        open_server();
    const int fd = connected();
    while (open_end) {
        struct pollfd p = {.fd = fd, .events = (short)(POLLIN | (sent < size ? POLLOUT : 0))};
        if (!wait_for(&p, sent == size, n > 0))
            break;
        if (p.revents & POLLOUT) {
            const ssize_t m = send(fd, data + sent, size - sent, MSG_NOSIGNAL);
            sent = m > 0 ? sent + (size_t)m : size;
        }
        if (p.revents & (POLLIN | POLLHUP | POLLERR)) {
            const ssize_t m = recv(fd, reply + n, sizeof reply - 1 - n, 0);
            open_end = m > 0 && n + (size_t)m < sizeof reply - 1;
            n += m > 0 ? (size_t)m : 0;
        }
    }
    close(fd);
    reply[n] = '\0';
    fuzz_that(!n || strncmp(reply, "HTTP/1.", 7) == 0);
    fuzz_accepted += n && strncmp(reply + 8, " 200", 4) == 0;
    settle();
    return 0;
}
