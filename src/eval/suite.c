/* suite.c: runs a suite: each reasoner with each critic and each seed is a part, an evaluation of all strategies on all
 * data sets in a folder of its own, and all share one cache of sampled text. A part that was finished by the same drr
 * from the same files is kept; so a study that was stopped goes on, and one of which a critic or a policy has changed
 * is scored again from the texts that are there. Critics that a suite makes of traces are suite_folds.c's; the study's
 * report (suite_report.c) is made of the parts'. */
#include "check/check.h"
#include "eval/suite_internal.h"
#include "trace/trace.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PART_FORMAT = 1, LARGE = 256 << 20 };

typedef struct plan { /* one part */
    const suite_reasoner *reasoner;
    const suite_critic *critic; /* NULL: none */
    suite_folds *folds;         /* the critic's, where it is made here; else NULL */
    uint64_t seed;
    char signature[65];
} plan;

/* ---- what a part is made of, as a hash */

/* A file's content; of a large one (a model) its size and when it was written; of what is no file the name alone. */
drr_status suite_sign_file(buffer *b, const char *what, const char *name, drr_error *err)
{
    char path[4096], hex[65] = "";
    struct stat st;
    drr_status status = DRR_OK;
    if (strstr(name, "://") || drr_cache_path(path, sizeof path, name, NULL, NULL) != DRR_OK || stat(path, &st) != 0 ||
        S_ISDIR(st.st_mode))
        return buffer_printf(b, err, "%s %s\n", what, name);
    if (st.st_size > LARGE)
        return buffer_printf(b, err, "%s %s %lld %lld\n", what, file_name(path, NULL), (long long)st.st_size,
                             (long long)st.st_mtime);
    status = sha256_file(hex, path, err);
    return status == DRR_OK ? buffer_printf(b, err, "%s %s %s\n", what, file_name(path, NULL), hex) : status;
}

static drr_status sign_entries(buffer *b, const suite *s, drr_error *err)
{
    drr_status status = DRR_OK;
    for (size_t i = 0; i < s->n_entries && status == DRR_OK; i++) {
        json_t *policy = policy_json(&s->entries[i].policy);
        char *text = json_dumps(policy, JSON_COMPACT | JSON_REAL_PRECISION(17));
        status = text ? buffer_printf(b, err, "strategy %s %s %s\n", s->entries[i].name,
                                      drr_strategy_name(s->entries[i].policy.strategy), text)
                      : error_memory(err);
        free(text);
        json_decref(policy);
    }
    return status;
}

static drr_status sign_judge(buffer *b, const suite_critic *judge, drr_error *err)
{
    const drr_judge_options *o = &judge->options;
    drr_status status = suite_sign_file(b, "judge", judge->source, err);
    return status == DRR_OK ? buffer_printf(b, err, "route %s scale %s model %s\n", o->route ? o->route : "",
                                            o->scale ? o->scale : "", o->model ? o->model : "")
                            : status;
}

