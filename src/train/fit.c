/* fit.c: epochs of AdamW over an encoder, with dev measured after each, checkpoints, and going on from one. Order,
 * dropout and learning rate are functions of (seed, step), so that the step number is all the state there is beside the
 * arrays: that is what makes a resumed run end bit by bit as an uninterrupted one. */
#include "core/statistics.h"
#include "train/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_BUDGET = 4096 };

double learning_rate_at(const fit_options *o, uint64_t step, uint64_t steps)
{
    const double warm = floor(o->warmup_share * (double)steps);
    if ((double)step < warm)
        return o->learning_rate * (double)(step + 1) / warm;
    return o->learning_rate * (double)(steps - step) / fmax(1, (double)steps - warm);
}

drr_status examples_logits(const encoder *e, const examples *x, size_t budget, float *logits, const drr_hooks *hooks,
                           drr_error *err)
{
    const size_t longest = examples_longest(x), most = budget > longest ? budget : longest;
    encoder_workspace *w = NULL;
    batch_plan plan = {0};
    drr_status status = DRR_OK;
    int32_t *ids = calloc(most ? most : 1, sizeof *ids);
    uint32_t *starts = calloc(most + 2, sizeof *starts);
    uint8_t *labels = calloc(most + 1, 1);
    if (!ids || !starts || !labels) {
        status = error_memory(err);
        goto done;
    }
    if (x->n == 0)
        goto done;
    status = batch_plan_new(&plan, x->n, x->n, most, err);
    if (status == DRR_OK)
        status = encoder_workspace_plan(&w, e, most, most, longest, false, err);
    for (size_t at = 0; status == DRR_OK && at < x->n;) {
        if (hooks_cancelled(hooks)) {
            status = error_set(err, DRR_E_INTERRUPTED, "interrupted while scoring");
            break;
        }
        const size_t n = batch_pack(&plan, x, at, x->n, ids, starts, labels);
        status = encoder_logits(e, w, ids, starts, n, logits + at, err);
        at += n;
    }
done:
    free(ids);
    free(starts);
    free(labels);
    batch_plan_clear(&plan);
    encoder_workspace_free(w);
    return status;
}

typedef struct run { /* everything one call of encoder_fit owns */
    encoder *e;
    const examples *train, *dev;
    const fit_options *o;
    const drr_hooks *hooks;
    checkpoint state;
    batch_plan plan;
    encoder_tape *tape;
    float *gradients, *moments, *best, *dev_logits, *logits;
    batch_loss loss;
    float class_weight[2];
    row_updates *rows;
    int32_t *ids;
    uint32_t *starts;
    uint8_t *labels;
    size_t budget;
    uint64_t steps_an_epoch, steps;
} run;

static uint64_t run_identity(const run *r)
{
    const fit_options *o = r->o;
    const double numbers[] = {o->learning_rate,  o->weight_decay,
                              o->warmup_share,   o->clip_norm,
                              o->dropout,        o->epochs,
                              o->batch,          o->class_weights ? 1 : 0,
                              (double)r->budget, o->keep_last ? -1.0 : o->patience,
                              r->e->bf16 ? 1 : 0};
    uint64_t h = hash_bytes(o->seed, numbers, sizeof numbers);
    const examples *both[] = {r->train, r->dev};
    for (int i = 0; i < 2; i++) {
        h = hash_bytes(h, both[i]->ids, both[i]->n_ids * sizeof *both[i]->ids);
        h = hash_bytes(h, both[i]->labels, both[i]->n);
    }
    const lessons *l = &r->train->lessons; /* of the plain loss, what it was before there were others */
    if (o->rank_weight > 0 || r->loss.rows) {
        const double terms[] = {o->rank_weight, r->e->head == DRR_HEAD_TOKEN};
        h = hash_bytes(h, terms, sizeof terms);
        h = hash_bytes(h, l->questions, l->n * sizeof *l->questions);
        h = hash_bytes(h, l->places, l->n_reads * sizeof *l->places);
        h = hash_bytes(h, l->targets, l->n_reads * sizeof *l->targets);
    }
    return hash_bytes(h, r->e->parameters, r->e->n_parameters * sizeof(float));
}

