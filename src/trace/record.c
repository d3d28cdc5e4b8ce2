/* record.c: the trace record: copying, clearing, names and the statistics of its tokens. Storing is sqlite.c's,
 * interchange jsonl.c's. */
#include "trace/trace.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void drr_trace_clear(drr_trace *trace)
{
    if (!trace)
        return;
    char *owned[] = {trace->task,   trace->id,       trace->question, trace->gold,  trace->reasoner,
                     trace->prompt, trace->feedback, trace->text,     trace->answer};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        free(owned[i]);
    free(trace->steps);
    free(trace->hidden);
    *trace = (drr_trace){0};
}

static bool copy_field(char **to, const char *from)
{
    *to = string_copy(from);
    return !from || *to;
}

bool trace_steps_copy(drr_trace *trace, const drr_step *steps, uint32_t n)
{
    drr_step *copy = n ? malloc(n * sizeof *copy) : NULL;
    if (n && !copy)
        return false;
    if (n)
        memcpy(copy, steps, n * sizeof *copy);
    free(trace->steps);
    trace->steps = copy;
    trace->n_steps = n;
    return true;
}

bool trace_hidden_copy(drr_trace *trace, const void *hidden, size_t size)
{
    void *copy = hidden ? malloc(size) : NULL;
    if (hidden && !copy)
        return false;
    if (hidden)
        memcpy(copy, hidden, size);
    free(trace->hidden);
    trace->hidden = copy;
    trace->hidden_size = copy ? size : 0;
    return true;
}

drr_status trace_copy(drr_trace *to, const drr_trace *from, drr_error *err)
{
    *to = *from;
    to->task = to->id = to->question = to->gold = to->reasoner = to->prompt = to->feedback = to->text = to->answer =
        NULL;
    to->steps = NULL;
    to->n_steps = 0;
    to->hidden = NULL;
    if (trace_steps_copy(to, from->steps, from->n_steps) && trace_hidden_copy(to, from->hidden, from->hidden_size) &&
        copy_field(&to->task, from->task) && copy_field(&to->id, from->id) &&
        copy_field(&to->question, from->question) && copy_field(&to->gold, from->gold) &&
        copy_field(&to->reasoner, from->reasoner) && copy_field(&to->prompt, from->prompt) &&
        copy_field(&to->feedback, from->feedback) && copy_field(&to->text, from->text) &&
        copy_field(&to->answer, from->answer))
        return DRR_OK;
    drr_trace_clear(to);
    return error_memory(err);
}

void trace_token_stats_unknown(drr_token_stats *stats)
{
    *stats = (drr_token_stats){.mean = NAN,
                               .min = NAN,
                               .tail_mean = NAN,
                               .entropy_mean = NAN,
                               .answer_mean = NAN,
                               .answer_min = NAN,
                               .answer_entropy = NAN,
                               .answer_margin = NAN};
}

void trace_token_stats(drr_token_stats *stats, const trace_token *tokens, size_t n, size_t answer_begin,
                       size_t answer_end)
{
    enum { TAIL = 16 };
    trace_token_stats_unknown(stats);
    if (n == 0)
        return;
    double sum = 0, entropy = 0, answer_sum = 0, answer_entropy = 0;
    float min = INFINITY, answer_min = INFINITY, margin = INFINITY;
    size_t first_answer = n; /* token where the answer begins */
    uint32_t answer_n = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t begin = i ? tokens[i - 1].end : 0;
        sum += (double)tokens[i].logprob;
        entropy += (double)tokens[i].entropy;
        min = fminf(min, tokens[i].logprob);
        if (begin >= answer_end || tokens[i].end <= answer_begin)
            continue;
        if (first_answer == n)
            first_answer = i;
        answer_n++;
        answer_sum += (double)tokens[i].logprob;
        answer_entropy += (double)tokens[i].entropy;
        answer_min = fminf(answer_min, tokens[i].logprob);
        margin = fminf(margin, tokens[i].margin);
    }
    stats->n = (uint32_t)n;
    stats->mean = (float)(sum / (double)n);
    stats->min = min;
    stats->entropy_mean = (float)(entropy / (double)n);
    const size_t tail_begin = first_answer > TAIL ? first_answer - TAIL : 0;
    if (first_answer > tail_begin) {
        double tail = 0;
        for (size_t i = tail_begin; i < first_answer; i++)
            tail += (double)tokens[i].logprob;
        stats->tail_mean = (float)(tail / (double)(first_answer - tail_begin));
    }
    if (answer_n) {
        stats->answer_n = answer_n;
        stats->answer_mean = (float)(answer_sum / answer_n);
        stats->answer_min = answer_min;
        stats->answer_entropy = (float)(answer_entropy / answer_n);
        stats->answer_margin = isinf(margin) ? NAN : margin; /* fminf passes over NaN */
    }
}

void drr_trace_filter_defaults(drr_trace_filter *filter)
{
    *filter = (drr_trace_filter){.label = -1, .turn = -1, .limit = -1};
}