static drr_status sign(plan *p, const suite *s, const drr_checker *checker, drr_error *err)
{
    buffer b = {0};
    sha256 h;
    const drr_reasoner_options *o = &p->reasoner->options;
    drr_status status = buffer_printf(
        &b, err, "drr %s part %d seed %llu bootstrap %u budget %d of %s model %s replay %s %s context %u\n",
        DRR_VERSION, PART_FORMAT, (unsigned long long)p->seed, s->bootstrap, (int)s->equal_budget,
        s->budget_of ? s->budget_of : "", o->model ? o->model : "", o->replay_reasoner ? o->replay_reasoner : "",
        o->replay_prompt ? o->replay_prompt : "", o->context);
    if (status == DRR_OK)
        status = sign_entries(&b, s, err);
    for (size_t i = 0; i < s->n_data && status == DRR_OK; i++) {
        status = suite_sign_file(&b, "data", s->data[i].path, err);
        if (status == DRR_OK)
            status = buffer_printf(&b, err, "format %s limit %llu\n", s->data[i].format ? s->data[i].format : "",
                                   (unsigned long long)s->data[i].limit);
    }
    if (status == DRR_OK)
        status = suite_sign_file(&b, "reasoner", p->reasoner->source, err);
    if (status == DRR_OK && s->escalate.source)
        status = suite_sign_file(&b, "escalates to", s->escalate.source, err);
    if (status == DRR_OK && s->escalate.source)
        status = buffer_printf(
            &b, err, "model %s replay %s %s context %u\n", s->escalate.options.model ? s->escalate.options.model : "",
            s->escalate.options.replay_reasoner ? s->escalate.options.replay_reasoner : "",
            s->escalate.options.replay_prompt ? s->escalate.options.replay_prompt : "", s->escalate.options.context);
    if (status == DRR_OK && checker)
        status =
            buffer_printf(&b, err, "checked by %s in %.17g s\n", checker_python(checker), checker_seconds(checker));
    if (status == DRR_OK && s->question_critic)
        status = suite_sign_file(&b, "question critic", s->question_critic, err);
    if (status == DRR_OK && p->reasoner->prompts)
        status = suite_sign_file(&b, "prompts", p->reasoner->prompts, err);
    if (status == DRR_OK && p->folds)
        status =
            buffer_printf(&b, err, "critics %s questions %d\n", p->folds->signature, p->critic->with_question_critic);
    else if (status == DRR_OK && p->critic)
        status = p->critic->path ? suite_sign_file(&b, "critic", p->critic->path, err) : sign_judge(&b, p->critic, err);
    if (status == DRR_OK) {
        sha256_begin(&h);
        sha256_add(&h, b.data, b.size);
        sha256_end(&h, p->signature);
    }
    buffer_clear(&b);
    return status;
}

static void name_part(char *name, size_t size, const plan *p)
{
    snprintf(name, size, "%s%s%s.s%llu", p->reasoner->name, p->critic ? "." : "", p->critic ? p->critic->name : "",
             (unsigned long long)p->seed);
}

static plan plan_at(const suite *s, size_t k)
{
    return (plan){.reasoner = &s->reasoners[k / s->n_critics], .critic = &s->critics[k % s->n_critics]};
}

/* Parts are called after reasoner and critic, "a.b": "a" with "b.c" and "a.b" with "c" would share a folder. */
static drr_status check_parts(const suite *s, drr_error *err)
{
    char name[PART_NAME], other[PART_NAME];
    for (size_t k = 1; k < s->n_reasoners * s->n_critics; k++) {
        const plan p = plan_at(s, k);
        name_part(name, sizeof name, &p);
        for (size_t m = 0; m < k; m++) {
            const plan q = plan_at(s, m);
            name_part(other, sizeof other, &q);
            if (strcmp(name, other) == 0)
                return error_set(err, DRR_E_FORMAT,
                                 "%s: reasoner %s with critic %s and reasoner %s with critic %s are both called %s.%s: "
                                 "give one of them another name",
                                 s->path, p.reasoner->name, p.critic->name, q.reasoner->name, q.critic->name,
                                 p.reasoner->name, p.critic->name);
        }
    }
    return DRR_OK;
}

/* ---- one part */

typedef struct opened {
    drr_dataset *sets[MOST_LISTED];
    drr_critic *critic; /* the judge's, where a judge is a critic's file */
    drr_judge *judge;
    drr_critic *question;
    drr_prompts *prompts;
    drr_reasoner *reasoner, *second;
} opened;

static void close_all(opened *o)
{
    for (size_t i = 0; i < MOST_LISTED; i++)
        drr_dataset_free(o->sets[i]);
    drr_critic_close(o->question);
    drr_reasoner_close(o->second);
    drr_reasoner_close(o->reasoner);
    drr_prompts_free(o->prompts);
    if (!o->judge)
        drr_critic_close(o->critic);
    drr_judge_close(o->judge);
    *o = (opened){0};
}

