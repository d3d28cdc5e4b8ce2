/* train.c: drr_train: from recorded traces to a critic file. Reads and splits (corpus.c), tokenises, fits the encoder
 * (fit.c) and the probe (probe_fit.c), as the critic's kind wants them, calibrates (judge.c), measures (held_out.c),
 * looks for a threshold that keeps a promise (promise.c), and writes the file and its card (card.c). An unparsed trace
 * is trained on as one to reject: the critic will meet such texts. A trace without any text is not trained on, but the
 * stack still learns from it. */
#include "core/risk.h"
#include "train/train_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void count_labels(const corpus *c, corpus_part part, uint64_t *n, uint64_t *right)
{
    *n = *right = 0;
    for (size_t i = 0; i < c->n; i++)
        if (c->rows[i].part == part) {
            ++*n;
            *right += c->rows[i].trace.label == DRR_LABEL_ACCEPT;
        }
}

/* Before hours of training: could these questions promise what is asked for, if all of it went well? */
static drr_status check_guarantee(drr_train_result *result, const corpus *c, const drr_train_options *o, drr_error *err)
{
    uint64_t right;
    result->n_guarantee_questions = corpus_questions(c, CORPUS_GUARANTEE);
    count_labels(c, CORPUS_GUARANTEE, &result->n_guarantee, &right);
    const uint64_t n = result->n_guarantee_questions, fewest = risk_needed(o->risk_test, 0, o->target_error, o->delta);
    const double wrong = result->n_guarantee ? 1 - (double)right / (double)result->n_guarantee : 1;
    const uint64_t as_seen = risk_needed(o->risk_test, wrong, o->target_error, o->delta);
    char seen[120];
    if (as_seen)
        snprintf(seen, sizeof seen, "if all were accepted, %llu would do", (unsigned long long)as_seen);
    else
        snprintf(seen, sizeof seen, "no number would do if all were accepted");
    if (fewest == 0 || n < fewest)
        return error_set(err, DRR_E_EMPTY,
                         "%llu questions are too few to promise an error of at most %g with delta %g: even with every "
                         "answer accepted and right it takes %s%llu, and at the observed error of %.1f %% %s; give "
                         "traces of more questions, or a larger guarantee share",
                         (unsigned long long)n, o->target_error, o->delta, fewest ? "" : "more than ",
                         fewest ? (unsigned long long)fewest : 10000000ull, 100 * wrong, seen);
    if (right == 0)
        return error_set(err, DRR_E_EMPTY,
                         "all %llu traces of the questions kept for the guarantee are wrong, and nothing can be "
                         "promised of accepting them: take easier questions, or more of them",
                         (unsigned long long)result->n_guarantee);
    return DRR_OK;
}

drr_status train_check_corpus(drr_train_result *result, const corpus *c, const drr_train_options *o, bool promises,
                              drr_error *err)
{
    const char *names[] = {"train", "dev"};
    uint64_t n, right;
    result->n_train_questions = corpus_questions(c, CORPUS_TRAIN);
    result->n_dev_questions = corpus_questions(c, CORPUS_DEV);
    result->n_test_questions = corpus_questions(c, CORPUS_TEST);
    count_labels(c, CORPUS_TEST, &result->n_test, &right);
    const uint64_t questions = result->n_train_questions + result->n_dev_questions +
                               corpus_questions(c, CORPUS_GUARANTEE) + (o->test_traces ? 0 : result->n_test_questions);
    if (questions < DRR_TRAIN_FEWEST_QUESTIONS && !o->max_questions)
        return error_set(err, DRR_E_EMPTY,
                         "%s holds traces of %llu questions, and fewer than %d say nothing about new ones: record more "
                         "questions (drr distill goes on where it stopped)",
                         o->traces, (unsigned long long)questions, DRR_TRAIN_FEWEST_QUESTIONS);
    for (int part = CORPUS_TRAIN; part <= CORPUS_DEV; part++) {
        count_labels(c, (corpus_part)part, &n, &right);
        *(part == CORPUS_TRAIN ? &result->n_train : &result->n_dev) = n;
        if (right == 0 || right == n)
            return error_set(err, DRR_E_EMPTY,
                             "%s: all %llu %s traces are %s, and a critic learns from both right and wrong ones: take "
                             "%s questions, or more of them",
                             o->traces, (unsigned long long)n, names[part], right ? "right" : "wrong",
                             right ? "harder" : "easier");
    }
    if (o->leave_one_task_out && !strchr(c->tasks ? c->tasks : "", ','))
        return error_set(err, DRR_E_ARGUMENT,
                         "the traces are all of one task, %s, and leaving it out would leave nothing to train on",
                         c->tasks ? c->tasks : "without a name");
    return promises ? check_guarantee(result, c, o, err) : DRR_OK;
}