static drr_status run_open(run *r, drr_error *err)
{
    const size_t n = r->e->n_parameters, longest = examples_longest(r->train);
    const size_t most = r->budget > longest ? r->budget : longest;
    const size_t in_part = r->o->batch < most ? r->o->batch : most; /* sequences in one */
    r->steps_an_epoch = (r->train->n + r->o->batch - 1) / r->o->batch;
    r->steps = r->steps_an_epoch * r->o->epochs;
    drr_status status = batch_plan_new(&r->plan, r->train->n, r->o->batch, r->budget, err);
    if (status == DRR_OK && r->o->rank_weight > 0)
        status = batch_plan_group(&r->plan, r->train, err);
    if (status == DRR_OK)
        status = batch_loss_new(&r->loss, r->e, r->train, most, in_part, r->o->rank_weight, err);
    if (status == DRR_OK)
        status = encoder_tape_new(&r->tape, r->e, most, in_part, longest, err);
    if (status != DRR_OK)
        return status;
    r->gradients = calloc(n, sizeof(float));
    r->moments = calloc(2 * n, sizeof(float));
    r->best = malloc(n * sizeof(float));
    r->dev_logits = calloc(r->dev->n + 1, sizeof(float));
    r->logits = calloc(r->loss.rows ? most : in_part, sizeof(float));
    r->ids = calloc(most, sizeof *r->ids);
    r->starts = calloc(in_part + 1, sizeof *r->starts);
    r->labels = calloc(in_part, 1);
    if (!r->gradients || !r->moments || !r->best || !r->dev_logits || !r->logits || !r->ids || !r->starts || !r->labels)
        return error_memory(err);
    size_t right = 0;
    for (size_t i = 0; i < r->train->n; i++)
        right += r->train->labels[i];
    const double half = 0.5 * (double)r->train->n; /* each class weighs half of the whole */
    const bool both = right > 0 && right < r->train->n && r->o->class_weights;
    r->class_weight[1] = both ? (float)(half / (double)right) : 1;
    r->class_weight[0] = both ? (float)(half / (double)(r->train->n - right)) : 1;
    r->state = (checkpoint){.best_loss = NAN,
                            .best_auroc = NAN,
                            .parameters = r->e->parameters,
                            .moment1 = r->moments,
                            .moment2 = r->moments + n,
                            .best = r->best,
                            .n = n};
    r->state.identity = run_identity(r);
    if (r->o->resume && r->o->checkpoint && file_exists(r->o->checkpoint)) {
        status = checkpoint_read(r->o->checkpoint, &r->state, err);
        if (status == DRR_OK)
            hooks_log(r->hooks, DRR_LOG_INFO, "going on from %s at step %llu of %llu", r->o->checkpoint,
                      (unsigned long long)r->state.step, (unsigned long long)r->steps);
    }
    if (status == DRR_OK)
        status = row_updates_new(&r->rows, r->e, r->moments, r->moments + n, r->o, r->steps, r->state.step, err);
    return status;
}

static void run_close(run *r)
{
    encoder_tape_free(r->tape);
    batch_plan_clear(&r->plan);
    row_updates_free(r->rows);
    free(r->gradients);
    free(r->moments);
    free(r->best);
    free(r->dev_logits);
    free(r->logits);
    batch_loss_clear(&r->loss);
    free(r->ids);
    free(r->starts);
    free(r->labels);
}