/* Puts the suite's file and line before what could not be opened. */
static drr_status at_line(drr_status status, const suite *s, const char *list, size_t i, drr_error *err)
{
    char where[40];
    drr_error inner;
    if (status == DRR_OK || status == DRR_E_INTERRUPTED || !err)
        return status;
    inner = *err;
    snprintf(where, sizeof where, "%s[%zu]", list, i);
    return error_set(err, status, "%s:%d: %.900s", s->path, toml_line(s->lines, where), inner.message);
}

static drr_status open_data(opened *o, const suite *s, drr_error *err)
{
    drr_status status = DRR_OK;
    for (size_t i = 0; i < s->n_data && status == DRR_OK; i++) {
        char path[4096];
        status = drr_cache_path(path, sizeof path, s->data[i].path, "data", err);
        if (status == DRR_OK)
            status = drr_dataset_open(&o->sets[i], path, s->data[i].format, NULL, err);
        status = at_line(status, s, "data", i, err);
    }
    return status;
}

static size_t n_judges(const suite *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_critics; i++)
        n += s->critics[i].source != NULL;
    return n;
}

static drr_status open_critic(opened *o, const suite *s, const suite_critic *critic, const drr_hooks *hooks,
                              drr_error *err)
{
    drr_status status;
    if (!critic)
        return DRR_OK;
    const size_t i = (size_t)(critic - s->critics), n_files = s->n_critics - n_judges(s);
    if (critic->folds)
        return DRR_OK; /* suite_folds_open */
    if (critic->path)
        return at_line(drr_critic_open(&o->critic, critic->path, err), s, "critic", i, err);
    drr_judge_options options = critic->options;
    options.hooks = hooks;
    status = drr_judge_open(&o->judge, critic->source, &options, err);
    if (status == DRR_OK)
        o->critic = drr_judge_critic(o->judge);
    for (size_t k = 0; k < s->n_entries && status == DRR_OK; k++)
        if (s->entries[k].policy.strategy == DRR_STRATEGY_DRR && isnan(s->entries[k].policy.threshold) &&
            !drr_judge_calibrated(o->judge))
            status = error_set(err, DRR_E_ARGUMENT,
                               "the judge %s has no threshold of its own: give the strategy %s one (threshold = 0.5)",
                               critic->name, s->entries[k].name);
    return at_line(status, s, "judge", i - n_files, err);
}

static drr_status open_reasoner(opened *o, const suite *s, const plan *p, const drr_hooks *hooks, drr_error *err)
{
    drr_reasoner_options options = p->reasoner->options;
    drr_critic_info info = {.probe_layer = ""};
    char layers[64] = "";
    options.seed = p->seed;
    options.hooks = hooks;
    if (p->folds)
        suite_folds_layers(layers, p->folds);
    else if (o->critic)
        drr_critic_describe(o->critic, &info);
    options.hidden = *layers ? layers : info.probe_layer && *info.probe_layer ? info.probe_layer : NULL;
    drr_status status = drr_prompts_open(&o->prompts, p->reasoner->prompts, err);
    if (status == DRR_OK)
        status = drr_reasoner_open(&o->reasoner, p->reasoner->source, &options, err);
    status = at_line(status, s, "reasoner", (size_t)(p->reasoner - s->reasoners), err);
    if (status != DRR_OK || !s->escalate.source)
        return status;
    options = s->escalate.options;
    options.seed = p->seed;
    options.hooks = hooks;
    return drr_reasoner_open(&o->second, s->escalate.source, &options, err);
}

/* Divides the questions of the traces that critics are made of, and sees that each data set has some of them. */
static drr_status divide(suite_folds *folds, const opened *o, const suite *s, const char *out, const drr_hooks *hooks,
                         drr_error *err)
{
    drr_status status = DRR_OK;
    for (size_t i = 0; i < s->n_critics && status == DRR_OK; i++) {
        if (!s->critics[i].folds)
            continue;
        status = suite_folds_divide(&folds[i], &s->critics[i], out, hooks, err);
        for (size_t d = 0; d < s->n_data && status == DRR_OK; d++)
            status = suite_folds_check(&folds[i], o->sets[d], s->data[d].limit, hooks, err);
        status = at_line(status, s, "critic", i, err);
    }
    return status;
}

