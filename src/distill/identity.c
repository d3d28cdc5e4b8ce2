/* identity.c: whose store it is. Traces of one store are compared, counted and learned from as if one run had made
 * them, and a sample that is there is not made again: so all that shapes a trace's text is written down as facts of the
 * store, and a run that differs is refused before it asks anything. How many questions, samples and turns there are
 * shapes no text and may grow; nor does the share of forced rejections, which only decides where a sample ends. */
#include "distill/distill_internal.h"
#include "task/task.h"
#include "trace/queue.h"

#include <stdlib.h>
#include <string.h>

enum { SEED = 2, CONTEXT = 7, N_SETTINGS = 9 };

typedef struct setting {
    const char *fact, *words; /* its name in the store, and in a sentence */
    char value[512];          /* this run's; "": this reasoner has none */
    char *stored;
} setting;

/* The shortest decimals that read back as the same float, so that a sentence says 0.7. */
static void print_float(char *text, size_t size, float value)
{
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, size, "%.*g", digits, (double)value);
        const float back = strtof(text, NULL);
        if (memcmp(&back, &value, sizeof back) == 0)
            return;
    }
}

static void settings_of(setting s[N_SETTINGS], const drr_reasoner *reasoner, const drr_prompts *prompts,
                        const drr_distill_options *options)
{
    static const char *const names[N_SETTINGS][2] = {
        {"reasoner", "reasoner"},       {"prompt", "prompt"},   {"seed", "seed"},
        {"temperature", "temperature"}, {"top_p", "top-p"},     {"max_tokens", "tokens of a turn"},
        {"grammar", "grammar"},         {"context", "context"}, {"recording", "recorded answers"}};
    const reasoner_basis *basis = reasoner_get_basis(reasoner);
    enum { SIZE = sizeof s->value };
    for (size_t i = 0; i < N_SETTINGS; i++)
        s[i] = (setting){.fact = names[i][0], .words = names[i][1]};
    snprintf(s[0].value, SIZE, "%s", drr_reasoner_id(reasoner));
    snprintf(s[1].value, SIZE, "%s", drr_prompts_id(prompts));
    snprintf(s[2].value, SIZE, "%llu", (unsigned long long)options->seed);
    print_float(s[3].value, SIZE, options->temperature);
    print_float(s[4].value, SIZE, options->top_p);
    snprintf(s[5].value, SIZE, "%u", options->max_tokens);
    snprintf(s[6].value, SIZE, "%s", options->grammar ? "on" : "off");
    if (basis->context)
        snprintf(s[7].value, SIZE, "%u", basis->context);
    snprintf(s[8].value, SIZE, "%.12s", basis->recording);
}

/* What a run must know of the traces that are there. */
typedef struct finding {
    const drr_distill_options *options;
    uint32_t context;
    bool any, other_seed, other_temperature, depends_on_context;
    float temperature;
} finding;

static bool look_at_first(void *user, const drr_trace *t)
{
    finding *f = user;
    f->any = true;
    f->other_seed = t->seed != task_turn_seed(f->options->seed, t->id, t->sample, t->turn);
    f->other_temperature = t->temperature < f->options->temperature || t->temperature > f->options->temperature;
    f->temperature = t->temperature;
    return false;
}

/* Was this text cut by the context that was, or would it be by the one that is? */
static bool look_at_length(void *user, const drr_trace *t)
{
    finding *f = user;
    const uint64_t used = (uint64_t)t->n_prompt_tokens + t->n_tokens;
    f->depends_on_context = (t->finish == DRR_FINISH_LENGTH && t->n_tokens < f->options->max_tokens) ||
                            used > f->context || (uint64_t)t->n_prompt_tokens + REASONER_LEAST_ROOM > f->context;
    return !f->depends_on_context;
}

static bool one_is_enough(void *user, const drr_trace *trace)
{
    (void)trace;
    ((finding *)user)->any = true;
    return false;
}

static drr_status look(finding *f, drr_store *store, drr_trace_fn each, int64_t limit, const char *reasoner,
                       const char *prompt, drr_error *err)
{
    drr_trace_filter filter;
    drr_trace_filter_defaults(&filter);
    filter.limit = limit;
    filter.reasoner = reasoner;
    filter.prompt = prompt;
    return drr_store_each(store, &filter, each, f, err);
}

/* An older drr wrote no facts, but each of its traces its seed and temperature. */
static drr_status check_first(drr_store *store, const setting *s, const drr_distill_options *options, drr_error *err)
{
    finding f = {.options = options};
    drr_status status = look(&f, store, look_at_first, 1, s[0].value, s[1].value, err);
    if (status != DRR_OK || !f.any || !(f.other_seed || f.other_temperature))
        return status;
    if (f.other_temperature)
        return error_set(err, DRR_E_MISMATCH,
                         "the store holds traces made with temperature %g and this run has %s; choose another --out, "
                         "go back to that temperature, or say --any-identity to mix them",
                         (double)f.temperature, s[3].value);
    return error_set(err, DRR_E_MISMATCH,
                     "the store holds traces made with another seed than this run's, %s; choose another --out, go back "
                     "to that seed, or say --any-identity to mix them",
                     s[2].value);
}

/* Writes down what the store does not know. Where it holds traces already, an older drr made them or they were
 * imported, and nobody can say how: they are taken for this run's, and the caller is told. */
