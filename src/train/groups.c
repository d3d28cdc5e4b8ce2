/* groups.c: the rows of one part of a corpus, those that answer one question by one reasoner side by side, and what the
 * critic may know of the others when it judges one of them. */
#include "train/judge_internal.h"

#include <stdlib.h>
#include <string.h>

bool judge_parsed(const drr_trace *t)
{
    return t->label != DRR_LABEL_UNPARSED && t->answer;
}

uint8_t judge_label(const drr_trace *t)
{
    return t->label == DRR_LABEL_ACCEPT; /* an answer that cannot be read is not one to accept */
}

static int row_compare(const void *a, const void *b, void *context)
{
    const corpus *c = context;
    const corpus_row *x = &c->rows[*(const size_t *)a], *y = &c->rows[*(const size_t *)b];
    if (x->question != y->question)
        return x->question < y->question ? -1 : 1;
    const int names = strcmp(x->trace.reasoner ? x->trace.reasoner : "", y->trace.reasoner ? y->trace.reasoner : "");
    return names ? names : (x > y) - (x < y);
}

static bool same_group(const corpus *c, size_t a, size_t b)
{
    const char *x = c->rows[a].trace.reasoner, *y = c->rows[b].trace.reasoner;
    return c->rows[a].question == c->rows[b].question && strcmp(x ? x : "", y ? y : "") == 0;
}

void groups_clear(groups *g)
{
    free(g->rows);
    free(g->begin);
    free(g->end);
    free(g->others);
    *g = (groups){0};
}

drr_status groups_new(groups *g, const corpus *c, corpus_part part, drr_error *err)
{
    *g = (groups){.c = c,
                  .rows = calloc(c->n + 1, sizeof *g->rows),
                  .begin = calloc(c->n + 1, sizeof *g->begin),
                  .end = calloc(c->n + 1, sizeof *g->end),
                  .others = calloc(c->n + 1, sizeof *g->others)};
    if (!g->rows || !g->begin || !g->end || !g->others) {
        groups_clear(g);
        return error_memory(err);
    }
    for (size_t i = 0; i < c->n; i++)
        if (c->rows[i].part == part)
            g->rows[g->n++] = i;
    qsort_r(g->rows, g->n, sizeof *g->rows, row_compare, (void *)(uintptr_t)c);
    for (size_t i = 0, end; i < g->n; i = end) {
        for (end = i + 1; end < g->n && same_group(c, g->rows[i], g->rows[end]); end++)
            ;
        for (size_t k = i; k < end; k++) {
            g->begin[k] = i;
            g->end[k] = end;
        }
    }
    return DRR_OK;
}

static bool same_conversation(const drr_trace *a, const drr_trace *b)
{
    return a->sample == b->sample && strcmp(a->prompt ? a->prompt : "", b->prompt ? b->prompt : "") == 0;
}

/* May rows[k] be known when rows[i] is judged? Other samples' fresh answers, and what came before it in its own
 * conversation. Answers that others gave after being told they were wrong agree for other reasons. */
static bool comparable(const groups *g, size_t i, size_t k)
{
    const drr_trace *t = &g->c->rows[g->rows[i]].trace, *other = &g->c->rows[g->rows[k]].trace;
    return k != i && (same_conversation(t, other) ? other->turn <= t->turn : other->turn == 0);
}

/* Puts those of rows[i] into g->others. */
size_t groups_others(groups *g, size_t i)
{
    size_t n = 0;
    for (size_t k = g->begin[i]; k < g->end[i]; k++)
        if (comparable(g, i, k))
            g->others[n++] = k;
    return n;
}

/* Features of rows[i] where others[n] are known. */
drr_features groups_features(const groups *g, size_t i, const size_t *others, size_t n)
{
    const drr_trace *t = &g->c->rows[g->rows[i]].trace;
    drr_features f;
    drr_features_defaults(&f);
    f.stats = t->stats;
    f.n_tokens = t->n_tokens;
    f.turn = t->turn;
    f.probe = g->c->rows[g->rows[i]].probe;
    f.parsed = judge_parsed(t);
    f.n_others = (uint32_t)n;
    for (size_t k = 0; k < n; k++) {
        const drr_trace *other = &g->c->rows[g->rows[others[k]]].trace;
        f.n_agree += f.parsed && judge_parsed(other) && drr_answer_equal(t->kind, t->answer, other->answer);
    }
    return f;
}

double groups_judge(const critic_meta *meta, const groups *g, size_t i, const size_t *others, size_t n)
{
    const drr_features f = groups_features(g, i, others, n);
    return critic_meta_p(meta, g->c->rows[g->rows[i]].logit, &f);
}
