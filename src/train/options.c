/* options.c: what training is asked for: the usual settings, and what cannot be, said before anything is read. What can
 * only be told from the traces themselves is train.c's and sound.c's. */
#include "train/train_internal.h"

#include <math.h>

enum { MOST_TURNS = 8 };

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
                                   .seed = 1,
                                   .target_error = NAN,
                                   .delta = 0.1,
                                   .guarantee_share = 0.2};
}

fit_options train_fit_options(const drr_train_options *o)
{
    return (fit_options){.epochs = o->epochs,
                         .batch = o->batch,
                         .patience = o->patience,
                         .learning_rate = o->learning_rate,
                         .weight_decay = o->weight_decay,
                         .warmup_share = o->warmup_share,
                         .clip_norm = o->clip_norm,
                         .dropout = o->dropout,
                         .class_weights = o->class_weights,
                         .keep_last = o->keep_last,
                         .rank_weight = o->rank_weight,
                         .seed = o->seed};
}

static drr_status check_guarantee_options(const drr_train_options *o, drr_error *err)
{
    if (!(o->target_error > 0 && o->target_error < 1))
        return error_set(err, DRR_E_ARGUMENT, "a target error of %g cannot be promised: it must lie between 0 and 1",
                         o->target_error);
    if (!(o->delta > 0 && o->delta < 1))
        return error_set(err, DRR_E_ARGUMENT,
                         "a delta of %g cannot be: it is the chance that the promise is broken, between 0 and 1",
                         o->delta);
    if (!(o->guarantee_share > 0 && o->dev_share + o->test_share + o->guarantee_share < 0.9))
        return error_set(
            err, DRR_E_ARGUMENT,
            "a guarantee share of %g cannot be: it must be above 0, and with the dev and test shares leave "
            "a tenth of the questions to train on",
            o->guarantee_share);
    if (o->guarantee_turns > MOST_TURNS)
        return error_set(err, DRR_E_ARGUMENT, "a guarantee is about %d turns at most, and %u were asked for",
                         MOST_TURNS, o->guarantee_turns);
    return DRR_OK;
}

/* What has no meaning for a critic with a probe. */
static drr_status check_kind(const drr_train_options *o, drr_error *err)
{
    if ((unsigned)o->kind > DRR_CRITIC_STACK)
        return error_set(err, DRR_E_ARGUMENT, "kind %d cannot be: encoder, probe and stack are", (int)o->kind);
    if (o->kind != DRR_CRITIC_ENCODER && o->text_alone)
        return error_set(err, DRR_E_ARGUMENT,
                         "a critic of kind %s judges by hidden states too, and not by the text alone: leave out "
                         "--text-alone, or take kind encoder",
                         drr_critic_kind_name(o->kind));
    if (o->kind == DRR_CRITIC_PROBE && (o->rank_weight > 0 || o->head != DRR_HEAD_CLS || o->steps))
        return error_set(err, DRR_E_ARGUMENT,
                         "a probe alone has no encoder that could rank answers or read at tokens: leave out "
                         "--rank-weight, --head token and --steps, or take kind stack");
    return o->kind == DRR_CRITIC_PROBE ? ranks_alone("a probe alone", err) : DRR_OK;
}

drr_status train_refuse_by_trace(const char *what, drr_error *err)
{
    return error_set(
        err, DRR_E_ARGUMENT,
        "%s needs questions that nothing else has seen, and a split by trace leaves none: leave out one of "
        "the two",
        what);
}

/* An ablation compares two splits of the same traces, and nothing that rests on a split. */
static drr_status check_by_trace(const drr_train_options *o, drr_error *err)
{
    return o->test_traces            ? train_refuse_by_trace("a test file", err)
           : !isnan(o->target_error) ? train_refuse_by_trace("a guarantee", err)
           : o->leave_one_task_out   ? train_refuse_by_trace("leaving a task out", err)
           : o->max_questions        ? train_refuse_by_trace("a number of questions", err)
                                     : DRR_OK;
}

drr_status train_check_options(const drr_train_options *o, drr_error *err)
{
    const bool text = o->kind != DRR_CRITIC_PROBE;
    if (!o->traces || (!o->encoder && text) || !o->out)
        return error_set(err, DRR_E_ARGUMENT, "training needs traces, an encoder and a file to write");
    if (file_is_same(o->traces, o->out) || (o->test_traces && file_is_same(o->test_traces, o->out)))
        return error_set(
            err, DRR_E_ARGUMENT,
            "%s holds the traces that are read, and would be overwritten; name another file for the critic", o->out);
    if (o->precision == DRR_PRECISION_INT8)
        return error_set(err, DRR_E_ARGUMENT, "int8 is for scoring alone: train in fp32 or bf16");
    if (o->max_length < 16 && text)
        return error_set(err, DRR_E_ARGUMENT, "%u tokens leave no room for question and answer: give at least 16",
                         o->max_length);
    if (!(o->dev_share > 0 && o->test_share >= 0 && o->dev_share + o->test_share < 0.9))
        return error_set(
            err, DRR_E_ARGUMENT,
            "a dev share of %g and a test share of %g cannot be: dev must be above 0, and together they must "
            "leave a tenth of the questions to train on",
            o->dev_share, o->test_share);
    if (!(o->rank_weight >= 0 && isfinite(o->rank_weight)) || (unsigned)o->head > DRR_HEAD_TOKEN)
        return error_set(
            err, DRR_E_ARGUMENT,
            "a ranking term of weight %g, or head %d, cannot be: the weight must not be negative, and heads "
            "are cls and token",
            o->rank_weight, (int)o->head);
    if (o->question_only && (o->kind != DRR_CRITIC_ENCODER || o->rank_weight > 0 || o->head != DRR_HEAD_CLS ||
                             o->steps || !isnan(o->target_error)))
        return error_set(
            err, DRR_E_ARGUMENT,
            "a critic of questions alone reads no answers: leave out --kind, --rank-weight, --head, --steps "
            "and --target-error");
    if (o->beginnings && (o->kind == DRR_CRITIC_PROBE || o->head != DRR_HEAD_CLS || o->steps || o->question_only))
        return error_set(
            err, DRR_E_ARGUMENT,
            "beginnings of answers are taught to a critic that reads a text as a whole: leave out --beginnings, or "
            "--head token, --steps, --question-only and kind probe");
    const fit_options fit = train_fit_options(o);
    drr_status status = check_kind(o, err);
    if (status == DRR_OK && text)
        status = fit_check_options(&fit, err);
    if (status == DRR_OK && o->by_trace)
        status = check_by_trace(o, err);
    return status == DRR_OK && !isnan(o->target_error) ? check_guarantee_options(o, err) : status;
}

drr_status train_open_encoder(encoder **e, wordpiece **tokenizer, const drr_train_options *o, drr_error *err)
{
    char folder[4096];
    bool has_head;
    drr_status status = drr_cache_path(folder, sizeof folder, o->encoder, "encoder", err);
    return status == DRR_OK ? encoder_open_hf(e, tokenizer, &has_head, folder, o->seed, err) : status;
}

drr_status drr_train_check(const drr_train_options *o, drr_error *err)
{
    encoder *e = NULL;
    wordpiece *tokenizer = NULL;
    drr_precision precision = o->precision;
    drr_status status = train_check_options(o, err);
    if (status != DRR_OK || o->kind == DRR_CRITIC_PROBE)
        return status;
    status = train_open_encoder(&e, &tokenizer, o, err);
    if (status == DRR_OK)
        status = encoder_set_precision(e, &precision, err);
    encoder_free(e);
    wordpiece_free(tokenizer);
    return status;
}
