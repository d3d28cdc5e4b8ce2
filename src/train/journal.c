/* journal.c: what several trainings of one command have finished, so that the same command goes on after a kill without
 * repeating any of it. train_internal.h says the shape; the records are their owners'. */
#include "train/train_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static drr_status begin(journal *j, const char *what, uint64_t identity, drr_error *err)
{
    return buffer_printf(&j->text, err, "{\"drr\": \"%s\", \"journal\": \"%s\", \"identity\": \"%016llx\"}\n",
                         DRR_VERSION, what, (unsigned long long)identity);
}

static drr_status take_line(journal *j, const char *line, size_t length, uint64_t number, drr_error *err)
{
    char where[64];
    json_t *record = NULL;
    snprintf(where, sizeof where, "line %llu", (unsigned long long)number);
    drr_status status = json_parse(&record, line, length, where, NULL);
    if (status != DRR_OK || !json_is_object(record)) {
        json_decref(record);
        return error_set(err, DRR_E_FORMAT, "%s:%llu is damaged; delete the file to start again", j->path,
                         (unsigned long long)number);
    }
    if (json_array_append_new(j->records, record) != 0)
        return error_memory(err);
    return DRR_OK;
}

/* The head must be the one that this work begins with. */
static drr_status read_back(journal *j, drr_error *err)
{
    line_reader *reader = NULL;
    char *line;
    size_t length;
    drr_status status = lines_open(&reader, j->path, err);
    if (status != DRR_OK)
        return status;
    status = lines_next(reader, &line, &length, err);
    if (status == DRR_OK && (length + 1 != j->text.size || memcmp(line, j->text.data, length) != 0))
        status = error_set(err, DRR_E_MISMATCH,
                           "%s is of other options, traces or another encoder: give the same again, or leave out "
                           "--resume to start anew",
                           j->path);
    while (status == DRR_OK) {
        status = lines_next(reader, &line, &length, err);
        if (status == DRR_OK)
            status = take_line(j, line, length, lines_number(reader), err);
        if (status == DRR_OK)
            status = buffer_printf(&j->text, err, "%s\n", line);
    }
    lines_close(reader);
    return status == DRR_E_EMPTY ? DRR_OK : status;
}

drr_status journal_open(journal *j, const char *path, const char *what, uint64_t identity, bool resume, drr_error *err)
{
    *j = (journal){.path = path, .records = json_array()};
    drr_status status = j->records ? begin(j, what, identity, err) : error_memory(err);
    if (status == DRR_OK && resume && file_exists(path))
        status = read_back(j, err);
    else if (status == DRR_OK)
        status = file_write_all(path, j->text.data, j->text.size, err); /* before hours of work, not after them */
    if (status != DRR_OK)
        journal_close(j);
    return status;
}

drr_status journal_add(journal *j, json_t *record, drr_error *err)
{
    char *line = record ? json_dumps(record, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    drr_status status = line ? buffer_printf(&j->text, err, "%s\n", line) : error_memory(err);
    free(line);
    if (status == DRR_OK && json_array_append(j->records, record) != 0)
        status = error_memory(err);
    json_decref(record);
    return status == DRR_OK ? file_write_all(j->path, j->text.data, j->text.size, err) : status;
}

void journal_close(journal *j)
{
    buffer_clear(&j->text);
    json_decref(j->records);
    *j = (journal){0};
}

static uint64_t mix_text(uint64_t h, const char *text)
{
    return hash_mix(h, hash_string(text != NULL, text ? text : ""));
}

/* What a stack learns from beside the text, and of what steps are worth. */
static uint64_t mix_turn(uint64_t h, const drr_trace *t, bool steps)
{
    const drr_token_stats *s = &t->stats;
    const double numbers[] = {t->kind,
                              s->n,
                              s->answer_n,
                              (double)s->mean,
                              (double)s->min,
                              (double)s->tail_mean,
                              (double)s->entropy_mean,
                              (double)s->answer_mean,
                              (double)s->answer_min,
                              (double)s->answer_entropy,
                              (double)s->answer_margin};
    h = hash_bytes(h, numbers, sizeof numbers);
    for (uint32_t i = 0; steps && i < t->n_steps; i++) {
        const double step[] = {t->steps[i].end, (double)t->steps[i].value};
        h = hash_bytes(h, step, sizeof step);
    }
    return h;
}

static uint64_t mix_rows(uint64_t h, const corpus *c, bool steps)
{
    for (size_t i = 0; i < c->n; i++) {
        const drr_trace *t = &c->rows[i].trace;
        const uint64_t numbers[] = {t->label, t->sample, t->turn, c->rows[i].part, t->n_tokens};
        h = mix_text(h, t->question);
        h = mix_text(h, t->text);
        h = mix_text(h, t->answer);
        h = mix_text(h, t->reasoner);
        h = mix_text(h, t->task);
        h = mix_turn(hash_bytes(h, numbers, sizeof numbers), t, steps);
        if (t->hidden) /* of a critic without a probe, no row has any */
            h = hash_bytes(h, t->hidden, t->hidden_size);
    }
    return h;
}

drr_status work_identity(uint64_t *identity, const corpus *c, const drr_train_options *o, drr_error *err)
{
    encoder *e = NULL;
    wordpiece *tokenizer = NULL;
    const double numbers[] = {o->epochs,        o->batch,
                              o->max_length,    o->patience,
                              o->learning_rate, o->weight_decay,
                              o->warmup_share,  o->clip_norm,
                              o->dropout,       o->dev_share,
                              o->test_share,    o->class_weights,
                              o->keep_last,     (double)o->max_questions,
                              o->precision,     o->text_alone,
                              o->rank_weight,   (double)o->head,
                              o->steps};
    uint64_t h = hash_bytes(o->seed, numbers, sizeof numbers);
    if (o->question_only)
        h = hash_string(h, CRITIC_QUESTION_PROMPT);
    if (o->beginnings)
        h = hash_mix(hash_string(h, "beginnings"), o->beginnings);
    if (o->kind != DRR_CRITIC_ENCODER)
        h = hash_mix(h, o->kind);
    if (o->kind == DRR_CRITIC_PROBE) {
        *identity = mix_rows(h, c, o->steps);
        return DRR_OK;
    }
    drr_status status = train_open_encoder(&e, &tokenizer, o, err);
    if (status == DRR_OK)
        *identity = mix_rows(hash_bytes(h, e->parameters, e->n_parameters * sizeof(float)), c, o->steps);
    encoder_free(e);
    wordpiece_free(tokenizer);
    return status;
}
