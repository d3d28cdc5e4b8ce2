/* serve_upstream.c: an OpenAI-compatible upstream that answers at once, or in every wrong way: what bench/serve, the
 * soak and the clients' tests put behind `drr serve`. It is a test's tool: one thread, libmicrohttpd, no model.
 *
 *     serve_upstream [--port N] [--rate R --seed N [--faults a,b]] [--stall SECONDS] [--delay MS] [--drip MS]
 *                    [--answer FILE] [--model NAME]
 *
 * The answer is FILE's text, in which each {nonce} is replaced by the first word of the request that begins with
 * "nonce-": whoever asked knows exactly what has to come back, and an answer that was mixed up shows. It goes out whole
 * or, for "stream": true, a word an event; --delay waits before it, --drip between the events.
 *
 * A share --rate of the calls goes wrong, by turns of a generator that --seed begins; --faults names which ways may
 * come: reset (RST, no reply), silent (nothing for --stall seconds, then RST), stall (the same in the middle of the
 * body), cut (the body ends without its end), half (the same within a chunk), badjson, storm (429 with Retry-After: 1),
 * broken (500, 502 or 503), html (200 with a page), errorbody (200 with an error's body), drip (40 ms an event,
 * otherwise right).
 *
 * GET /stats: what came in, what was answered in full, what is under way, each fault's count, the last one's key. GET
 * /v1/models. Any other POST comes back as it was: {"path", "authorization", "body"}. The first line printed is the
 * port. Ends with its standard input. */
#include "core/core.h"
#include "core/json.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef enum fault {
    RIGHT,
    RESET,
    SILENT,
    STALL,
    CUT,
    HALF,
    BADJSON,
    STORM,
    BROKEN,
    HTML,
    ERRORBODY,
    DRIP,
    FAULTS
} fault;
static const char *const fault_names[FAULTS] = {"right",   "reset", "silent", "stall", "cut",       "half",
                                                "badjson", "storm", "broken", "html",  "errorbody", "drip"};

enum { MOST_PIECES = 4096, DRIP_MS = 40, PROMPT_TOKENS = 50 };

static struct settings {
    unsigned port;
    double rate;
    uint64_t seed;
    fault faults[FAULTS];
    size_t n_faults;
    uint32_t stall_ms, delay_ms, drip_ms;
    const char *model, *answer;
    char *pieces[MOST_PIECES]; /* of the answer, escaped for JSON; NULL: the nonce */
    size_t n_pieces;
} settings = {.stall_ms = 30000,
              .model = "instant",
              .answer = "It is asked and known: {nonce}.\nSo it can be said at once.\nAnswer: {nonce}\n"};

static struct stats { /* the lock's */
    uint64_t requests, answered, gone, under_way, most_under_way, faults[FAULTS];
    char authorization[128]; /* of the last request */
} stats;

typedef struct call {
    struct MHD_Connection *link;
    buffer body, text; /* as it came; what goes out */
    bool asked, counted, whole, gone, stalled, rested;
    fault fault;
    size_t sent, n_events;
    uint32_t drip_ms;
    uint64_t due; /* suspended until then */
    struct call *next;
} call;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static call *sleeping; /* the lock's */

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void need(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "serve_upstream: %s\n", what);
        exit(1);
    }
}

static int socket_of(const call *c)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c->link, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}

