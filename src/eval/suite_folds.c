/* suite_folds.c: critics that a suite makes itself, one for each fold of the questions of its traces: a fold's is
 * trained on the other folds' answers, its threshold frozen on dev questions of these, and it judges the fold's own
 * questions alone. They are kept in the study's folder under a hash of all that decides them, so that a study that was
 * stopped trains what is missing, and one of other settings never takes them for its own. Dividing and training are the
 * public header's drr_train_divide and drr_train_fold: src/eval does not see src/train. */
#include "eval/suite_internal.h"
#include "task/task.h"

#include <stdlib.h>
#include <string.h>

/* ---- where a question belongs: by its text as critics read it, which is how traces are divided */

static int place_compare(const void *a, const void *b)
{
    const uint64_t x = ((const fold_place *)a)->question, y = ((const fold_place *)b)->question;
    return (x > y) - (x < y);
}

static void take_place(void *user, const char *question, uint32_t fold)
{
    suite_folds *f = user;
    if (f->n_places == f->capacity) {
        const size_t capacity = f->capacity ? 2 * f->capacity : 1024;
        fold_place *more = realloc(f->places, capacity * sizeof *more);
        if (!more) {
            f->lost = true;
            return;
        }
        f->places = more;
        f->capacity = capacity;
    }
    f->places[f->n_places++] = (fold_place){hash_string(0, question), fold};
}

/* 0: there is no trace of it. */
static drr_status find_place(const suite_folds *f, uint32_t *fold, uint64_t *hash, const drr_task *task, drr_error *err)
{
    char *question = NULL;
    drr_status status = task_question_text(&question, task, err);
    if (status != DRR_OK)
        return status;
    *hash = hash_string(0, question);
    free(question);
    const fold_place wanted = {*hash, 0};
    const fold_place *found = bsearch(&wanted, f->places, f->n_places, sizeof wanted, place_compare);
    *fold = found ? found->fold : 0;
    return DRR_OK;
}

static drr_status fold_of(void *user, uint32_t *fold, const drr_task *task, drr_error *err)
{
    const suite_folds *f = user;
    uint64_t hash;
    drr_status status = find_place(f, fold, &hash, task, err);
    if (status == DRR_OK && *fold == 0) /* no critic saw it: any may judge it */
        *fold = (uint32_t)(hash % f->as.n) + 1;
    return status;
}

drr_status suite_folds_check(const suite_folds *f, const drr_dataset *data, uint64_t limit, const drr_hooks *hooks,
                             drr_error *err)
{
    const size_t all = drr_dataset_count(data), n = limit && limit < all ? (size_t)limit : all;
    size_t unknown = 0, first = 0;
    drr_status status = DRR_OK;
    for (size_t i = 0; i < n && status == DRR_OK; i++) {
        uint32_t fold = 0;
        uint64_t hash;
        status = find_place(f, &fold, &hash, drr_dataset_at(data, i), err);
        if (status == DRR_OK && fold == 0 && unknown++ == 0)
            first = i;
    }
    if (status != DRR_OK || unknown == 0)
        return status;
    if (unknown == n)
        return error_set(
            err, DRR_E_MISMATCH,
            "%s holds no trace of any of the %zu questions of %s, which it is to be divided by: give traces "
            "of this data set, with its questions worded alike",
            f->critic->train.traces, n, drr_dataset_name(data));
    hooks_log(hooks, DRR_LOG_WARN,
              "%zu of %zu questions of %s (%s the first) have no trace in %s: no fold's critic saw them, and each is "
              "judged by one that its text picks",
              unknown, n, drr_dataset_name(data), drr_dataset_at(data, first)->id, f->critic->train.traces);
    return DRR_OK;
}

/* ---- what the critics are, as a hash */

/* identity: of the encoder and of the traces as they were divided. The file's own bytes would not do: what a writer has
 * put beside a store
 * (-wal) is read with it, and a database is no file. */
static drr_status sign(suite_folds *f, uint64_t identity, drr_error *err)
{
    const drr_train_options *o = &f->critic->train;
    buffer b = {0};
    sha256 h;
    drr_status status = buffer_printf(&b, err, "traces %016llx\n", (unsigned long long)identity);
    if (status == DRR_OK)
        status = suite_sign_file(&b, "encoder", o->encoder, err);
    if (status == DRR_OK)
        status = buffer_printf(&b, err,
                               "drr %s folds %u reasoner %s task %s kind %d head %d steps %d alone %d fresh %d epochs "
                               "%u batch %u length %u "
                               "patience %u last %d rate %.17g decay %.17g warmup %.17g clip %.17g dropout %.17g rank "
                               "%.17g weights %d dev "
                               "%.17g questions %zu precision %d seed %llu\n",
                               DRR_VERSION, f->critic->folds, o->reasoner ? o->reasoner : "", o->task ? o->task : "",
                               (int)o->kind, (int)o->head, o->steps, o->text_alone, o->first_turns_only, o->epochs,
                               o->batch, o->max_length, o->patience, o->keep_last, o->learning_rate, o->weight_decay,
                               o->warmup_share, o->clip_norm, o->dropout, o->rank_weight, o->class_weights,
                               o->dev_share, o->max_questions, (int)o->precision, (unsigned long long)o->seed);
    if (status == DRR_OK && o->beginnings)
        status = buffer_printf(&b, err, "beginnings %u\n", o->beginnings);
    if (status == DRR_OK) {
        sha256_begin(&h);
        sha256_add(&h, b.data, b.size);
        sha256_end(&h, f->signature);
    }
    buffer_clear(&b);
    return status;
}

