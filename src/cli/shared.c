/* shared.c: what several commands need: opening what they were given by name, and places for what they make. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const cli_kind_names[] = {"choice", "number", "boolean", "text", "checked", NULL};

static drr_status io_error(drr_error *err, int code, const char *what, const char *path)
{
    char reason[128];
    err->status = DRR_E_IO;
    snprintf(err->message, sizeof err->message, "%s %.800s: %s; choose another place with --out", what, path,
             strerror_r(code, reason, sizeof reason));
    return DRR_E_IO;
}

drr_status cli_open_dataset(drr_dataset **dataset, const char *name, const char *format, drr_error *err)
{
    char path[4096];
    drr_status status = drr_cache_path(path, sizeof path, name, "data", err);
    return status == DRR_OK ? drr_dataset_open(dataset, path, format, NULL, err) : status;
}

static drr_status check_answers(const drr_dataset *dataset, size_t limit, drr_error *err)
{
    char place[600];
    const size_t n = drr_dataset_count(dataset);
    for (size_t i = 0; i < n && (limit == 0 || i < limit); i++) {
        const drr_task *task = drr_dataset_at(dataset, i);
        if (*task->answer)
            continue;
        drr_dataset_place(place, sizeof place, dataset, i);
        err->status = DRR_E_ARGUMENT;
        snprintf(err->message, sizeof err->message,
                 "%s: question %.200s has no reference answer, and what is answered could not be graded; leave it out "
                 "or give its answer",
                 place, task->id);
        return DRR_E_ARGUMENT;
    }
    return DRR_OK;
}

drr_status cli_open_datasets(drr_dataset **sets, const cli_list *data, const char *format, size_t limit, drr_error *err)
{
    drr_status status = DRR_OK;
    for (size_t i = 0; i < data->n; i++) {
        sets[i] = NULL;
        if (status == DRR_OK)
            status = cli_open_dataset(&sets[i], data->items[i], format, err);
        if (status == DRR_OK)
            status = check_answers(sets[i], limit, err);
    }
    return status;
}

void cli_free_datasets(drr_dataset **sets, size_t n)
{
    for (size_t i = 0; i < n; i++)
        drr_dataset_free(sets[i]);
}

drr_status cli_check_datasets(const cli_list *data, const char *format, size_t limit, drr_error *err)
{
    drr_dataset *sets[CLI_LIST_MOST] = {NULL};
    drr_status status = cli_open_datasets(sets, data, format, limit, err);
    cli_free_datasets(sets, data->n);
    return status;
}

drr_status cli_make_folder(const char *path, drr_error *err)
{
    char part[4096];
    struct stat st;
    const size_t length = strlen(path);
    if (length >= sizeof part)
        return io_error(err, ENAMETOOLONG, "cannot make the folder", path);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            return io_error(err, errno, "cannot make the folder", part);
        if (stat(part, &st) != 0 || !S_ISDIR(st.st_mode))
            return io_error(err, ENOTDIR, "cannot make the folder", part);
    }
    return DRR_OK;
}

drr_status cli_make_folder_of(const char *file, drr_error *err)
{
    const char *slash = strrchr(file, '/');
    if (!slash || slash == file)
        return DRR_OK;
    char *folder = strndup(file, (size_t)(slash - file));
    drr_status status =
        folder ? cli_make_folder(folder, err) : io_error(err, ENOMEM, "cannot make the folder of", file);
    free(folder);
    return status;
}

void cli_default_out(char *path, size_t size, const char *name, const char *file)
{
    const char *slash = strrchr(name, '/');
    const char *base = slash ? slash + 1 : name;
    snprintf(path, size, "runs/%.*s%s%s", (int)strcspn(base, "."), base, *file ? "/" : "", file);
}

drr_status cli_write_file(const char *path, const char *text, drr_error *err)
{
    char temporary[4096];
    const int n = snprintf(temporary, sizeof temporary, "%s.tmp-%ld", path, (long)getpid());
    if (n < 0 || (size_t)n >= sizeof temporary)
        return io_error(err, ENAMETOOLONG, "cannot write", path);
    FILE *file = fopen(temporary, "w");
    if (!file)
        return io_error(err, errno, "cannot write", path);
    bool good = fputs(text, file) != EOF && fflush(file) == 0 && fsync(fileno(file)) == 0;
    int code = errno;
    if (fclose(file) != 0 && good) {
        good = false;
        code = errno;
    }
    if (good && rename(temporary, path) != 0) {
        good = false;
        code = errno;
    }
    if (!good)
        unlink(temporary);
    return good ? DRR_OK : io_error(err, code, "cannot write", path);
}

char *cli_read_file(const char *path)
{
    enum { MOST = 1 << 16 };
    FILE *file = fopen(path, "r");
    char *text = file ? malloc(MOST + 1) : NULL;
    if (text)
        text[fread(text, 1, MOST, file)] = '\0';
    if (file)
        fclose(file);
    return text;
}

void cli_checking_defaults(cli_checking *checking)
{
    *checking = (cli_checking){.allowed = false};
    drr_check_options_defaults(&checking->options);
}

drr_status cli_open_checker(drr_checker **checker, const cli_checking *checking, drr_error *err)
{
    if (!checking->allowed)
        return DRR_OK;
    const drr_status status = drr_checker_open(checker, &checking->options, err);
    if (status == DRR_OK)
        cli_note("%s", drr_checker_describe(*checker));
    return status;
}

void cli_reasoner_defaults(cli_reasoner_choice *choice)
{
    *choice = (cli_reasoner_choice){.source = CLI_REASONER};
    drr_reasoner_options_defaults(&choice->options);
}

drr_status cli_open_question(drr_critic **critic, drr_policy *policy, const char *path, drr_error *err)
{
    if (!path && (policy->sure_above <= 1 || policy->parallel_below > 0 || policy->hopeless_below > 0 ||
                  policy->give_up_below > 0)) {
        err->status = DRR_E_ARGUMENT;
        snprintf(err->message, sizeof err->message,
                 "--sure-above, --parallel-below, --hopeless-below and --give-up-below need --question-critic FILE, "
                 "which drr train --question-only makes");
        return DRR_E_ARGUMENT;
    }
    drr_status status = path ? drr_critic_open(critic, path, err) : DRR_OK;
    if (status == DRR_OK)
        policy->question_critic = *critic;
    return status;
}

void cli_check_critic(const cli_cast *cast)
{
    char why[700];
    if (cast->critic && drr_critic_mismatch(why, sizeof why, cast->critic, cast->reasoner, cast->prompts))
        cli_note("warning: %s", why);
}

drr_status cli_open_second(drr_reasoner **second, const cli_escalation *to, const cli_reasoner_choice *first,
                           drr_error *err)
{
    drr_reasoner_options options = first->options;
    options.hooks = cli_hooks();
    options.model = to->model;
    options.replay_reasoner = to->replay_reasoner;
    options.hidden = NULL; /* no critic judges its answer */
    if (!to->source)
        return DRR_OK;
    const drr_status status = drr_reasoner_open(second, to->source, &options, err);
    if (status == DRR_OK)
        cli_note("escalates to: %s", drr_reasoner_describe(*second));
    return status;
}