/* One update from one batch, computed in parts. */
static drr_status run_step(run *r, drr_error *err)
{
    const uint64_t in_epoch = r->state.step % r->steps_an_epoch;
    const size_t begin = (size_t)in_epoch * r->o->batch;
    const size_t end = begin + r->o->batch < r->train->n ? begin + r->o->batch : r->train->n;
    double loss = 0;
    uint64_t part = 0;
    if (in_epoch == 0)
        r->state.epoch_loss = 0;
    encoder_tape_pack(r->tape, r->e);
    for (size_t at = begin; at < end; part++) {
        const encoder_dropout d = {
            .rate = (float)r->o->dropout, .seed = r->o->seed, .step = (r->state.step << 20) + part};
        const size_t n = batch_pack(&r->plan, r->train, at, end, r->ids, r->starts, r->labels);
        batch_loss_take(&r->loss, &r->plan, r->train, at, n, r->starts, r->labels, r->class_weight,
                        (double)(end - begin));
        encoder_tape_read(r->tape, r->loss.rows, r->loss.row_starts);
        row_updates_see(r->rows, r->ids, r->starts[n]);
        drr_status status = encoder_backward_by(r->e, r->tape, r->ids, r->starts, n, batch_loss_of, &r->loss, &d,
                                                r->gradients, r->logits, &loss, err);
        if (status != DRR_OK)
            return status;
        r->state.tokens += r->starts[n];
        at += n;
    }
    const double norm = row_updates_step(r->rows, r->gradients);
    if (!isfinite(loss) || !isfinite(norm))
        return error_set(err, DRR_E_BACKEND,
                         "the loss is not a number any more at step %llu: try a lower learning rate than %g",
                         (unsigned long long)r->state.step, r->o->learning_rate);
    r->state.epoch_loss += (loss - r->state.epoch_loss) / (double)(in_epoch + 1);
    r->state.step++;
    return DRR_OK;
}

/* Dev's loss and AUROC, and whether this epoch's parameters are the best so far. */
static drr_status run_evaluate(run *r, drr_error *err)
{
    const size_t n = r->dev->n;
    row_updates_finish(r->rows);
    drr_status status = examples_logits(r->e, r->dev, r->budget, r->dev_logits, r->hooks, err);
    if (status != DRR_OK)
        return status;
    double *scores = calloc(n, sizeof *scores);
    if (!scores)
        return error_memory(err);
    double loss = 0;
    for (size_t i = 0; i < n; i++) {
        scores[i] = (double)r->dev_logits[i];
        const double x = r->dev->labels[i] ? -scores[i] : scores[i];
        loss += (fmax(x, 0) + log1p(exp(-fabs(x)))) / (double)n;
    }
    const double auroc = statistics_auroc(scores, r->dev->labels, n);
    free(scores);
    r->state.evaluated++;
    const bool known = !isnan(auroc) && !isnan(r->state.best_auroc);
    const bool better = r->o->keep_last || r->state.best_epoch == 0 || (known && auroc > r->state.best_auroc) ||
                        ((!known || auroc >= r->state.best_auroc) && loss < r->state.best_loss);
    if (better) {
        r->state.best_loss = loss;
        r->state.best_auroc = auroc;
        r->state.best_epoch = r->state.evaluated;
        r->state.stale_epochs = 0;
        memcpy(r->best, r->e->parameters, r->e->n_parameters * sizeof(float));
    } else {
        r->state.stale_epochs++;
    }
    hooks_log(r->hooks, DRR_LOG_INFO, "epoch %u of %u: train loss %.4f, dev loss %.4f, dev AUROC %.4f%s",
              r->state.evaluated, r->o->epochs, r->state.epoch_loss, loss, auroc,
              better && !r->o->keep_last ? " (best)" : "");
    return DRR_OK;
}

static drr_status run_save(run *r, drr_error *err)
{
    row_updates_finish(r->rows);
    return r->o->checkpoint ? checkpoint_write(r->o->checkpoint, &r->state, err) : DRR_OK;
}

static drr_status run_interrupted(run *r, drr_error *err)
{
    drr_status status = run_save(r, err);
    if (status != DRR_OK)
        return status;
    return error_set(err, DRR_E_INTERRUPTED, "training stopped at step %llu of %llu; %s%s",
                     (unsigned long long)r->state.step, (unsigned long long)r->steps,
                     r->o->checkpoint ? "go on with --resume from " : "nothing was kept, no checkpoint was asked for",
                     r->o->checkpoint ? r->o->checkpoint : "");
}