static bool has_text(const corpus_row *row)
{
    const char *text = row->trace.text;
    return text && text[strspn(text, " \t\r\n")] != '\0';
}

/* Tokenises the rows of a part; `all` takes those without text too. Those to train on are taught what `o` asks for,
 * which the result counts. */
static drr_status tokenise(examples *x, uint64_t *n_truncated, drr_train_result *result, const corpus *c,
                           corpus_part part, bool all, const wordpiece *tokenizer, uint32_t max_length,
                           const drr_train_options *o, const drr_hooks *hooks, drr_error *err)
{
    drr_status status = DRR_OK;
    int32_t *ids = calloc(max_length, sizeof *ids);
    if (!ids)
        return error_memory(err);
    for (size_t i = 0; status == DRR_OK && i < c->n; i++) {
        const corpus_row *row = &c->rows[i];
        bool truncated = false;
        size_t n = 0;
        if (row->part != part || (!all && !has_text(row)))
            continue;
        if (i % 64 == 0 && hooks_cancelled(hooks)) {
            status = error_set(err, DRR_E_INTERRUPTED, "interrupted while tokenising");
            break;
        }
        status = wordpiece_encode_pair(tokenizer, row->trace.question, row->trace.text ? row->trace.text : "",
                                       max_length, ids, &n, &truncated, err);
        if (status == DRR_OK)
            status = examples_add(x, ids, n, row->trace.label == DRR_LABEL_ACCEPT, err);
        if (status == DRR_OK && part == CORPUS_TRAIN)
            status = teach_row(x, &result->n_train_steps, row, tokenizer, o, ids, n, err);
        if (status == DRR_OK && part == CORPUS_TRAIN && o->beginnings)
            status = beginnings_teach(x, &result->n_train_beginnings, row, i, tokenizer, max_length, o, ids, err);
        *n_truncated += truncated;
    }
    free(ids);
    return status;
}

/* Logits of a part's rows, by the fitted encoder. */
static drr_status score_rows(corpus *c, corpus_part part, const examples *x, const encoder *e, ranks *job,
                             const drr_hooks *hooks, drr_error *err)
{
    size_t at = 0;
    float *logits = calloc(x->n + 1, sizeof *logits);
    drr_status status = ranks_logits(job, e, x, 4096, logits, hooks, err);
    for (size_t i = 0; status == DRR_OK && i < c->n; i++)
        if (c->rows[i].part == part)
            c->rows[i].logit = (double)logits[at++];
    free(logits);
    return status;
}

static drr_status name_critic(critic_meta *meta, const corpus *c, const drr_train_options *o, drr_error *err)
{
    size_t stem;
    const char *file = file_name(o->out, &stem);
    const time_t now = time(NULL);
    struct tm utc;
    char created[32] = "";
    if (gmtime_r(&now, &utc))
        strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", &utc);
    const char *last = o->encoder ? strrchr(o->encoder, '/') : NULL;
    meta->name = string_copy_n(file, stem);
    meta->encoder = string_copy(meta->no_encoder ? "" : last && last[1] ? last + 1 : o->encoder);
    meta->reasoner = string_copy(c->reasoners ? c->reasoners : "");
    meta->prompt = string_copy(c->prompts ? c->prompts : "");
    meta->tasks = string_copy(c->tasks ? c->tasks : "");
    meta->created = string_copy(created);
    return meta->name && meta->encoder && meta->reasoner && meta->prompt && meta->tasks && meta->created
               ? DRR_OK
               : error_memory(err);
}

void session_clear(session *s)
{
    corpus_clear(&s->c);
    encoder_free(s->e);
    wordpiece_free(s->tokenizer);
    examples_clear(&s->train);
    examples_clear(&s->dev);
    examples_clear(&s->dev_all);
    examples_clear(&s->test_all);
    examples_clear(&s->kept_all);
    critic_meta_clear(&s->meta);
    buffer_clear(&s->checkpoint);
}