static drr_status adopt(drr_store *store, const setting *s, bool has_traces, const drr_hooks *hooks, drr_error *err)
{
    buffer notice = {0};
    drr_status status = DRR_OK;
    for (size_t i = 0; i < N_SETTINGS && status == DRR_OK; i++) {
        if (!s[i].value[0] || (s[i].stored && strcmp(s[i].stored, s[i].value) == 0))
            continue;
        status = store_fact_set(store, s[i].fact, s[i].value, err);
        if (status == DRR_OK)
            status = buffer_printf(&notice, err, "%s%s %s", notice.size ? ", " : "", s[i].words, s[i].value);
    }
    if (status == DRR_OK && notice.size && has_traces)
        hooks_log(hooks, DRR_LOG_INFO,
                  "the store does not say how its traces were made; from now on they count as made with %s",
                  notice.data);
    buffer_clear(&notice);
    return status;
}

/* The setting that differs, NULL where none does. Another context makes no difference where every text is the same
 * under both: it is then written down as the store's. */
static drr_status compare(const setting **other, drr_store *store, setting s[N_SETTINGS],
                          const drr_distill_options *options, drr_error *err)
{
    drr_status status = DRR_OK;
    *other = NULL;
    for (size_t i = 0; i < N_SETTINGS && status == DRR_OK; i++) {
        status = store_fact_get(store, s[i].fact, &s[i].stored, err);
        if (status != DRR_OK || *other || !s[i].value[0] || !s[i].stored || strcmp(s[i].stored, s[i].value) == 0)
            continue;
        finding f = {.options = options, .context = (uint32_t)strtoul(s[i].value, NULL, 10)};
        f.depends_on_context = i != CONTEXT;
        if (i == CONTEXT)
            status = look(&f, store, look_at_length, -1, NULL, NULL, err);
        if (f.depends_on_context)
            *other = &s[i];
        else if (status == DRR_OK)
            status = store_fact_set(store, s[i].fact, s[i].value, err);
    }
    return status;
}

static drr_status check(drr_store *store, const drr_reasoner *reasoner, const drr_prompts *prompts,
                        const drr_distill_options *options, const drr_hooks *hooks, drr_error *err)
{
    setting s[N_SETTINGS];
    const setting *other = NULL;
    finding f = {.options = options};
    settings_of(s, reasoner, prompts, options);
    drr_status status = look(&f, store, one_is_enough, 1, NULL, NULL, err);
    if (status == DRR_OK)
        status = compare(&other, store, s, options, err);
    const bool mixes = options->any_identity && f.any; /* such a run changes nothing of what is written down */
    /* A run that was killed before its first trace binds nobody, but where many work on one plan, the plan does. */
    const bool binds = f.any || store_has_queue(store);
    if (status == DRR_OK && !other && f.any && !mixes && !s[SEED].stored)
        status = check_first(store, s, options, err);
    if (status == DRR_OK && (!other || !binds) && !mixes)
        status = adopt(store, s, f.any, hooks, err);
    else if (status == DRR_OK && other && !options->any_identity)
        status = error_set(err, DRR_E_MISMATCH,
                           "the store %s traces made with %s %s and this run has %s; choose another --out, go back to "
                           "%s %s, or say --any-identity to mix them",
                           f.any ? "holds" : "is planned for", other->words, other->stored, other->value, other->words,
                           other->stored);
    for (size_t i = 0; i < N_SETTINGS; i++)
        free(s[i].stored);
    return status;
}

drr_status distill_check_identity(drr_store *store, const drr_reasoner *reasoner, const drr_prompts *prompts,
                                  const drr_distill_options *options, const drr_hooks *hooks, drr_error *err)
{
    drr_status status = store_batch_begin(store, err);
    if (status != DRR_OK)
        return status;
    status = check(store, reasoner, prompts, options, hooks, err);
    if (status == DRR_OK)
        return store_batch_commit(store, err);
    store_batch_abandon(store);
    return status;
}

drr_status distill_read_settings(drr_store *store, drr_distill_options *options, drr_error *err)
{
    static const char *const names[] = {"seed", "temperature", "top_p", "max_tokens", "grammar"};
    char *value[5] = {NULL};
    drr_status status = DRR_OK;
    for (size_t i = 0; i < 5 && status == DRR_OK; i++)
        status = store_fact_get(store, names[i], &value[i], err);
    if (status == DRR_OK) {
        options->seed = value[0] ? strtoull(value[0], NULL, 10) : options->seed;
        options->temperature = value[1] ? strtof(value[1], NULL) : options->temperature;
        options->top_p = value[2] ? strtof(value[2], NULL) : options->top_p;
        options->max_tokens = value[3] ? (uint32_t)strtoul(value[3], NULL, 10) : options->max_tokens;
        options->grammar = value[4] ? strcmp(value[4], "on") == 0 : options->grammar;
    }
    for (size_t i = 0; i < 5; i++)
        free(value[i]);
    return status;
}

drr_status distill_check_questions(drr_store *store, const drr_dataset *dataset, size_t n, drr_error *err)
{
    drr_status status = DRR_OK;
    for (size_t i = 0; i < n && status == DRR_OK; i++) {
        const drr_task *task = drr_dataset_at(dataset, i);
        const char *what = NULL;
        status = store_question_changed(store, task, &what, err);
        if (status == DRR_OK && what) {
            char place[600];
            drr_dataset_place(place, sizeof place, dataset, i);
            status = error_set(err, DRR_E_MISMATCH,
                               "%s: question %s of %s is in the store with %s; give it another id, give back what it "
                               "had, or choose another --out",
                               place, task->id, task->task, what);
        }
    }
    return status;
}