static drr_status run_epochs(run *r, drr_error *err)
{
    progress_meter meter;
    drr_status status = DRR_OK;
    const double every = r->o->checkpoint_every_s > 0 ? r->o->checkpoint_every_s : 600;
    double saved = clock_seconds();
    bool shuffled = false;
    char note[96] = "";
    progress_begin(&meter, r->hooks, "train", "steps", r->state.step, r->steps);
    for (;;) {
        const uint64_t step = r->state.step;
        const bool whole = step > 0 && step % r->steps_an_epoch == 0;
        if (whole && r->dev->n && r->state.evaluated < step / r->steps_an_epoch) {
            status = run_evaluate(r, err);
            if (status == DRR_E_INTERRUPTED)
                return run_interrupted(r, err);
            if (status == DRR_OK && step < r->steps)
                status = run_save(r, err);
            saved = clock_seconds();
        }
        const bool stale = r->o->patience && r->state.stale_epochs >= r->o->patience;
        if (status != DRR_OK || step >= r->steps || stale)
            break;
        if (hooks_cancelled(r->hooks))
            return run_interrupted(r, err);
        if (!shuffled || step % r->steps_an_epoch == 0)
            batch_plan_shuffle(&r->plan, r->o->seed, step / r->steps_an_epoch);
        shuffled = true;
        const double began = clock_seconds();
        status = run_step(r, err);
        if (status != DRR_OK)
            break;
        const double now = clock_seconds();
        r->state.seconds += now - began;
        snprintf(note, sizeof note, "epoch %llu/%u, loss %.4f, %.0f tokens/s",
                 (unsigned long long)(step / r->steps_an_epoch + 1), r->o->epochs, r->state.epoch_loss,
                 (double)r->state.tokens / fmax(r->state.seconds, 1e-9));
        progress_update(&meter, r->state.step, note);
        if (now - saved > every) {
            status = run_save(r, err);
            saved = clock_seconds();
        }
    }
    progress_end(&meter, r->state.step, note);
    return status;
}

static drr_status check_options(const fit_options *o, const examples *train, drr_error *err)
{
    if (!o->epochs || !o->batch || o->batch > (1u << 20))
        return error_set(err, DRR_E_ARGUMENT, "%u epochs with %u traces a step cannot be: give at least 1 of each",
                         o->epochs, o->batch);
    if (!(o->learning_rate > 0) || !(o->dropout >= 0 && o->dropout < 1) || !(o->weight_decay >= 0) ||
        !(o->warmup_share >= 0 && o->warmup_share <= 1))
        return error_set(err, DRR_E_ARGUMENT,
                         "learning rate %g, dropout %g, weight decay %g, warm-up share %g: the rate must be above 0, "
                         "dropout in [0, 1), the others not negative",
                         o->learning_rate, o->dropout, o->weight_decay, o->warmup_share);
    if (!(o->rank_weight >= 0 && isfinite(o->rank_weight)))
        return error_set(err, DRR_E_ARGUMENT,
                         "a ranking term cannot weigh %g: 0 leaves it out, 1 makes it count as much "
                         "as cross-entropy",
                         o->rank_weight);
    if (train->n == 0)
        return error_set(err, DRR_E_EMPTY, "there is no text to train on");
    return DRR_OK;
}

drr_status encoder_fit(encoder *e, const examples *train, const examples *dev, const fit_options *options,
                       fit_result *result, const drr_hooks *hooks, drr_error *err)
{
    drr_status status = check_options(options, train, err);
    if (status != DRR_OK)
        return status;
    run r = {.e = e,
             .train = train,
             .dev = dev,
             .o = options,
             .hooks = hooks,
             .budget = options->budget ? options->budget : DEFAULT_BUDGET};
    status = run_open(&r, err);
    if (status == DRR_OK)
        status = run_epochs(&r, err);
    if (status == DRR_OK) {
        row_updates_finish(r.rows);
        if (r.state.best_epoch)
            memcpy(e->parameters, r.best, e->n_parameters * sizeof(float));
        *result = (fit_result){.best_loss = r.state.best_loss,
                               .best_auroc = r.state.best_auroc,
                               .best_epoch = r.state.best_epoch ? r.state.best_epoch : options->epochs,
                               .last_train_loss = r.state.epoch_loss,
                               .tokens_per_second = (double)r.state.tokens / fmax(r.state.seconds, 1e-9),
                               .seconds = r.state.seconds,
                               .steps = r.state.step};
    }
    run_close(&r);
    return status;
}