drr_status suite_folds_divide(suite_folds *f, const suite_critic *critic, const char *out, const drr_hooks *hooks,
                              drr_error *err)
{
    drr_train_options o = critic->train;
    buffer folder = {0};
    uint64_t identity;
    *f = (suite_folds){.critic = critic};
    o.out = out; /* nothing is written yet */
    drr_status status = drr_train_divide(take_place, f, &identity, &o, critic->folds, hooks, err);
    if (status == DRR_OK && f->lost)
        status = error_memory(err);
    if (status == DRR_OK)
        status = sign(f, identity, err);
    if (status == DRR_OK)
        status = buffer_printf(&folder, err, "%s/critics/%s.%.12s", out, critic->name, f->signature);
    if (status != DRR_OK)
        return status;
    f->folder = buffer_take(&folder);
    qsort(f->places, f->n_places, sizeof *f->places, place_compare);
    f->as = (fold_critics){.name = critic->name,
                           .n = critic->folds,
                           .critics = f->critics,
                           .questions = critic->with_question_critic ? f->questions : NULL,
                           .fold_of = fold_of,
                           .user = f};
    return DRR_OK;
}

/* ---- the critics */

/* One that is there was written whole; of one that was cut off there is a checkpoint, of these very settings. */
static drr_status make_one(drr_critic **critic, const suite_folds *f, uint32_t fold, bool question_only,
                           const drr_hooks *hooks, drr_error *err)
{
    drr_train_options o = f->critic->train;
    drr_train_result result;
    char path[4096], checkpoint[4200];
    const char *what = question_only ? "question" : "fold";
    snprintf(path, sizeof path, "%s/%s-%u.gguf", f->folder, what, fold);
    snprintf(checkpoint, sizeof checkpoint, "%s.checkpoint", path);
    if (file_exists(path))
        return drr_critic_open(critic, path, err);
    o.out = path;
    o.resume = file_exists(checkpoint);
    if (question_only) { /* what such a critic has none of */
        o.question_only = true;
        o.kind = DRR_CRITIC_ENCODER;
        o.head = DRR_HEAD_CLS;
        o.steps = false;
        o.rank_weight = 0;
        o.beginnings = 0;
    }
    hooks_log(hooks, DRR_LOG_INFO, "critic %s, %s %u of %u: %s", f->critic->name, what, fold, f->critic->folds,
              o.resume ? "training goes on" : "training");
    drr_status status = drr_train_fold(&result, &o, fold, f->critic->folds, hooks, err);
    if (status == DRR_OK)
        hooks_log(hooks, DRR_LOG_INFO, "critic %s, %s %u of %u: AUROC on the left-out questions %.3f; threshold %.3f",
                  f->critic->name, what, fold, f->critic->folds, result.auroc_stack, result.threshold);
    return status == DRR_OK ? drr_critic_open(critic, path, err) : status;
}

drr_status suite_folds_open(suite_folds *f, const drr_hooks *hooks, drr_error *err)
{
    drr_status status = folder_make(f->folder, err);
    for (uint32_t k = 0; k < f->as.n && status == DRR_OK; k++) {
        status = make_one(&f->critics[k], f, k + 1, false, hooks, err);
        if (status == DRR_OK && f->as.questions)
            status = make_one(&f->questions[k], f, k + 1, true, hooks, err);
    }
    return status;
}

void suite_folds_layers(char layers[64], const suite_folds *f)
{
    layers[0] = '\0';
    for (uint32_t k = 0; k < f->as.n; k++) {
        drr_critic_info info;
        drr_critic_describe(f->critics[k], &info);
        const size_t n = strlen(info.probe_layer);
        bool listed = n == 0;
        for (const char *at = layers; *at && !listed; at += strcspn(at, ",") + (at[strcspn(at, ",")] == ','))
            listed = strcspn(at, ",") == n && memcmp(at, info.probe_layer, n) == 0;
        if (!listed)
            snprintf(layers + strlen(layers), 64 - strlen(layers), "%s%s", *layers ? "," : "", info.probe_layer);
    }
}

void suite_folds_close(suite_folds *f)
{
    for (size_t k = 0; k < MOST_FOLDS; k++) {
        drr_critic_close(f->critics[k]);
        drr_critic_close(f->questions[k]);
        f->critics[k] = f->questions[k] = NULL;
    }
}

void suite_folds_clear(suite_folds *f)
{
    suite_folds_close(f);
    free(f->places);
    free(f->folder);
    *f = (suite_folds){0};
}