static void reset_at_close(const call *c)
{
    const struct linger none = {.l_onoff = 1};
    setsockopt(socket_of(c), SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

/* ---- waiting: a suspended connection is looked after by one thread, which also sees when its client leaves */

static void suspend(call *c, uint32_t ms)
{
    pthread_mutex_lock(&lock);
    c->due = now_ms() + ms;
    c->next = sleeping;
    sleeping = c;
    MHD_suspend_connection(c->link);
    pthread_mutex_unlock(&lock);
}

static bool left(const call *c)
{
    struct pollfd p = {.fd = socket_of(c), .events = POLLRDHUP};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

static void *wake(void *user)
{
    (void)user;
    for (;;) {
        const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
        nanosleep(&pause, NULL);
        pthread_mutex_lock(&lock);
        const uint64_t now = now_ms();
        for (call **at = &sleeping; *at;) {
            call *c = *at;
            c->gone = left(c);
            if (!c->gone && c->due > now) {
                at = &c->next;
                continue;
            }
            *at = c->next;
            MHD_resume_connection(c->link);
        }
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

/* ---- what is said */

static void read_answer(void)
{
    static const char mark[] = "{nonce}";
    const char *at = settings.answer;
    while (*at) {
        need(settings.n_pieces < MOST_PIECES, "the answer has too many words");
        if (!strncmp(at, mark, sizeof mark - 1)) {
            settings.pieces[settings.n_pieces++] = NULL;
            at += sizeof mark - 1;
            continue;
        }
        size_t size = 1; /* a word with the space before it */
        while (at[size] && at[size] != ' ' && at[size] != '\n' && strncmp(at + size, mark, sizeof mark - 1))
            size++;
        need(size < 512, "a word of the answer is too long");
        json_t *piece = json_stringn(at, size);
        char *quoted = piece ? json_dumps(piece, JSON_ENCODE_ANY) : NULL;
        need(quoted, "the answer is not UTF-8");
        quoted[strlen(quoted) - 1] = '\0';
        settings.pieces[settings.n_pieces++] = strdup(quoted + 1);
        free(quoted);
        json_decref(piece);
        at += size;
    }
}

static void nonce_of(char *nonce, size_t room, const char *body)
{
    const char *at = body ? strstr(body, "nonce-") : NULL;
    size_t n = at ? strspn(at, "abcdefghijklmnopqrstuvwxyz0123456789-") : 0;
    if (!at || n >= room) {
        at = "none";
        n = 4;
    }
    memcpy(nonce, at, n);
    nonce[n] = '\0';
}

static void say_usage(buffer *b)
{
    buffer_printf(b, NULL, "{\"prompt_tokens\":%d,\"completion_tokens\":%zu,\"total_tokens\":%zu}", PROMPT_TOKENS,
                  settings.n_pieces, PROMPT_TOKENS + settings.n_pieces);
}

static void say_event(call *c, const char *delta, const char *finish)
{
    buffer_printf(
        &c->text, NULL,
        "data: {\"id\":\"chatcmpl-instant\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"%s\","
        "\"choices\":[{\"index\":0,\"delta\":{%s},\"finish_reason\":%s}]}\n\n",
        settings.model, delta, finish);
    c->n_events++;
}

static void say_stream(call *c, const char *nonce, bool usage)
{
    char delta[8192];
    say_event(c, "\"role\":\"assistant\",\"content\":\"\"", "null");
    for (size_t i = 0; i < settings.n_pieces; i++) {
        snprintf(delta, sizeof delta, "\"content\":\"%s\"", settings.pieces[i] ? settings.pieces[i] : nonce);
        say_event(c, delta, "null");
        if (c->fault == BADJSON && i == settings.n_pieces / 2)
            buffer_puts(&c->text, "data: {\"id\":\"chatcmpl-instant\",\"choices\":[{]}\n\n", NULL);
    }
    say_event(c, "", "\"stop\"");
    if (usage) {
        buffer_puts(
            &c->text,
            "data: {\"id\":\"chatcmpl-instant\",\"object\":\"chat.completion.chunk\",\"choices\":[],\"usage\":", NULL);
        say_usage(&c->text);
        buffer_puts(&c->text, "}\n\n", NULL);
    }
    buffer_puts(&c->text, "data: [DONE]\n\n", NULL);
}

static void say_whole(call *c, const char *nonce)
{
    buffer_printf(&c->text, NULL,
                  "{\"id\":\"chatcmpl-instant\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"%s\","
                  "\"choices\":[{\"index\":"
                  "0,\"message\":{\"role\":\"assistant\",\"content\":\"",
                  settings.model);
    for (size_t i = 0; i < settings.n_pieces; i++)
        buffer_puts(&c->text, settings.pieces[i] ? settings.pieces[i] : nonce, NULL);
    buffer_puts(&c->text, "\"},\"finish_reason\":\"stop\"}],\"usage\":", NULL);
    say_usage(&c->text);
    buffer_puts(&c->text, "}", NULL);
    if (c->fault == BADJSON)
        c->text.data[c->text.size / 2] = '\x01';
}

/* ---- sending */

/* The next event, or all that is left; a fault's turn comes in the middle. */
static ssize_t more(void *user, uint64_t position, char *to, size_t most)
{
    (void)position;
    call *c = user;
    const char *from = c->text.data + c->sent;
    size_t left_over = c->text.size - c->sent;
    const bool middle = c->sent >= c->text.size / 2;
    if (c->gone)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (!left_over) {
        c->whole = c->fault != BADJSON;
        return MHD_CONTENT_READER_END_OF_STREAM;
    }
    if (middle && c->fault == STALL && !c->stalled) {
        c->stalled = true;
        suspend(c, settings.stall_ms);
        return 0;
    }
    if (middle && c->fault == HALF) {
        static const char piece[] = "400\r\ndata: {\"id\":\"chatcmpl-instant\",\"choi";
        (void)!send(socket_of(c), piece, sizeof piece - 1, MSG_NOSIGNAL);
    }
    if (middle && (c->fault == HALF || c->fault == CUT || c->fault == STALL))
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (c->drip_ms && c->sent && !c->rested) {
        c->rested = true;
        suspend(c, c->drip_ms);
        return 0;
    }
    c->rested = false;
    const bool piecewise = c->drip_ms || c->fault == STALL || c->fault == CUT || c->fault == HALF;
    if (piecewise) {
        const char *end = memmem(from, left_over, "\n\n", 2);
        left_over = end ? (size_t)(end + 2 - from) : (left_over + 1) / 2;
    }
    if (left_over > most)
        left_over = most;
    memcpy(to, from, left_over);
    c->sent += left_over;
    return (ssize_t)left_over;
}

static enum MHD_Result answer(call *c, unsigned status, const char *type, const char *header, const char *value)
{
    const bool stream = !strcmp(type, "text/event-stream");
    const bool by_callback = stream || c->fault == CUT || c->fault == HALF || c->fault == STALL;
    struct MHD_Response *r = by_callback
                                 ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, more, c, NULL)
                                 : MHD_create_response_from_buffer(c->text.size, c->text.data, MHD_RESPMEM_PERSISTENT);
    need(r, "out of memory");
    MHD_add_response_header(r, "Content-Type", type);
    if (header)
        MHD_add_response_header(r, header, value);
    c->whole = !by_callback && status == 200 && c->fault != HTML && c->fault != ERRORBODY && c->fault != BADJSON;
    const enum MHD_Result sent = MHD_queue_response(c->link, status, r);
    MHD_destroy_response(r);
    return sent;
}

static enum MHD_Result refuse(call *c, unsigned status, const char *message, const char *header, const char *value)
{
    buffer_printf(&c->text, NULL, "{\"error\":{\"message\":\"%s\",\"type\":\"test\",\"param\":null,\"code\":null}}",
                  message);
    return answer(c, status, "application/json", header, value);
}

static enum MHD_Result chat(call *c)
{
    char nonce[64];
    drr_error err;
    json_t *body = NULL;
    if (json_parse(&body, c->body.data ? c->body.data : "", c->body.size, "the request", &err) != DRR_OK)
        return refuse(c, 400, "the request is not JSON", NULL, NULL);
    const bool stream = json_is_true(json_object_get(body, "stream"));
    const bool usage = json_is_true(json_object_get(json_object_get(body, "stream_options"), "include_usage"));
    json_decref(body);
    nonce_of(nonce, sizeof nonce, c->body.data);
    switch (c->fault) {
    case RESET:
    case SILENT:
        reset_at_close(c);
        return MHD_NO;
    case STORM:
        return refuse(c, 429, "too many requests", "Retry-After", "1");
    case BROKEN: {
        static const unsigned statuses[] = {500, 502, 503};
        return refuse(c, statuses[stats.requests % 3], "broken on purpose", NULL, NULL);
    }
    case HTML:
        buffer_puts(&c->text, "<html>Please log in</html>", NULL);
        return answer(c, 200, "text/html", NULL, NULL);
    case ERRORBODY:
        return refuse(c, 200, "the engine died", NULL, NULL);
    default:
        break;
    }
    if (stream)
        say_stream(c, nonce, usage);
    else
        say_whole(c, nonce);
    c->drip_ms = c->fault == DRIP ? DRIP_MS : settings.drip_ms;
    return answer(c, 200, stream ? "text/event-stream" : "application/json", NULL, NULL);
}

static enum MHD_Result say_stats(call *c)
{
    pthread_mutex_lock(&lock);
    buffer_printf(
        &c->text, NULL,
        "{\"requests\":%llu,\"answered\":%llu,\"gone\":%llu,\"under_way\":%llu,\"most_under_way\":%llu,\"faults\":{",
        (unsigned long long)stats.requests, (unsigned long long)stats.answered, (unsigned long long)stats.gone,
        (unsigned long long)stats.under_way, (unsigned long long)stats.most_under_way);
    for (size_t i = 0; i < FAULTS; i++)
        buffer_printf(&c->text, NULL, "%s\"%s\":%llu", i ? "," : "", fault_names[i],
                      (unsigned long long)stats.faults[i]);
    pthread_mutex_unlock(&lock);
    buffer_printf(&c->text, NULL, "},\"authorization\":\"%s\"}", stats.authorization);
    return answer(c, 200, "application/json", NULL, NULL);
}

static enum MHD_Result say_models(call *c)
{
    buffer_printf(
        &c->text, NULL,
        "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\",\"created\":1,\"owned_by\":\"test\"}]}",
        settings.model);
    return answer(c, 200, "application/json", NULL, NULL);
}

static enum MHD_Result echo(call *c, const char *path)
{
    const char *key = MHD_lookup_connection_value(c->link, MHD_HEADER_KIND, "Authorization");
    json_t *said = json_pack("{s:s, s:s?, s:s%}", "path", path, "authorization", key, "body",
                             c->body.data ? c->body.data : "", c->body.size);
    char *text = said ? json_dumps(said, JSON_COMPACT) : NULL;
    json_decref(said);
    if (!text)
        return refuse(c, 400, "the body is not UTF-8", NULL, NULL);
    buffer_puts(&c->text, text, NULL);
    free(text);
    return answer(c, 200, "application/json", NULL, NULL);
}

/* ---- libmicrohttpd's side */

static fault next_fault(uint64_t number)
{
    uint64_t x = settings.seed * 0x9e3779b97f4a7c15u + number; /* splitmix64 */
    uint64_t drawn[2];
    for (size_t i = 0; i < 2; i++) {
        x += 0x9e3779b97f4a7c15u;
        uint64_t z = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        drawn[i] = z ^ (z >> 31);
    }
    return (double)(drawn[0] >> 11) * 0x1p-53 < settings.rate ? settings.faults[drawn[1] % settings.n_faults] : RIGHT;
}

static void count_chat(call *c)
{
    const char *key = MHD_lookup_connection_value(c->link, MHD_HEADER_KIND, "Authorization");
    pthread_mutex_lock(&lock);
    snprintf(stats.authorization, sizeof stats.authorization, "%s", key && !strpbrk(key, "\"\\") ? key : "");
    c->fault = next_fault(stats.requests++);
    c->counted = true;
    stats.faults[c->fault]++;
    stats.under_way++;
    if (stats.under_way > stats.most_under_way)
        stats.most_under_way = stats.under_way;
    pthread_mutex_unlock(&lock);
}

static enum MHD_Result handle(void *user, struct MHD_Connection *link, const char *path, const char *method,
                              const char *version, const char *data, size_t *size, void **state)
{
    (void)user;
    (void)version;
    call *c = *state;
    if (!c) {
        *state = c = calloc(1, sizeof *c);
        need(c, "out of memory");
        c->link = link;
        return MHD_YES;
    }
    if (*size) {
        buffer_append(&c->body, data, *size, NULL);
        *size = 0;
        return MHD_YES;
    }
    if (!strcmp(method, "GET"))
        return !strcmp(path, "/stats")       ? say_stats(c)
               : !strcmp(path, "/v1/models") ? say_models(c)
                                             : refuse(c, 404, "there is no such route", NULL, NULL);
    if (strcmp(path, "/v1/chat/completions") != 0)
        return echo(c, path);
    if (!c->asked) {
        c->asked = true;
        count_chat(c);
        const uint32_t wait = c->fault == SILENT ? settings.stall_ms : settings.delay_ms;
        if (wait) {
            suspend(c, wait);
            return MHD_YES;
        }
    }
    if (c->gone)
        return MHD_NO;
    return chat(c);
}

static void completed(void *user, struct MHD_Connection *link, void **state, enum MHD_RequestTerminationCode code)
{
    (void)user;
    (void)link;
    call *c = *state;
    if (!c)
        return;
    if (c->counted) {
        pthread_mutex_lock(&lock);
        stats.under_way--;
        stats.answered += c->whole && code == MHD_REQUEST_TERMINATED_COMPLETED_OK;
        stats.gone += c->gone || code == MHD_REQUEST_TERMINATED_CLIENT_ABORT;
        pthread_mutex_unlock(&lock);
    }
    buffer_clear(&c->body);
    buffer_clear(&c->text);
    free(c);
    *state = NULL;
}

static void read_faults(const char *list)
{
    settings.n_faults = 0;
    for (size_t i = RIGHT + 1; i < FAULTS; i++) {
        const size_t n = strlen(fault_names[i]);
        for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
            if (!strncmp(at, fault_names[i], n) && (!at[n] || at[n] == ','))
                settings.faults[settings.n_faults++] = (fault)i;
    }
    need(settings.n_faults, "--faults names no fault that there is");
}

static void read_arguments(int argc, char **argv)
{
    read_faults("reset,silent,stall,cut,half,badjson,storm,broken,html,errorbody,drip");
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        need(value, "each option needs a value");
        if (!strcmp(name, "--port"))
            settings.port = (unsigned)strtoul(value, NULL, 10);
        else if (!strcmp(name, "--rate"))
            settings.rate = strtod(value, NULL);
        else if (!strcmp(name, "--seed"))
            settings.seed = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--faults"))
            read_faults(value);
        else if (!strcmp(name, "--stall"))
            settings.stall_ms = (uint32_t)(1000 * strtod(value, NULL));
        else if (!strcmp(name, "--delay"))
            settings.delay_ms = (uint32_t)strtoul(value, NULL, 10);
        else if (!strcmp(name, "--drip"))
            settings.drip_ms = (uint32_t)strtoul(value, NULL, 10);
        else if (!strcmp(name, "--model"))
            settings.model = value;
        else if (!strcmp(name, "--answer")) {
            drr_error err;
            size_t size;
            char *text = NULL;
            need(file_read(&text, &size, value, 1 << 20, &err) == DRR_OK, "--answer cannot be read");
            settings.answer = text;
        } else
            need(false, "there is no such option; the file's first comment has them");
    }
    read_answer();
}

int main(int argc, char **argv)
{
    read_arguments(argc, argv);
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)settings.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, handle, NULL, MHD_OPTION_SOCK_ADDR,
        &address, MHD_OPTION_NOTIFY_COMPLETED, completed, NULL, MHD_OPTION_CONNECTION_LIMIT, 20000u,
        MHD_OPTION_LISTEN_BACKLOG_SIZE, 4096u, MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_END);
    need(daemon, "cannot listen on that port");
    pthread_t waker;
    need(!pthread_create(&waker, NULL, wake, NULL), "no thread");
    printf("%u\n", MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
    fflush(stdout);
    char end[256];
    while (read(STDIN_FILENO, end, sizeof end) > 0)
        ;
    _exit(0); /* suspended calls and all */
}
