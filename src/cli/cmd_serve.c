/* cmd_serve.c: `drr serve`: the server in front of a model. Reads its settings, again on SIGHUP, and writes down what
 * happens; all else is the library's. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int run(int argc, char **argv);

const cli_command cli_serve = {
    "serve", NULL, "put a critic in front of a model: a server that speaks OpenAI's API",
    "Any client of OpenAI's API gets answers that the critic has accepted, retried or abstained from. The model is an "
    "upstream\n"
    "server, or one that runs here. Without --critic, agreement between samples judges. Each option may stand in the "
    "file of\n"
    "--config too (TOML: max-turns = 3), and in the environment (DRR_MAX_TURNS=3); the command line goes first, then "
    "the "
    "file.\n"
    "SIGHUP reads them again, and the critic; SIGTERM ends the server when what is under way is answered.\n\n"
    "Examples:\n"
    "  drr serve --upstream http://localhost:8080/v1 --critic critic.gguf\n"
    "  drr serve --reasoner qwen2.5-coder-1.5b --critic critic.gguf\n"
    "  DRR_API_KEY=... drr serve --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem --upstream ...\n",
    run};

typedef struct serving {
    drr_serve_options o;
    cli_list api_keys, redact;
    const char *keys[CLI_LIST_MOST];
    const char *config, *share;
    int on_judge_error, stream_mode, abstain_as, log_format;
    struct serving *older; /* the settings before these: the server may still read their strings, so none is freed */
    char **words;
} serving;

static const char *const judge_errors[] = {"pass", "fail", NULL}, *const stream_modes[] = {"hold", "live", NULL},
                         *const page_texts[] = {"auto", "yes", "no", NULL},
                         *const abstain_as[] = {"content", "refusal", NULL},
                         *const log_formats[] = {"auto", "text", "json", NULL},
                         *const precisions[] = {"auto", "fp32", "bf16", "int8", NULL};
enum { MOST_TURNS = 32 }; /* as drr_serve_options says */
enum { LOG_AUTO, LOG_TEXT, LOG_JSON };
enum { HELPED = -1 }; /* the help was printed: nothing is to be done */

#define TEXT(n, a, f, m)                                                                                               \
    {                                                                                                                  \
        .name = n, .argument = a, .type = CLI_STRING, .value = &s->f, .meaning = m                                     \
    }
#define COUNT(n, a, f, least, most, m)                                                                                 \
    {                                                                                                                  \
        .name = n, .argument = a, .type = CLI_UINT32, .value = &s->f, .meaning = m, .low = least, .high = most         \
    }
#define BYTES(n, f, m)                                                                                                 \
    {                                                                                                                  \
        .name = n, .argument = "BYTES", .type = CLI_UINT64, .value = &s->f, .meaning = m, .low = 0, .high = 1e12       \
    }
#define SECONDS(n, f, m) COUNT(n, "S", f, 1, 86400, m)
#define FLAG(n, f, m)                                                                                                  \
    {                                                                                                                  \
        .name = n, .type = CLI_FLAG, .value = &s->f, .meaning = m                                                      \
    }
#define CHOICE(n, f, list, m)                                                                                          \
    {                                                                                                                  \
        .name = n, .argument = "WORD", .type = CLI_CHOICE, .value = &s->f, .names = list, .meaning = m                 \
    }

/* ---- settings */

/* "10%" or "0.1". */
static int read_share(double *share, const char *text)
{
    char *end;
    const double value = strtod(text, &end);
    const bool percent = *end == '%' && !end[1];
    *share = percent ? value / 100 : value;
    if (end == text || (*end && !percent) || !(*share >= 0 && *share <= 1))
        return cli_usage(&cli_serve, "--share takes a share of the requests, 10%% or 0.1, not \"%s\"", text);
    return CLI_DONE;
}

