/* fit.c: epochs of AdamW over an encoder, with dev measured after each, checkpoints, and going on from one. Order,
 * dropout and learning rate are functions of (seed, step), so that the step number is all the state there is beside the
 * arrays: that is what makes a resumed run end bit by bit as an uninterrupted one. */
#include "core/statistics.h"
#include "train/ranks.h"

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
    gradient_sum *sum; /* over ranks */
    int32_t *ids;
    uint32_t *starts;
    uint8_t *labels;
    size_t budget;
    uint64_t steps_an_epoch, steps;
    double saved_s;           /* when the last checkpoint was written */
    bool cancelled, save_due; /* as of the last step */
    bool not_finite;          /* why it failed: the same settings would again */
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
    drr_status status = batch_plan_new(&r->plan, r->train->n, r->o->batch, r->budget, err);
    r->steps_an_epoch = status == DRR_OK ? batch_plan_steps(&r->plan) : 0;
    r->steps = r->steps_an_epoch * r->o->epochs;
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
    if (ranks_first(r->o->ranks) && r->o->resume && r->o->checkpoint && file_exists(r->o->checkpoint)) {
        status = checkpoint_read(r->o->checkpoint, &r->state, err);
        if (status == DRR_OK)
            hooks_log(r->hooks, DRR_LOG_INFO, "going on from %s at step %llu of %llu", r->o->checkpoint,
                      (unsigned long long)r->state.step, (unsigned long long)r->steps);
    }
    return status;
}

/* What knows the step that the run begins with. */
static drr_status run_begin(run *r, drr_status status, drr_error *err)
{
    status = ranks_begin(r->o->ranks, &r->state, status, err);
    if (status == DRR_OK)
        status =
            row_updates_new(&r->rows, r->e, r->state.moment1, r->state.moment2, r->o, r->steps, r->state.step, err);
    if (status == DRR_OK)
        status = gradient_sum_new(&r->sum, r->o->ranks, r->e, r->gradients, err);
    return ranks_agree(r->o->ranks, status, err);
}

