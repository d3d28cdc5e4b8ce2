/* train.c: drr_train: from recorded traces to a critic file. Reads and splits (corpus.c), tokenises, fits the encoder
 * (fit.c), calibrates and measures (judge.c), and writes the file. An unparsed trace is trained on as one to reject:
 * the critic will meet such texts. A trace without any text is not trained on, but the stack still learns from it. */
#include "train/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FEWEST_QUESTIONS = 50 };

void drr_train_options_defaults(drr_train_options *options)
{
    *options = (drr_train_options){.encoder = "all-minilm-l6-v2",
                                   .epochs = 3,
                                   .batch = 32,
                                   .max_length = 256,
                                   .patience = 2,
                                   .learning_rate = 5e-5,
                                   .weight_decay = 0.01,
                                   .warmup_share = 0.06,
                                   .clip_norm = 1,
                                   .dropout = 0.1,
                                   .dev_share = 0.2,
                                   .test_share = 0.15,
                                   .seed = 1};
}

static drr_status check_options(const drr_train_options *o, drr_error *err)
{
    if (!o->traces || !o->encoder || !o->out)
        return error_set(err, DRR_E_ARGUMENT, "training needs traces, an encoder and a file to write");
    if (o->max_length < 16)
        return error_set(err, DRR_E_ARGUMENT, "%u tokens leave no room for question and answer: give at least 16",
                         o->max_length);
    if (!(o->dev_share > 0 && o->test_share >= 0 && o->dev_share + o->test_share < 0.9))
        return error_set(
            err, DRR_E_ARGUMENT,
            "a dev share of %g and a test share of %g cannot be: dev must be above 0, and together they must "
            "leave a tenth of the questions to train on",
            o->dev_share, o->test_share);
    return DRR_OK;
}

static void count_labels(const corpus *c, corpus_part part, uint64_t *n, uint64_t *right)
{
    *n = *right = 0;
    for (size_t i = 0; i < c->n; i++)
        if (c->rows[i].part == part) {
            ++*n;
            *right += c->rows[i].trace.label == DRR_LABEL_ACCEPT;
        }
}

static drr_status check_corpus(drr_train_result *result, const corpus *c, const drr_train_options *o, drr_error *err)
{
    const char *names[] = {"train", "dev"};
    uint64_t n, right;
    result->n_train_questions = corpus_questions(c, CORPUS_TRAIN);
    result->n_dev_questions = corpus_questions(c, CORPUS_DEV);
    result->n_test_questions = corpus_questions(c, CORPUS_TEST);
    count_labels(c, CORPUS_TEST, &result->n_test, &right);
    const uint64_t questions =
        result->n_train_questions + result->n_dev_questions + (o->test_traces ? 0 : result->n_test_questions);
    if (questions < FEWEST_QUESTIONS && !o->max_questions)
        return error_set(err, DRR_E_EMPTY,
                         "%s holds traces of %llu questions, and fewer than %d say nothing about new ones: record more "
                         "questions (drr distill goes on where it stopped)",
                         o->traces, (unsigned long long)questions, FEWEST_QUESTIONS);
    for (int part = CORPUS_TRAIN; part <= CORPUS_DEV; part++) {
        count_labels(c, (corpus_part)part, &n, &right);
        *(part == CORPUS_TRAIN ? &result->n_train : &result->n_dev) = n;
        if (right == 0 || right == n)
            return error_set(err, DRR_E_EMPTY,
                             "all %llu %s traces are %s, and a critic learns from both right and wrong ones: take %s "
                             "questions, or more of them",
                             (unsigned long long)n, names[part], right ? "right" : "wrong",
                             right ? "harder" : "easier");
    }
    return DRR_OK;
}

static bool has_text(const corpus_row *row)
{
    const char *text = row->trace.text;
    return text && text[strspn(text, " \t\r\n")] != '\0';
}