void cli_hidden_of_critic(cli_reasoner_choice *choice, char layer[16], const drr_critic *critic)
{
    drr_critic_info info;
    if (!critic)
        return;
    drr_critic_describe(critic, &info);
    snprintf(layer, 16, "%s", info.probe_layer);
    choice->options.hidden = *layer ? layer : NULL;
}

drr_status cli_check_hidden(const drr_reasoner *reasoner, const cli_reasoner_choice *choice, drr_error *err)
{
    if (!choice->options.hidden || *drr_reasoner_hidden(reasoner))
        return DRR_OK;
    err->status = DRR_E_ARGUMENT;
    snprintf(
        err->message, sizeof err->message,
        "--hidden %.60s: %.300s gives no hidden states; only a model that drr runs itself does, a .gguf file or one "
        "of `drr models`",
        choice->options.hidden, drr_reasoner_id(reasoner));
    return DRR_E_ARGUMENT;
}

drr_status cli_open_reasoner(drr_reasoner **reasoner, drr_prompts **prompts, const cli_reasoner_choice *choice,
                             drr_error *err)
{
    drr_reasoner_options options = choice->options;
    options.hooks = cli_hooks();
    drr_status status = drr_prompts_open(prompts, choice->prompts, err);
    if (status == DRR_OK)
        status = drr_reasoner_open(reasoner, choice->source, &options, err);
    if (status == DRR_OK)
        cli_note("reasoner: %s", drr_reasoner_describe(*reasoner));
    return status;
}

drr_status cli_open_judges(cli_cast *cast, drr_policy *policy, drr_error *err)
{
    drr_status status = cast->critic_path ? drr_critic_open(&cast->critic, cast->critic_path, err) : DRR_OK;
    if (status == DRR_OK)
        status = cli_open_question(&cast->question, policy, cast->question_path, err);
    if (status == DRR_OK && cast->judging)
        status = cli_open_judge(&cast->judge, cast->judging, cast->choice, err);
    if (status == DRR_OK && cast->checking)
        status = cli_open_checker(&cast->checker, cast->checking, err);
    policy->judge = cast->judge;
    return status;
}

drr_status cli_open_reasoners(cli_cast *cast, drr_error *err)
{
    cli_reasoner_choice choice = *cast->choice;
    cli_hidden_of_critic(&choice, cast->layer, cast->critic);
    drr_status status = cli_open_reasoner(&cast->reasoner, &cast->prompts, &choice, err);
    if (status == DRR_OK && cast->to)
        status = cli_open_second(&cast->second, cast->to, &choice, err);
    return status;
}

void cli_close_cast(cli_cast *cast)
{
    drr_reasoner_close(cast->second);
    drr_reasoner_close(cast->reasoner);
    drr_prompts_free(cast->prompts);
    drr_checker_close(cast->checker);
    drr_judge_close(cast->judge);
    drr_critic_close(cast->question);
    drr_critic_close(cast->critic);
}