static void run_close(run *r)
{
    encoder_tape_free(r->tape);
    batch_plan_clear(&r->plan);
    row_updates_free(r->rows);
    gradient_sum_free(r->sum);
    if (!ranks_lost(r->o->ranks)) /* else a sum may still be writing there */
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

static bool run_save_due(const run *r)
{
    const double every = r->o->checkpoint_every_s > 0 ? r->o->checkpoint_every_s : 600;
    return clock_seconds() - r->saved_s > every;
}

/* Brings up to date what the step reads of the vocabulary, on all ranks; returns the step's tokens. */
static uint64_t run_see(run *r, size_t begin, size_t end)
{
    uint64_t tokens = 0;
    for (size_t at = begin; at < end; at++) {
        const size_t i = r->plan.order[at], length = r->train->starts[i + 1] - r->train->starts[i];
        row_updates_see(r->rows, r->train->ids + r->train->starts[i], length);
        tokens += length;
    }
    return tokens;
}

/* One update from one batch, computed in parts. */
static drr_status run_step(run *r, drr_error *err)
{
    const uint64_t in_epoch = r->state.step % r->steps_an_epoch;
    const size_t begin = (size_t)in_epoch * r->o->batch;
    const size_t end = begin + r->o->batch < r->train->n ? begin + r->o->batch : r->train->n;
    double loss = 0;
    drr_status status = DRR_OK;
    step_pieces pieces = step_pieces_of(&r->plan, r->train, begin, end, r->o->ranks);
    step_piece p;
    encoder_tape_pack(r->tape, r->e);
    const uint64_t tokens = run_see(r, begin, end);
    while (status == DRR_OK && step_pieces_next(&pieces, &p)) {
        const encoder_dropout d = {.rate = (float)r->o->dropout,
                                   .seed = r->o->seed,
                                   .step = (r->state.step << 20) + p.part,
                                   .shape = &r->e->shape,
                                   .first_sequence = p.first_sequence,
                                   .first_token = p.first_token};
        const size_t n = batch_pack(&r->plan, r->train, p.begin, p.end, r->ids, r->starts, r->labels);
        batch_loss_take(&r->loss, &r->plan, r->train, p.begin, n, r->starts, r->labels, r->class_weight,
                        (double)(end - begin));
        encoder_tape_read(r->tape, r->loss.rows, r->loss.row_starts);
        encoder_tape_tell(r->tape, r->sum && p.last ? gradient_sum_ready : NULL, r->sum);
        status = encoder_backward_by(r->e, r->tape, r->ids, r->starts, n, batch_loss_of, &r->loss, &d, r->gradients,
                                     r->logits, &loss, err);
    }
    step_vote vote = {.loss = loss, .cancelled = r->sum && hooks_cancelled(r->hooks), .save_due = run_save_due(r)};
    status = gradient_sum_finish(r->sum, r->rows, &vote, status, err);
    if (status != DRR_OK)
        return status;
    const double norm = isfinite(vote.loss) ? row_updates_step(r->rows, r->gradients) : (double)NAN;
    r->not_finite = !isfinite(norm);
    if (r->not_finite)
        return finite_explain(r->e, r->gradients, vote.loss, r->state.step + 1, r->steps, r->o->learning_rate, err);
    if (in_epoch == 0)
        r->state.epoch_loss = 0;
    r->state.epoch_loss += (vote.loss - r->state.epoch_loss) / (double)(in_epoch + 1);
    r->state.tokens += tokens;
    r->state.step++;
    r->cancelled = vote.cancelled;
    r->save_due = vote.save_due;
    return DRR_OK;
}

/* Dev's loss and AUROC, and whether this epoch's parameters are the best so far. */
static drr_status run_evaluate(run *r, drr_error *err)
{
    const size_t n = r->dev->n;
    row_updates_finish(r->rows);
    double *scores = calloc(n, sizeof *scores), loss = 0;
    drr_status status = ranks_copy_state(r->o->ranks, &r->state, err);
    if (status == DRR_OK)
        status = ranks_logits(r->o->ranks, r->e, r->dev, r->budget, scores ? r->dev_logits : NULL, r->hooks, err);
    if (status != DRR_OK) {
        free(scores);
        return status;
    }
    for (size_t i = 0; i < n; i++) {
        scores[i] = (double)r->dev_logits[i];
        const double x = r->dev->labels[i] ? -scores[i] : scores[i];
        loss += (fmax(x, 0) + log1p(exp(-fabs(x)))) / (double)n;
    }
    double auroc = statistics_auroc(scores, r->dev->labels, n);
    free(scores);
    double figures[] = {loss, auroc}; /* one machine's, lest two decide differently by a last bit */
    status = ranks_copy(r->o->ranks, figures, sizeof figures, err);
    if (status != DRR_OK)
        return status;
    loss = figures[0];
    auroc = figures[1];
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
    drr_status status = DRR_OK;
    row_updates_finish(r->rows);
    if (r->o->checkpoint && ranks_first(r->o->ranks)) {
        status = checkpoint_finite(&r->state, r->e, err);
        if (status == DRR_OK)
            status = checkpoint_write(r->o->checkpoint, &r->state, err);
    }
    r->saved_s = clock_seconds();
    return ranks_agree(r->o->ranks, status, err);
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

/* A step or an evaluation failed. What was before it is whole, and is kept. */
static drr_status run_failed(run *r, drr_status status, drr_error *err)
{
    drr_error saving = {0};
    const bool kept = run_save(r, &saving) == DRR_OK;
    if (!r->o->checkpoint || !err || !*err->message)
        return status;
    const size_t length = strlen(err->message);
    if (kept)
        snprintf(err->message + length, sizeof err->message - length, "; the state before that is in %s%s",
                 r->o->checkpoint,
                 r->not_finite ? ", but --resume with the same settings comes to the same step: begin anew with others"
                               : ", from which --resume goes on");
    else
        snprintf(err->message + length, sizeof err->message - length,
                 "; the state before that could not be kept (%.300s), and %s is as it was", saving.message,
                 r->o->checkpoint);
    return status;
}

static drr_status run_epochs(run *r, drr_error *err)
{
    progress_meter meter;
    drr_status status = DRR_OK;
    bool shuffled = false;
    char note[96] = "";
    r->saved_s = clock_seconds();
    progress_begin(&meter, r->hooks, "train", "steps", r->state.step, r->steps);
    for (;;) {
        const uint64_t step = r->state.step;
        const bool whole = step > 0 && step % r->steps_an_epoch == 0;
        if (whole && r->dev->n && r->state.evaluated < step / r->steps_an_epoch) {
            status = run_evaluate(r, err);
            if (status == DRR_E_INTERRUPTED)
                return run_interrupted(r, err);
            if (status != DRR_OK)
                return run_failed(r, status, err);
            if (step < r->steps)
                status = run_save(r, err);
        }
        const bool stale = r->o->patience && r->state.stale_epochs >= r->o->patience;
        if (status != DRR_OK || step >= r->steps || stale)
            break;
        if (r->o->ranks ? r->cancelled : hooks_cancelled(r->hooks)) /* all ranks stop at the same step */
            return run_interrupted(r, err);
        if (!shuffled || step % r->steps_an_epoch == 0)
            batch_plan_shuffle(&r->plan, r->o->seed, step / r->steps_an_epoch);
        shuffled = true;
        const double began = clock_seconds();
        status = run_step(r, err);
        if (status != DRR_OK)
            return run_failed(r, status, err);
        r->state.seconds += clock_seconds() - began;
        snprintf(note, sizeof note, "epoch %llu/%u, loss %.4f, %.0f tokens/s",
                 (unsigned long long)(step / r->steps_an_epoch + 1), r->o->epochs, r->state.epoch_loss,
                 (double)r->state.tokens / fmax(r->state.seconds, 1e-9));
        progress_update(&meter, r->state.step, note);
        if (r->save_due)
            status = run_save(r, err);
    }
    progress_end(&meter, r->state.step, note);
    return status;
}

drr_status fit_check_options(const fit_options *o, drr_error *err)
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
    return DRR_OK;
}

static drr_status check(const fit_options *o, const examples *train, drr_error *err)
{
    drr_status status = fit_check_options(o, err);
    if (status != DRR_OK)
        return status;
    if (o->ranks && (o->rank_weight > 0 || train->lessons.n_reads))
        return error_set(err, DRR_E_ARGUMENT,
                         "a ranking term and a head of tokens are trained in one process: leave out mpirun, or "
                         "--rank-weight, --head token and --steps");
    if (train->n == 0)
        return error_set(err, DRR_E_EMPTY, "there is no text to train on");
    return DRR_OK;
}

drr_status encoder_fit(encoder *e, const examples *train, const examples *dev, const fit_options *options,
                       fit_result *result, const drr_hooks *hooks, drr_error *err)
{
    drr_status status = check(options, train, err);
    if (status != DRR_OK)
        return status;
    run r = {.e = e,
             .train = train,
             .dev = dev,
             .o = options,
             .hooks = hooks,
             .budget = options->budget ? options->budget : DEFAULT_BUDGET};
    status = run_begin(&r, run_open(&r, err), err);
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