/* Tokenises the rows of a part; `all` takes those without text too. */
static drr_status tokenise(examples *x, uint64_t *n_truncated, const corpus *c, corpus_part part, bool all,
                           const wordpiece *tokenizer, uint32_t max_length, const drr_hooks *hooks, drr_error *err)
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
        *n_truncated += truncated;
    }
    free(ids);
    return status;
}

/* Logits of a part's rows, by the fitted encoder. */
static drr_status score_rows(corpus *c, corpus_part part, const examples *x, const encoder *e, const drr_hooks *hooks,
                             drr_error *err)
{
    size_t at = 0;
    float *logits = calloc(x->n + 1, sizeof *logits);
    if (!logits)
        return error_memory(err);
    drr_status status = examples_logits(e, x, 4096, logits, hooks, err);
    for (size_t i = 0; status == DRR_OK && i < c->n; i++)
        if (c->rows[i].part == part)
            c->rows[i].logit = (double)logits[at++];
    free(logits);
    return status;
}

static drr_status name_critic(critic_meta *meta, const corpus *c, const drr_train_options *o, drr_error *err)
{
    const char *slash = strrchr(o->out, '/'), *file = slash ? slash + 1 : o->out, *dot = strrchr(file, '.');
    const time_t now = time(NULL);
    struct tm utc;
    char created[32] = "";
    if (gmtime_r(&now, &utc))
        strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", &utc);
    const char *last = strrchr(o->encoder, '/');
    meta->name = string_copy_n(file, dot && dot != file ? (size_t)(dot - file) : strlen(file));
    meta->encoder = string_copy(last && last[1] ? last + 1 : o->encoder);
    meta->reasoner = string_copy(c->reasoners ? c->reasoners : "");
    meta->prompt = string_copy(c->prompts ? c->prompts : "");
    meta->tasks = string_copy(c->tasks ? c->tasks : "");
    meta->created = string_copy(created);
    return meta->name && meta->encoder && meta->reasoner && meta->prompt && meta->tasks && meta->created
               ? DRR_OK
               : error_memory(err);
}

typedef struct session { /* what one call of drr_train owns */
    corpus c;
    encoder *e;
    wordpiece *tokenizer;
    examples train, dev, dev_all, test_all;
    critic_meta meta;
    buffer checkpoint;
} session;

static void session_clear(session *s)
{
    corpus_clear(&s->c);
    encoder_free(s->e);
    wordpiece_free(s->tokenizer);
    examples_clear(&s->train);
    examples_clear(&s->dev);
    examples_clear(&s->dev_all);
    examples_clear(&s->test_all);
    critic_meta_clear(&s->meta);
    buffer_clear(&s->checkpoint);
}