static drr_status tokenise_parts(session *s, drr_train_result *result, const drr_train_options *o,
                                 const drr_hooks *hooks, drr_error *err)
{
    const struct {
        examples *x;
        corpus_part part;
        bool all, counted;
    } parts[] = {{&s->train, CORPUS_TRAIN, false, true},
                 {&s->dev_all, CORPUS_DEV, true, true},
                 {&s->dev, CORPUS_DEV, false, false},
                 {&s->test_all, CORPUS_TEST, true, true},
                 {&s->kept_all, CORPUS_GUARANTEE, true, true}};
    uint64_t ignored = 0;
    drr_status status = DRR_OK;
    for (size_t i = 0; status == DRR_OK && i < sizeof parts / sizeof *parts; i++)
        status = tokenise(parts[i].x, parts[i].counted ? &result->n_truncated : &ignored, result, &s->c, parts[i].part,
                          parts[i].all, s->tokenizer, s->meta.max_length, o, hooks, err);
    return status;
}

static void log_parts(const session *s, const drr_train_result *r, bool has_head, const drr_hooks *hooks)
{
    char kept[96] = "";
    if (r->n_guarantee_questions)
        snprintf(kept, sizeof kept, "; %llu traces of %llu questions are kept for the guarantee",
                 (unsigned long long)r->n_guarantee, (unsigned long long)r->n_guarantee_questions);
    hooks_log(hooks, DRR_LOG_INFO,
              "%llu train, %llu dev and %llu test traces of %llu, %llu and %llu questions; %zu tokens to train on, "
              "%llu texts cut to %u tokens; %s%s%s",
              (unsigned long long)r->n_train, (unsigned long long)r->n_dev, (unsigned long long)r->n_test,
              (unsigned long long)r->n_train_questions, (unsigned long long)r->n_dev_questions,
              (unsigned long long)r->n_test_questions, s->train.n_ids, (unsigned long long)r->n_truncated,
              s->meta.max_length, drr_precision_name(r->precision), has_head ? "" : "; the head is new", kept);
}

static drr_status prepare(session *s, drr_train_result *result, const drr_train_options *o, const variant *v,
                          const drr_hooks *hooks, drr_error *err)
{
    const char *left_out = v->left_out;
    const bool is_read = s->c.n == 0; /* other rows were looked at where they were read */
    char folder[4096];
    bool has_head = false;
    s->meta.no_encoder = o->kind == DRR_CRITIC_PROBE;
    drr_status status = s->meta.no_encoder ? DRR_OK : drr_cache_path(folder, sizeof folder, o->encoder, "encoder", err);
    if (status == DRR_OK && is_read)
        status = corpus_read(&s->c, o, hooks, err);
    if (status == DRR_OK && left_out)
        corpus_leave_out(&s->c, left_out);
    const size_t unheard = status == DRR_OK && s->meta.no_encoder ? corpus_leave_unheard(&s->c) : 0;
    if (unheard && unheard < s->c.n)
        hooks_log(hooks, DRR_LOG_WARN, "%zu of %zu traces have no hidden states: a probe learns nothing from them",
                  unheard, s->c.n);
    if (status == DRR_OK && o->kind != DRR_CRITIC_ENCODER) /* first: it takes seconds, and what it lacks ends it */
        status = probe_fit(&s->meta.probe, result, &s->c, hooks, err);
    if (status == DRR_OK)
        status = train_check_corpus(result, &s->c, o, !isnan(o->target_error) && !left_out, err);
    if (status == DRR_OK && is_read && !left_out)
        status = corpus_check_sound(&s->c, o->traces, hooks, err);
    result->kind = o->kind;
    s->meta.seed = o->seed;
    result->precision = DRR_PRECISION_FP32;
    if (s->meta.no_encoder)
        return status;
    if (status == DRR_OK)
        status = teach_check(result, &s->c, o, err);
    if (status == DRR_OK)
        status = encoder_open_hf_headed(&s->e, &s->tokenizer, &has_head, folder, result->head, o->seed, err);
    result->precision = o->precision;
    if (status == DRR_OK)
        status = encoder_set_precision(s->e, &result->precision, err);
    if (status == DRR_OK && !left_out && !v->no_checkpoint)
        status = buffer_printf(&s->checkpoint, err, "%s%s%s.checkpoint", o->out, v->checkpoint ? "." : "",
                               v->checkpoint ? v->checkpoint : "");
    if (status != DRR_OK)
        return status;
    s->meta.max_length = o->max_length < s->e->shape.n_positions ? o->max_length : s->e->shape.n_positions;
    status = tokenise_parts(s, result, o, hooks, err);
    if (status == DRR_OK)
        log_parts(s, result, has_head, hooks);
    return status;
}