/* Keys with commas between them, each a copy: the command line's are made unreadable for those who list processes. */
static int take_keys(serving *s, char *const *visible)
{
    for (size_t i = 0; i < s->api_keys.n; i++) {
        char *rest = strdup(s->api_keys.items[i]), *key;
        while (rest && (key = strsep(&rest, ",")))
            if (*key && s->o.n_api_keys == CLI_LIST_MOST)
                return cli_usage(&cli_serve, "--api-key: more than %d keys; use --api-key-file", CLI_LIST_MOST);
            else if (*key)
                s->keys[s->o.n_api_keys++] = key;
    }
    s->o.api_keys = s->keys;
    bool next = false;
    for (; visible && *visible; visible++) {
        char *value = next ? *visible : strncmp(*visible, "--api-key=", 10) == 0 ? *visible + 10 : NULL;
        next = strcmp(*visible, "--api-key") == 0;
        if (value)
            memset(value, '*', strlen(value));
    }
    return CLI_DONE;
}

static int settle(serving *s, char *const *visible)
{
    if (!s->o.upstream && !s->o.reasoner)
        s->o.upstream = getenv("OPENAI_BASE_URL");
    s->o.pass_unjudged = s->on_judge_error == 0;
    s->o.live = s->stream_mode == 1;
    s->o.abstain_refusal = s->abstain_as == 1;
    s->o.log_format = log_formats[s->log_format];
    s->o.redact = s->redact.items;
    s->o.n_redact = s->redact.n;
    s->o.judge_threads = s->o.reasoner_options.threads;
    int code = take_keys(s, visible);
    if (code == CLI_DONE && s->share)
        code = read_share(&s->o.share, s->share);
    if (code == CLI_DONE && !s->o.upstream && !s->o.reasoner)
        code = cli_usage(&cli_serve, "which model is to answer? give --upstream http://host/v1, or --reasoner NAME");
    return code;
}