static drr_status prepare(session *s, drr_train_result *result, const drr_train_options *o, const drr_hooks *hooks,
                          drr_error *err)
{
    char folder[4096];
    bool has_head = false;
    uint64_t ignored = 0;
    drr_status status = drr_cache_path(folder, sizeof folder, o->encoder, err);
    if (status == DRR_OK)
        status = corpus_read(&s->c, o, hooks, err);
    if (status == DRR_OK)
        status = check_corpus(result, &s->c, o, err);
    if (status == DRR_OK)
        status = encoder_open_hf(&s->e, &s->tokenizer, &has_head, folder, o->seed, err);
    result->precision = o->precision;
    if (status == DRR_OK)
        status = encoder_set_precision(s->e, &result->precision, err);
    if (status == DRR_OK)
        status = buffer_printf(&s->checkpoint, err, "%s.checkpoint", o->out);
    if (status != DRR_OK)
        return status;
    s->meta.max_length = o->max_length < s->e->shape.n_positions ? o->max_length : s->e->shape.n_positions;
    s->meta.seed = o->seed;
    const uint32_t most = s->meta.max_length;
    status = tokenise(&s->train, &result->n_truncated, &s->c, CORPUS_TRAIN, false, s->tokenizer, most, hooks, err);
    if (status == DRR_OK)
        status = tokenise(&s->dev_all, &result->n_truncated, &s->c, CORPUS_DEV, true, s->tokenizer, most, hooks, err);
    if (status == DRR_OK)
        status = tokenise(&s->dev, &ignored, &s->c, CORPUS_DEV, false, s->tokenizer, most, hooks, err);
    if (status == DRR_OK)
        status = tokenise(&s->test_all, &result->n_truncated, &s->c, CORPUS_TEST, true, s->tokenizer, most, hooks, err);
    if (status == DRR_OK)
        hooks_log(hooks, DRR_LOG_INFO,
                  "%llu train, %llu dev and %llu test traces of %llu, %llu and %llu questions; %zu tokens to train on, "
                  "%llu texts cut to %u tokens; %s%s",
                  (unsigned long long)result->n_train, (unsigned long long)result->n_dev,
                  (unsigned long long)result->n_test, (unsigned long long)result->n_train_questions,
                  (unsigned long long)result->n_dev_questions, (unsigned long long)result->n_test_questions,
                  s->train.n_ids, (unsigned long long)result->n_truncated, most, drr_precision_name(result->precision),
                  has_head ? "" : "; the head is new");
    return status;
}

static drr_status conclude(session *s, drr_train_result *result, const drr_train_options *o, const drr_hooks *hooks,
                           drr_error *err)
{
    s->e->bf16 = false; /* calibration and threshold are of the logits that a critic gives */
    drr_status status = score_rows(&s->c, CORPUS_DEV, &s->dev_all, s->e, hooks, err);
    if (status == DRR_OK)
        status = score_rows(&s->c, CORPUS_TEST, &s->test_all, s->e, hooks, err);
    if (status == DRR_OK)
        status = judge_fit(&s->meta, &s->c, o->seed, err);
    if (status == DRR_OK)
        status = judge_measure(result, &s->meta, &s->c, err);
    if (status == DRR_OK)
        status = name_critic(&s->meta, &s->c, o, err);
    if (status != DRR_OK)
        return status;
    s->meta.n_train_questions = result->n_train_questions;
    s->meta.n_train_traces = result->n_train;
    result->threshold = s->meta.threshold;
    return critic_write(o->out, s->e, s->tokenizer, &s->meta, err);
}

drr_status drr_train(drr_train_result *out, const drr_train_options *o, const drr_hooks *hooks, drr_error *err)
{
    drr_status status = check_options(o, err);
    if (status != DRR_OK)
        return status;
    session s = {0};
    drr_train_result result = {0};
    fit_result fitted = {0};
    if (o->threads)
        parallel_set_threads(o->threads);
    status = prepare(&s, &result, o, hooks, err);
    if (status != DRR_OK)
        goto done;
    const fit_options options = {.epochs = o->epochs,
                                 .batch = o->batch,
                                 .patience = o->patience,
                                 .learning_rate = o->learning_rate,
                                 .weight_decay = o->weight_decay,
                                 .warmup_share = o->warmup_share,
                                 .clip_norm = o->clip_norm,
                                 .dropout = o->dropout,
                                 .class_weights = o->class_weights,
                                 .keep_last = o->keep_last,
                                 .seed = o->seed,
                                 .checkpoint = s.checkpoint.data,
                                 .resume = o->resume};
    status = encoder_fit(s.e, &s.train, &s.dev, &options, &fitted, hooks, err);
    if (status != DRR_OK)
        goto done;
    status = conclude(&s, &result, o, hooks, err);
    if (status != DRR_OK)
        goto done;
    unlink(s.checkpoint.data);
    result.best_loss = fitted.best_loss;
    result.best_epoch = fitted.best_epoch;
    result.tokens_per_second = fitted.tokens_per_second;
    result.seconds = fitted.seconds;
    *out = result;
done:
    session_clear(&s);
    return status;
}
