/* fetch.c: hands fetching to fetch.py, which needs nothing but Python and is also what `make` uses. */
#include "fetch.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

extern char **environ;

enum { MOST_NAMES = 64 };

static int wait_for(pid_t child)
{
    int how = 0;
    while (waitpid(child, &how, 0) < 0)
        if (errno != EINTR)
            return cli_fail_errno("the fetcher was lost", "");
    if (WIFEXITED(how))
        return WEXITSTATUS(how);
    return WIFSIGNALED(how) && WTERMSIG(how) == SIGINT ? CLI_INTERRUPTED : CLI_FAILED;
}

int fetch_command(const cli_command *command, int argc, char **argv)
{
    bool offline = false, verify = false;
    const cli_option options[] = {
        {.name = "offline", .type = CLI_FLAG, .value = &offline, .meaning = "use only what is in the cache"},
        {.name = "verify", .type = CLI_FLAG, .value = &verify, .meaning = "compute the sha256 of what is there anew"},
        CLI_END};
    char script[4096], python[] = "python3", offline_word[] = "--offline", verify_word[] = "--verify";
    char *words[MOST_NAMES + 5] = {python, script};
    drr_error err = {0};
    pid_t child;
    int code, n = 2;
    if (!cli_parse(command, options, &argc, &argv, 1, MOST_NAMES, &code))
        return code;
    if (drr_share_path(script, sizeof script, "fetch.py", &err) != DRR_OK)
        return cli_fail(&err);
    if (offline)
        words[n++] = offline_word;
    if (verify)
        words[n++] = verify_word;
    for (int i = 0; i < argc; i++)
        words[n++] = argv[i];
    fflush(stdout);
    signal(SIGINT, SIG_IGN); /* the fetcher hears Ctrl-C itself and says how to go on */
    posix_spawnattr_t attributes;
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGINT);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    errno = posix_spawnp(&child, python, NULL, &attributes, words, environ);
    posix_spawnattr_destroy(&attributes);
    if (errno)
        return cli_fail_errno("fetching needs python3, which cannot be started", "");
    return wait_for(child);
}

void cache_item_json(cli_json *j, const drr_cache_item *item)
{
    cli_json_open(j, NULL, '{');
    cli_json_string(j, "name", item->name);
    cli_json_string(j, "kind", item->kind);
    cli_json_string(j, "what", item->what);
    cli_json_string(j, "licence", item->licence);
    cli_json_string(j, "sha256", item->sha256);
    cli_json_string(j, "path", item->path);
    cli_json_uint(j, "bytes", item->bytes);
    cli_json_bool(j, "present", item->present);
    cli_json_close(j, '}');
}