drr_status session_score(session *s, corpus_part part, const drr_hooks *hooks, drr_error *err)
{
    const examples *x = part == CORPUS_DEV ? &s->dev_all : part == CORPUS_TEST ? &s->test_all : &s->kept_all;
    s->e->bf16 = false; /* calibration and threshold are of the logits that a critic gives */
    return score_rows(&s->c, part, x, s->e, s->job, hooks, err);
}

/* The encoder is fitted: everything else of the critic, and its figures. */
static drr_status conclude(session *s, drr_train_result *result, const drr_train_options *o, bool promises,
                           const drr_hooks *hooks, drr_error *err)
{
    drr_status status = DRR_OK;
    result->auroc_steps = result->auroc_beginnings = NAN;
    for (size_t i = 0; i < s->c.n && !s->e; i++)
        s->c.rows[i].logit = s->c.rows[i].probe;
    if (s->e)
        status = session_score(s, CORPUS_DEV, hooks, err);
    if (status == DRR_OK && s->e)
        status = session_score(s, CORPUS_TEST, hooks, err);
    if (status == DRR_OK && s->e)
        status = session_score(s, CORPUS_GUARANTEE, hooks, err);
    if (status == DRR_OK && s->e)
        status = judge_steps(result, &s->c, s->e, s->tokenizer, s->meta.max_length, hooks, err);
    if (status == DRR_OK && s->e && o->beginnings)
        status = beginnings_measure(result, &s->c, s->e, s->tokenizer, s->meta.max_length, hooks, err);
    result->text_alone = o->text_alone || o->question_only;
    result->by_trace = o->by_trace;
    if (status == DRR_OK)
        status = judge_fit(&s->meta, result, &s->c, o->seed, err);
    if (status == DRR_OK)
        status = judge_measure(result, s->bins, &s->meta, &s->c, err);
    if (status == DRR_OK && promises)
        status = promise_make(&s->meta, result, &s->c, o, err);
    s->meta.n_train_questions = result->n_train_questions;
    s->meta.n_train_traces = result->n_train;
    s->meta.n_train_steps = result->n_train_steps;
    s->meta.n_train_beginnings = result->n_train_beginnings;
    result->threshold = s->meta.threshold;
    return status;
}

drr_status session_fit(session *s, drr_train_result *result, const drr_train_options *o, const variant *v,
                       const drr_hooks *hooks, drr_error *err)
{
    fit_result fitted = {0};
    drr_status status = ranks_agree(s->job, prepare(s, result, o, v, hooks, err), err);
    if (status != DRR_OK)
        return status;
    fit_options options = train_fit_options(o);
    options.checkpoint = s->checkpoint.data;
    options.resume = o->resume && !v->left_out;
    options.ranks = s->job;
    if (s->e)
        status = ranks_agree(s->job, encoder_fit(s->e, &s->train, &s->dev, &options, &fitted, hooks, err), err);
    else
        fitted = (fit_result){.best_loss = result->probe.dev_log_loss, .seconds = result->probe.seconds};
    if (status != DRR_OK)
        return status;
    result->best_loss = fitted.best_loss;
    result->best_epoch = fitted.best_epoch;
    result->tokens_per_second = fitted.tokens_per_second;
    result->seconds = fitted.seconds;
    return DRR_OK;
}

/* From traces to a critic in memory. */
drr_status session_make(session *s, drr_train_result *result, const drr_train_options *o, const variant *v,
                        const drr_hooks *hooks, drr_error *err)
{
    drr_status status = session_fit(s, result, o, v, hooks, err);
    if (status != DRR_OK)
        return status;
    return ranks_agree(s->job, conclude(s, result, o, !isnan(o->target_error) && !v->left_out, hooks, err), err);
}