/* Everything that a suite names but its reasoners, before the first of them thinks. */
static drr_status check_files(suite_folds *folds, const suite *s, const char *out, const drr_hooks *hooks,
                              drr_error *err)
{
    opened o = {0};
    drr_status status = open_data(&o, s, err);
    for (size_t i = 0; i < s->n_critics && status == DRR_OK; i++) {
        status = open_critic(&o, s, &s->critics[i], NULL, err);
        if (!o.judge)
            drr_critic_close(o.critic);
        drr_judge_close(o.judge);
        o.critic = NULL;
        o.judge = NULL;
    }
    if (status == DRR_OK)
        status = divide(folds, &o, s, out, hooks, err);
    close_all(&o);
    return status;
}

static drr_status write_signature(const char *folder, const char *signature, drr_error *err)
{
    char path[4096], text[160];
    snprintf(path, sizeof path, "%s/part.json", folder);
    snprintf(text, sizeof text, "{\"signature\": \"%s\", \"drr\": \"%s\"}\n", signature, DRR_VERSION);
    return file_write_all(path, text, strlen(text), err);
}

static drr_status run_part(const suite *s, const plan *p, const suite_part *part, const drr_suite_options *options,
                           const drr_hooks *hooks, drr_error *err)
{
    opened o = {0};
    drr_eval_options how;
    drr_eval_entry entries[MOST_LISTED];
    uint64_t limits[MOST_LISTED];
    char cache[4096], body[4096], plots[4096], *json = NULL, *table = NULL;
    snprintf(cache, sizeof cache, "%s/samples.db", options->out);
    snprintf(body, sizeof body, "%s/body.html", part->folder);
    snprintf(plots, sizeof plots, "%s/plots/%s.", options->out, part->name);
    drr_eval_options_defaults(&how);
    for (size_t i = 0; i < s->n_entries; i++) {
        entries[i] = s->entries[i];
        entries[i].policy.seed = p->seed;
    }
    for (size_t i = 0; i < s->n_data; i++)
        limits[i] = s->data[i].limit;
    how.out = part->folder;
    how.cache = cache;
    how.entries = entries;
    how.n_entries = s->n_entries;
    how.policy.seed = p->seed;
    how.bootstrap = s->bootstrap;
    how.equal_budget = s->equal_budget;
    how.budget_of = s->budget_of;
    how.title = part->name;
    how.checker = options->checker;
    char mark[4096];
    snprintf(mark, sizeof mark, "%s/part.json", part->folder);
    unlink(mark); /* of other settings: what it vouches for is written over */
    drr_status status = open_data(&o, s, err);
    if (status == DRR_OK)
        status = open_critic(&o, s, p->critic, hooks, err);
    if (status == DRR_OK && p->folds)
        status = suite_folds_open(p->folds, hooks, err);
    if (status == DRR_OK)
        status = open_reasoner(&o, s, p, hooks, err);
    if (status == DRR_OK && s->question_critic)
        status = drr_critic_open(&o.question, s->question_critic, err);
    how.escalate_to = o.second;
    how.policy.judge = o.judge;
    for (size_t i = 0; i < s->n_entries; i++) {
        entries[i].policy.judge = o.judge;
        entries[i].policy.question_critic = o.question;
    }
    if (status == DRR_OK)
        status = evaluate_part(
            &json, &table,
            &(part_forms){.body = body, .plots = plots, .limits = limits, .folds = p->folds ? &p->folds->as : NULL},
            o.reasoner, o.judge ? NULL : o.critic, o.prompts, (const drr_dataset *const *)o.sets, s->n_data, &how,
            hooks, err);
    if (status == DRR_OK)
        status = write_signature(part->folder, p->signature, err);
    free(json);
    free(table);
    if (p->folds)
        suite_folds_close(p->folds);
    close_all(&o);
    return status;
}

