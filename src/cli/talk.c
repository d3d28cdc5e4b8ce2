/* talk.c: everything a command says on stderr: notes, errors, and progress (one refreshed line on a terminal, plain
 * lines now and then on a pipe), and what Ctrl-C does. Results are not its business. */
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static const double PIPE_INTERVAL_S = 5;

static struct {
    bool quiet, silent, line_shown;
    double last_s; /* of the last plain line */
    uint64_t last_done;
    char last_phase[32];
    char *command;
    bool serves; /* it is `drr serve` */
} talk;

static volatile sig_atomic_t interrupted;

void cli_quiet(void)
{
    talk.quiet = true;
}

uint32_t cli_follow_rank(void)
{
    uint32_t rank, n;
    drr_ranks(&rank, &n);
    if (rank == 0)
        return n;
    talk.silent = talk.quiet = true;
    if (!freopen("/dev/null", "w", stdout))
        fclose(stdout);
    return n;
}

bool cli_silent(void)
{
    return talk.silent;
}

void cli_clear_progress(void)
{
    if (talk.line_shown)
        fputs("\r\033[K", stderr);
    talk.line_shown = false;
}

void cli_note(const char *format, ...)
{
    if (talk.quiet)
        return;
    va_list arguments;
    va_start(arguments, format);
    cli_clear_progress();
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

int cli_fail(const drr_error *err)
{
    cli_clear_progress();
    if (talk.silent && (err->status == DRR_E_INTERRUPTED || !*err->message)) /* rank 0 says it */
        return err->status == DRR_E_INTERRUPTED ? CLI_INTERRUPTED : CLI_FAILED;
    if (err->status == DRR_E_INTERRUPTED && talk.serves) { /* nothing to go on with: this is its orderly end */
        cli_note("drr: stopped before it was ready");
        return CLI_DONE;
    }
    if (err->status == DRR_E_INTERRUPTED) {
        uint32_t rank, n;
        char mpirun[32] = "";
        drr_ranks(&rank, &n);
        if (n > 1)
            snprintf(mpirun, sizeof mpirun, "mpirun -np %u ", n);
        fprintf(stderr, "drr: interrupted; what is finished is kept. To go on, run it again:\n    %s%s\n", mpirun,
                cli_command_line());
        return CLI_INTERRUPTED;
    }
    fprintf(stderr, "drr: %s\n", *err->message ? err->message : drr_status_name(err->status));
    return CLI_FAILED;
}

int cli_fail_errno(const char *what, const char *path)
{
    char reason[128];
    drr_error err = {.status = DRR_E_IO};
    snprintf(err.message, sizeof err.message, "%s%s%s: %s", what, *path ? " " : "", path,
             strerror_r(errno, reason, sizeof reason));
    return cli_fail(&err);
}

/* ---- the command, to be shown again, without what is secret in it */

/* URLs with a password are refused where they are opened (remote.c, postgres.c), but the command may be shown before.
 */
static void hide_secrets(char *word, bool is_key)
{
    static const char key[] = "--api-key=", parameter[] = "password=";
    const bool holds_key = strncmp(word, key, sizeof key - 1) == 0;
    if (is_key || holds_key) {
        word += holds_key ? sizeof key - 1 : 0;
        memset(word, '*', strlen(word));
        return;
    }
    for (char *host = word; (host = strstr(host, "://"));) {
        host += 3;
        char *at = memrchr(host, '@', strcspn(host, "/?# ")),
             *user_end = at ? memchr(host, ':', (size_t)(at - host)) : NULL;
        if (user_end)
            memset(user_end + 1, '*', (size_t)(at - user_end - 1));
        for (char *value = host; (value = strstr(value, parameter));) {
            value += sizeof parameter - 1;
            memset(value, '*', strcspn(value, "&# "));
        }
    }
}

static char *quote_word(char *at, const char *word)
{
    const size_t plain = strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%");
    const bool quoted = word[plain] != '\0' || !*word;
    if (quoted)
        *at++ = '\'';
    for (; *word; word++) {
        if (*word == '\'') { /* '\'' */
            memcpy(at, "'\\''", 4);
            at += 4;
        } else {
            *at++ = *word;
        }
    }
    if (quoted)
        *at++ = '\'';
    return at;
}

void cli_remember_command(int argc, char **argv)
{
    size_t room = 1;
    for (int i = 0; i < argc; i++)
        room += 4 * strlen(argv[i]) + 3;
    free(talk.command);
    talk.serves = argc > 1 && strcmp(argv[1], "serve") == 0;
    char *at = talk.command = malloc(room);
    for (int i = 0; at && i < argc; i++) {
        char *word = strdup(argv[i]);
        if (!word) {
            free(talk.command);
            talk.command = NULL;
            return;
        }
        hide_secrets(word, i && strcmp(argv[i - 1], "--api-key") == 0);
        if (i)
            *at++ = ' ';
        at = quote_word(at, word);
        free(word);
    }
    if (at)
        *at = '\0';
}

const char *cli_command_line(void)
{
    return talk.command ? talk.command : "drr";
}

/* ---- hooks */

double cli_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void hear_log(void *user, drr_log_level level, const char *message)
{
    (void)user;
    if (level == DRR_LOG_DEBUG)
        return;
    if (level == DRR_LOG_WARN) {
        cli_clear_progress();
        fprintf(stderr, "warning: %s\n", message);
    } else {
        cli_note("%s", message);
    }
}

static int terminal_width(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

static void print_line(const drr_progress *p, bool terminal)
{
    char line[512], left[24] = "";
    int n = snprintf(line, sizeof line, "%s %llu", p->phase, (unsigned long long)p->done);
    if (p->total)
        n += snprintf(line + n, sizeof line - (size_t)n, "/%llu", (unsigned long long)p->total);
    n += snprintf(line + n, sizeof line - (size_t)n, " %s", p->unit ? p->unit : "");
    if (p->total)
        n += snprintf(line + n, sizeof line - (size_t)n, ", %.0f %%", floor(100 * (double)p->done / (double)p->total));
    if (p->per_second > 0)
        n += snprintf(line + n, sizeof line - (size_t)n, ", %.3g/s", p->per_second);
    if (p->eta_s >= 0 && p->done < p->total)
        n += snprintf(line + n, sizeof line - (size_t)n, ", %s left", cli_duration(left, p->eta_s));
    if (p->note && n < 300)
        snprintf(line + n, sizeof line - (size_t)n, ", %.200s", p->note);
    if (terminal)
        fprintf(stderr, "\r%.*s\033[K", terminal_width() - 1, line);
    else
        fprintf(stderr, "%s\n", line);
    fflush(stderr);
}

static void hear_progress(void *user, const drr_progress *p)
{
    (void)user;
    const bool terminal = isatty(STDERR_FILENO) == 1;
    if (talk.quiet)
        return;
    if (terminal) {
        print_line(p, true);
        talk.line_shown = true;
        return;
    }
    const double now = cli_seconds();
    const bool new_phase = strncmp(talk.last_phase, p->phase, sizeof talk.last_phase - 1) != 0;
    const bool ended = p->total && p->done >= p->total && p->done != talk.last_done;
    if (!new_phase && !ended && now - talk.last_s < PIPE_INTERVAL_S)
        return;
    talk.last_s = now;
    talk.last_done = p->done;
    snprintf(talk.last_phase, sizeof talk.last_phase, "%s", p->phase);
    print_line(p, false);
}

bool cli_interrupted(void)
{
    return interrupted != 0;
}

static bool hear_cancelled(void *user)
{
    (void)user;
    return cli_interrupted();
}

static void take_signal(int number)
{
    (void)number;
    if (interrupted)
        _exit(CLI_INTERRUPTED);
    interrupted = 1;
    static const char said[] = "\nstopping in order; once more to stop at once\n";
    if (!talk.silent && !talk.quiet && write(STDERR_FILENO, said, sizeof said - 1) < 0)
        interrupted = 1; /* nobody can hear it */
}

static void listen_to(int number)
{
    struct sigaction before;
    if (sigaction(number, NULL, &before) == 0 && before.sa_handler == SIG_IGN)
        return; /* nohup and a shell's background jobs mean it */
    struct sigaction action = {.sa_handler = take_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

const drr_hooks *cli_hooks(void)
{
    static const drr_hooks hooks = {hear_log, hear_progress, hear_cancelled, NULL};
    static bool listening;
    if (!listening) {
        listen_to(SIGINT);
        listen_to(SIGTERM);
        listening = true;
    }
    return &hooks;
}