/* argv may be changed; visible: the words that other programs see, or NULL. */
static int read_settings(serving *s, int argc, char **argv, char *const *visible)
{
    const cli_option options[] = {
        TEXT("upstream", "URL", o.upstream, "the API behind: http[s]://host/v1; also OPENAI_BASE_URL"),
        TEXT("model", "NAME", o.model, "as the upstream calls it; not given: as the client says"),
        TEXT("upstream-key-file", "FILE", o.upstream_key_file,
             "that its owner alone may read; not given: DRR_UPSTREAM_API_KEY in the environment"),
        FLAG("forward-key", o.forward_key, "a client's own key goes to the upstream, in place of the server's"),
        TEXT("ca-file", "FILE", o.reasoner_options.ca_file, "certificates to trust; not given: the system's"),
        SECONDS("timeout", o.timeout_seconds, "for one attempt of the upstream"),
        COUNT("retries", "N", o.retries, 0, 100, "of an attempt after 429, 5xx and broken connections"),
        TEXT("reasoner", "NAME|FILE", o.reasoner, "instead of an upstream: a model that runs here"),
        COUNT("width", "N", o.reasoner_options.width, 0, 1024, "answers it writes at once; 0: by cores and memory"),
        COUNT("context", "N", o.reasoner_options.context, 0, 1 << 20, "tokens of one, prompt and answer; 0: its own"),
        COUNT("threads", "N", o.reasoner_options.threads, 0, 1024, "of the reasoner and of the critic; 0: all cores"),
        TEXT("critic", "FILE", o.critic, "a trained critic; not given: agreement between samples judges"),
        CHOICE("precision", o.precision, precisions, "that the critic scores in"),
        COUNT("max-turns", "N", o.max_turns, 1, MOST_TURNS, "attempts at a request"),
        COUNT("samples", "N", o.samples, 1, MOST_TURNS, "answers that are compared where there is no critic"),
        {.name = "max-tokens",
         .argument = "N",
         .type = CLI_UINT64,
         .value = &s->o.max_tokens,
         .meaning = "written for a request over all its turns; 0: no limit"},
        COUNT("deadline-ms", "MS", o.deadline_ms, 0, 86400000, "for a request; 0: none"),
        {.name = "threshold",
         .argument = "P",
         .type = CLI_DOUBLE,
         .value = &s->o.threshold,
         .meaning = "accept from this P(correct) on; not given: the critic's own",
         .low = 0,
         .high = 1},
        CHOICE("on-exhausted", o.on_exhausted, drr_exhausted_names, "what is answered when no turn was accepted"),
        CHOICE("feedback", o.feedback, drr_feedback_names,
               "after a rejection: afresh, or with words about it (and its P(correct)); step is refused"),
        FLAG("shadow", o.shadow, "judge and tell, but never interfere"),
        {.name = "share",
         .argument = "10%",
         .type = CLI_STRING,
         .value = &s->share,
         .variable = "DRR_TRAFFIC_SHARE", /* DRR_SHARE is a folder */
         .meaning = "of the requests are judged; not given: all. In the environment DRR_TRAFFIC_SHARE"},
        CHOICE("on-judge-error", on_judge_error, judge_errors,
               "an answer that cannot be judged goes out, or is an error"),
        CHOICE("stream-mode", stream_mode, stream_modes,
               "a stream waits for the accepted answer, or shows attempts as reasoning_content"),
        CHOICE("abstain-as", abstain_as, abstain_as, "an abstention is in message.content, or in message.refusal too"),
        TEXT("abstain-text", "TEXT", o.abstain_text, "what it says"),
        TEXT("host", "ADDRESS", o.host, "to listen on; one that others can reach needs an API key"),
        COUNT("port", "N", o.port, 0, 65535, "0: any that is free"),
        {.name = "api-key",
         .argument = "KEY[,KEY]",
         .type = CLI_LIST,
         .value = &s->api_keys,
         .meaning = "of clients; others on this machine may see it here: better in DRR_API_KEY or a file"},
        TEXT("api-key-file", "FILE", o.api_key_file, "one key a line; its owner alone may read it"),
        TEXT("tls-cert", "FILE", o.tls_certificate, "certificate chain, PEM"),
        TEXT("tls-key", "FILE", o.tls_key, "its key, PEM"),
        BYTES("max-body", o.max_body_bytes, "of a request"),
        COUNT("max-connections", "N", o.max_connections, 1, 100000, "at once"),
        COUNT("max-in-flight", "N", o.max_in_flight, 0, 100000, "requests of one key at once; 0: any number"),
        SECONDS("header-timeout", o.header_seconds, "until a request's headers are there"),
        SECONDS("body-timeout", o.body_seconds, "until its body is"),
        SECONDS("write-timeout", o.write_seconds, "without a client taking anything"),
        SECONDS("idle-timeout", o.idle_seconds, "between two requests of a connection"),
        SECONDS("keepalive", o.keepalive_seconds, "between comments in a stream that waits"),
        COUNT("drain-timeout", "S", o.drain_seconds, 0, 86400, "for what is under way at the end"),
        COUNT("http-threads", "N", o.http_threads, 0, 8, "0: by the number of cores"),
        FLAG("metrics", o.metrics, "GET /metrics, for Prometheus"),
        TEXT("record", "FILE|URL", o.record, "trace store for judged requests, for the next training"),
        {.name = "redact",
         .argument = "FIELD",
         .type = CLI_LIST,
         .value = &s->redact,
         .meaning = "of JSON, whose value is not recorded; may be given several times"},
        BYTES("page-memory", o.page_bytes, "for the recent requests that the page shows; 0: none"),
        CHOICE("page-texts", o.page_texts, page_texts,
               "with what was asked and answered; auto: unless several keys would see each other's"),
        FLAG("log-prompts", o.log_prompts, "questions and answers in the log too"),
        TEXT("log-file", "FILE", o.log_file, "JSON lines are appended to it"),
        CHOICE("log-format", log_format, log_formats,
               "on stderr: sentences, or JSON lines; auto: sentences on a terminal or beside --log-file"),
        TEXT("config", "FILE", config, "TOML with any of these; also DRR_CONFIG"),
        CLI_END};
    int code;
    if (!cli_parse(&cli_serve, options, &argc, &argv, 0, 0, &code))
        return code == CLI_DONE ? HELPED : code;
    if (!s->config)
        s->config = getenv("DRR_CONFIG");
    code = cli_settings(&cli_serve, options, s->config && *s->config ? s->config : NULL);
    return code == CLI_DONE ? settle(s, visible) : code;
}

static void defaults(serving *s)
{
    *s = (serving){0};
    drr_serve_options_defaults(&s->o);
    s->on_judge_error = !s->o.pass_unjudged;
}

/* ---- what happens */

static struct {
    int argc;
    char **argv; /* a copy, which is read again */
    int log;     /* descriptor of JSON lines, or -1 */
    bool to_file;
    serving *newest; /* of all settings that were read */
} server = {.log = -1};