/* Is the part finished, by the same drr and of the same files? */
static bool is_finished(const plan *p, const suite_part *part)
{
    static const char *const forms[] = {"report.json", "questions.jsonl", "body.html"};
    char path[4096];
    json_t *mark = NULL;
    snprintf(path, sizeof path, "%s/part.json", part->folder);
    if (!file_exists(path) || json_parse_file(&mark, path, NULL) != DRR_OK)
        return false;
    bool same = strcmp(json_string_or(mark, "signature", ""), p->signature) == 0;
    json_decref(mark);
    for (size_t i = 0; i < 3 && same; i++) {
        snprintf(path, sizeof path, "%s/%s", part->folder, forms[i]);
        same = file_exists(path);
    }
    return same;
}

static drr_status do_part(suite_part *part, plan *p, const suite *s, const drr_suite_options *options, size_t number,
                          size_t n, const drr_hooks *hooks, drr_error *err)
{
    char path[4096];
    buffer folder = {0};
    name_part(part->name, sizeof part->name, p);
    drr_status status = buffer_printf(&folder, err, "%s/parts/%s", options->out, part->name);
    if (status != DRR_OK)
        return status;
    part->folder = buffer_take(&folder);
    status = sign(p, s, options->checker, err);
    if (status == DRR_OK && is_finished(p, part)) {
        hooks_log(hooks, DRR_LOG_INFO, "part %zu of %zu, %s: finished before", number, n, part->name);
    } else if (status == DRR_OK) {
        hooks_log(hooks, DRR_LOG_INFO, "part %zu of %zu, %s", number, n, part->name);
        status = run_part(s, p, part, options, hooks, err);
    }
    snprintf(path, sizeof path, "%s/report.json", part->folder);
    return status == DRR_OK ? json_parse_file(&part->report, path, err) : status;
}

drr_status drr_eval_suite(char **json, char **table, const char *path, const drr_suite_options *options,
                          const drr_hooks *hooks, drr_error *err)
{
    suite s;
    buffer folder = {0};
    drr_status status = suite_read(&s, path, err);
    if (status != DRR_OK)
        return status;
    const size_t n_critics = s.n_critics ? s.n_critics : 1, n = s.n_reasoners * n_critics * s.n_seeds;
    suite_part *parts = calloc(n, sizeof *parts);
    suite_folds *folds = calloc(n_critics, sizeof *folds);
    status = parts && folds ? check_parts(&s, err) : error_memory(err);
    if (status == DRR_OK)
        status = check_files(folds, &s, options->out, hooks, err);
    if (status == DRR_OK)
        status = buffer_printf(&folder, err, "%s/plots", options->out);
    if (status == DRR_OK)
        status = folder_make(folder.data, err);
    for (size_t k = 0; k < n && status == DRR_OK; k++) {
        const size_t judge = k / s.n_seeds % n_critics;
        plan p = {.reasoner = &s.reasoners[k / (n_critics * s.n_seeds)],
                  .critic = s.n_critics ? &s.critics[judge] : NULL,
                  .folds = folds[judge].critic ? &folds[judge] : NULL,
                  .seed = s.seeds[k % s.n_seeds]};
        status = do_part(&parts[k], &p, &s, options, k + 1, n, hooks, err);
    }
    if (status == DRR_OK)
        status = suite_report(json, table, &s, parts, n, options->out, options->command, err);
    for (size_t k = 0; parts && k < n; k++) {
        json_decref(parts[k].report);
        free(parts[k].folder);
    }
    for (size_t k = 0; folds && k < n_critics; k++)
        suite_folds_clear(&folds[k]);
    free(folds);
    free(parts);
    buffer_clear(&folder);
    suite_clear(&s);
    return status;
}
