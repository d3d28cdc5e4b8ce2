/* sound.c: are traces fit to learn from? Beyond what train.c counts: labels that contradict one another, and texts that
 * are empty where they matter. A few of either are said and borne; many are refused, before hours of training. */
#include "trace/trace.h"
#include "train/train.h"

#include <stdlib.h>
#include <string.h>

/* Above this share of the traces. Recorded data sets have a few wrong or doubled references: 2.4 in a hundred answers
 * to GSM8K were graded both ways by those who recorded them; to SVAMP and CommonsenseQA, none. */
static const double MOST_CONTRADICTIONS = 0.1;

static bool blank(const char *text)
{
    return !text || text[strspn(text, " \t\r\n")] == '\0';
}

/* ---- labels: one answer to one question cannot be right and wrong */

typedef struct claim { /* of one trace; answers that could not be read are told apart by the whole text */
    size_t question;
    const char *answer;
    bool is_text, right;
} claim;

static int claim_compare(const void *a, const void *b)
{
    const claim *x = a, *y = b;
    if (x->question != y->question)
        return x->question < y->question ? -1 : 1;
    if (x->is_text != y->is_text)
        return x->is_text ? 1 : -1;
    return strcmp(x->answer, y->answer);
}

static size_t take_claims(claim *claims, const corpus *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        const corpus_row *row = &c->rows[i];
        const bool is_text = blank(row->trace.answer);
        const char *answer = is_text ? row->trace.text : row->trace.answer;
        if (row->part != CORPUS_UNUSED && !blank(answer))
            claims[n++] = (claim){row->question, answer, is_text, row->trace.label == DRR_LABEL_ACCEPT};
    }
    return n;
}

/* How many traces stand in a contradiction; *first is one of them. */
static size_t count_contradictions(const claim **first, const claim *claims, size_t n)
{
    size_t found = 0;
    *first = NULL;
    for (size_t i = 0, end; i < n; i = end) {
        size_t right = 0;
        for (end = i; end < n && claim_compare(&claims[i], &claims[end]) == 0; end++)
            right += claims[end].right;
        if (right == 0 || right == end - i)
            continue;
        found += end - i;
        if (!*first)
            *first = &claims[i];
    }
    return found;
}

static const char *question_of(const corpus *c, size_t question)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->rows[i].question == question)
            return c->rows[i].trace.question;
    return "";
}

static drr_status check_labels(const corpus *c, const char *traces, const drr_hooks *hooks, drr_error *err)
{
    const claim *first;
    char words[640];
    claim *claims = malloc((c->n + 1) * sizeof *claims);
    if (!claims)
        return error_memory(err);
    const size_t n = take_claims(claims, c);
    qsort(claims, n, sizeof *claims, claim_compare);
    const size_t found = count_contradictions(&first, claims, n);
    if (found)
        snprintf(
            words, sizeof words,
            "%s: %zu of %zu traces contradict one another: the same answer to the same question is right in one and "
            "wrong in another, as \"%.60s\" is to \"%.120s\"",
            traces, found, n, first->answer, question_of(c, first->question));
    free(claims);
    if ((double)found > MOST_CONTRADICTIONS * (double)n)
        return error_set(err, DRR_E_FORMAT,
                         "%s. A critic cannot learn from that: give each question one reference answer and distil "
                         "anew, or leave out what was graded otherwise (--task, --reasoner)",
                         words);
    if (found)
        hooks_log(hooks, DRR_LOG_WARN, "%s; they are trained on as they are", words);
    return DRR_OK;
}

/* ---- texts: the encoder learns from what was written, whatever the labels of the rest */

static drr_status check_texts(const corpus *c, const char *traces, const drr_hooks *hooks, drr_error *err)
{
    static const char *const names[] = {"train", "dev"};
    for (int part = CORPUS_TRAIN; part <= CORPUS_DEV; part++) {
        size_t n = 0, right = 0, empty = 0;
        for (size_t i = 0; i < c->n; i++) {
            const corpus_row *row = &c->rows[i];
            if (row->part != (corpus_part)part)
                continue;
            const bool has_text = !blank(row->trace.text);
            empty += !has_text;
            n += has_text;
            right += has_text && row->trace.label == DRR_LABEL_ACCEPT;
        }
        if (empty && (right == 0 || right == n))
            return error_set(err, DRR_E_EMPTY,
                             "%s: of the %s traces %zu hold no text, and the %zu others are all %s: a critic reads the "
                             "reasoner's words and learns from both right and wrong ones, so record them (field "
                             "\"text\")",
                             traces, names[part], empty, n, right ? "right" : "wrong");
    }
    if (c->n_empty)
        hooks_log(
            hooks, DRR_LOG_WARN,
            "%s: %llu of %zu traces hold no text: the encoder is not trained on them; record the reasoner's words "
            "(field \"text\")",
            traces, (unsigned long long)c->n_empty, c->n);
    return DRR_OK;
}

drr_status corpus_check_sound(const corpus *c, const char *traces, const drr_hooks *hooks, drr_error *err)
{
    drr_status status = check_labels(c, traces, hooks, err);
    return status == DRR_OK ? check_texts(c, traces, hooks, err) : status;
}