static volatile sig_atomic_t hung_up;

static void take_hangup(int number)
{
    (void)number;
    hung_up = 1;
}

/* Again under the same number: a thread that is about to write an event has read it, and a number that was closed may
 * be a client's connection by then. */
static bool open_log(const char *path)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    if (!server.to_file) {
        server.log = fd;
        server.to_file = true;
        return true;
    }
    const bool good = dup3(fd, server.log, O_CLOEXEC) >= 0;
    const int code = errno;
    close(fd);
    errno = code;
    return good;
}

static void write_event(void *user, const char *line)
{
    (void)user;
    const size_t n = strlen(line);
    char *text = malloc(n + 1);
    if (!text)
        return;
    memcpy(text, line, n);
    text[n] = '\n';
    ssize_t written = write(server.log, text, n + 1); /* one write: lines stay whole */
    (void)written;                                    /* a full disk must not stop the server */
    free(text);
}

/* Tells systemd, where it started us, that we are ready. */
static void tell_ready(void *user, uint32_t port)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    (void)user;
    (void)port;
    if (!path || !*path || strlen(path) >= sizeof to.sun_path)
        return;
    memcpy(to.sun_path, path, strlen(path));
    if (*path == '@')
        to.sun_path[0] = '\0';
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (const struct sockaddr *)&to,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
    close(fd);
}

static char **copy_words(int argc, char **argv)
{
    char **copy = calloc((size_t)argc + 1, sizeof *copy);
    for (int i = 0; copy && i < argc; i++)
        if (!(copy[i] = strdup(argv[i])))
            return NULL;
    return copy;
}

static drr_status reload(void *user, const drr_serve_options **fresh, drr_error *err)
{
    serving *before = user;
    if (!hung_up)
        return DRR_E_EMPTY;
    hung_up = 0;
    if (before->o.log_file && !open_log(before->o.log_file))
        cli_fail_errno("the log cannot be opened again:", before->o.log_file);
    serving *s = malloc(sizeof *s);
    char **words = copy_words(server.argc, server.argv);
    if (!s || !words) {
        free(s);
        err->status = DRR_E_MEMORY;
        snprintf(err->message, sizeof err->message, "out of memory");
        return DRR_E_MEMORY;
    }
    defaults(s);
    if (read_settings(s, server.argc, words, NULL) != CLI_DONE) {
        err->status = DRR_E_ARGUMENT;
        snprintf(err->message, sizeof err->message, "the settings are wrong (a line on stderr says where)");
        return DRR_E_ARGUMENT;
    }
    s->older = server.newest;
    s->words = words;
    server.newest = s;
    *fresh = &s->o;
    return DRR_OK;
}

static int run(int argc, char **argv)
{
    serving *s = malloc(sizeof *s);
    drr_error err = {0};
    server.argc = argc;
    server.argv = copy_words(argc, argv);
    char **words = copy_words(argc, argv);
    if (!s || !server.argv || !words)
        return cli_fail_errno("out of memory", "");
    defaults(s);
    const int code = read_settings(s, argc, words, argv);
    if (code != CLI_DONE)
        return code == HELPED ? CLI_DONE : code;
    s->words = words;
    server.newest = s;
    drr_hooks hooks = *cli_hooks();
    if (s->o.log_file && !open_log(s->o.log_file))
        return cli_fail_errno("the log file cannot be opened:", s->o.log_file);
    const bool json =
        s->log_format == LOG_JSON || (s->log_format == LOG_AUTO && !s->o.log_file && isatty(STDERR_FILENO) != 1);
    if (json && !s->o.log_file)
        server.log = STDERR_FILENO;
    if (json) { /* the events say all of it */
        hooks.log = NULL;
        hooks.progress = NULL;
        cli_quiet();
    }
    if (server.log >= 0)
        s->o.event = write_event;
    s->o.ready = tell_ready;
    s->o.reload = reload;
    s->o.user = s;
    signal(SIGPIPE, SIG_IGN);
    struct sigaction action = {.sa_handler = take_hangup};
    sigemptyset(&action.sa_mask);
    sigaction(SIGHUP, &action, NULL);
    return drr_serve(&s->o, &hooks, &err) == DRR_OK ? CLI_DONE : cli_fail(&err);
}