/* How well each task is judged by a critic that was trained and fitted on the others alone. */
static drr_status leave_tasks_out(drr_train_result *result, const drr_train_options *o, ranks *job,
                                  const drr_hooks *hooks, drr_error *err)
{
    drr_train_options others = *o;
    drr_status status = DRR_OK;
    others.leave_one_task_out = false;
    for (uint32_t t = 0; status == DRR_OK && t < result->n_tasks; t++) {
        drr_task_figures *task = &result->tasks[t];
        drr_train_result without = {0};
        drr_error why = {0};
        session s = {.job = job};
        hooks_log(hooks, DRR_LOG_INFO, "once more without %s, to be measured on it", task->task);
        status = session_make(&s, &without, &others, &(variant){.left_out = task->task}, hooks, &why);
        task->auroc_left_out = status == DRR_OK ? without.auroc_stack : NAN;
        task->auroc_left_out_text = status == DRR_OK ? without.auroc_text : NAN;
        session_clear(&s);
        if (status == DRR_E_EMPTY) {
            hooks_log(hooks, DRR_LOG_WARN, "without %s: %s", task->task, why.message);
            status = DRR_OK;
        } else if (status != DRR_OK && err) {
            *err = why;
        }
    }
    return status;
}

static drr_status write_card(const session *s, card *k, drr_error *err)
{
    char digest[65];
    if (!ranks_first(s->job))
        return DRR_OK;
    k->meta = &s->meta;
    k->c = &s->c;
    k->shape = s->e ? &s->e->shape : NULL;
    k->bins = s->bins;
    k->sha256 = digest;
    drr_status status = sha256_file(digest, k->options->out, err);
    return status == DRR_OK ? card_write(k, err) : status;
}

static void log_guarantees(const drr_train_result *r, const drr_hooks *hooks)
{
    for (uint32_t i = 0; i < r->n_guarantees; i++) {
        char sentence[480];
        drr_guarantee_sentence(sentence, sizeof sentence, &r->guarantees[i]);
        hooks_log(hooks, r->guarantees[i].found ? DRR_LOG_INFO : DRR_LOG_WARN, "%s", sentence);
    }
}

drr_status drr_train(drr_train_result *out, const drr_train_options *o, const drr_hooks *hooks, drr_error *err)
{
    return train_critic(out, o, NULL, NULL, NULL, hooks, err);
}

drr_status train_critic(drr_train_result *out, const drr_train_options *o, corpus *given, drr_repeats *repeats,
                        const drr_search *search, const drr_hooks *hooks, drr_error *err)
{
    drr_status status = train_check_options(o, err);
    if (status != DRR_OK)
        return status;
    session s = {0};
    drr_train_result result = {0};
    card k = {.result = &result, .options = o, .repeats = repeats, .search = search};
    status = ranks_open(&s.job, err);
    if (status != DRR_OK)
        return status;
    hooks = ranks_hooks(s.job, hooks);
    uint32_t threads = o->threads;
    status = ranks_threads(s.job, &threads, err);
    if (status != DRR_OK)
        return status;
    if (threads)
        parallel_set_threads(threads);
    if (s.job)
        hooks_log(hooks, DRR_LOG_INFO, "training on %u ranks with %u threads each, over %s", ranks_count(s.job),
                  parallel_threads(), ranks_library(s.job));
    if (given) {
        s.c = *given;
        *given = (corpus){0};
    }
    status = session_make(&s, &result, o, &(variant){0}, hooks, err);
    if (status != DRR_OK)
        goto done;
    if (s.job)
        hooks_log(hooks, DRR_LOG_INFO, "rank 0 waited %.1f s for sums and for other ranks, of %.1f s of steps",
                  ranks_waited_s(s.job), result.seconds);
    status = name_critic(&s.meta, &s.c, o, err);
    if (status == DRR_OK && s.e && ranks_first(s.job))
        status = critic_probes_make(&s.meta, s.e, s.tokenizer, err);
    if (status == DRR_OK && ranks_first(s.job))
        status = critic_write(o->out, s.e, s.tokenizer, &s.meta, err);
    status = ranks_agree(s.job, status, err);
    if (status != DRR_OK)
        goto done;
    if (ranks_first(s.job) && s.checkpoint.data)
        unlink(s.checkpoint.data);
    if (repeats)
        repeats_take(repeats, &result);
    log_guarantees(&result, hooks);
    status = write_card(&s, &k, err);
    if (status == DRR_OK && o->leave_one_task_out) {
        status = leave_tasks_out(&result, o, s.job, hooks, err);
        if (status == DRR_OK)
            status = write_card(&s, &k, err);
    }
    status = ranks_agree(s.job, status, err);
    if (status == DRR_OK)
        *out = result;
done:
    session_clear(&s);
    return status;
}
