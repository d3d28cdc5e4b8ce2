/* replay_read.c: a fold's critic, and what it scored, as replay_study.c acts with it. */
#include "core/json.h"
#include "replay_study.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static drr_status read_scored(corpus *c, const char *path, const char *reasoner, drr_error *err)
{
    drr_train_options o;
    line_reader *lines = NULL;
    char *line;
    size_t length, i = 0;
    drr_train_options_defaults(&o);
    o.traces = path;
    o.reasoner = reasoner;
    drr_status status = corpus_read(c, &o, NULL, err);
    if (status == DRR_OK)
        status = lines_open(&lines, path, err);
    while (status == DRR_OK && (status = lines_next(lines, &line, &length, err)) == DRR_OK) {
        json_t *value = NULL;
        status = json_parse(&value, line, length, path, err);
        if (status == DRR_OK && strcmp(json_string_or(value, "reasoner", ""), reasoner) == 0 && i < c->n) {
            c->rows[i].part = CORPUS_DEV;
            status = json_get_number(&c->rows[i++].logit, value, "logit", path, err);
        }
        json_decref(value);
    }
    lines_close(lines);
    if (status == DRR_E_EMPTY)
        status = DRR_OK;
    if (status == DRR_OK && i != c->n)
        status = error_set(err, DRR_E_FORMAT, "%s: %zu scores of %zu traces", path, i, c->n);
    return status;
}

typedef struct known_question {
    char *text;
    double p; /* of a critic of questions; of the second reasoner: is its answer right? */
    double tokens;
} known_question;
typedef struct known_questions {
    known_question *at;
    size_t n;
} known_questions;

static void known_clear(known_questions *k)
{
    for (size_t i = 0; i < k->n; i++)
        free(k->at[i].text);
    free(k->at);
    *k = (known_questions){0};
}

static drr_status read_questions(known_questions *k, const char *path, const char *field, drr_error *err)
{
    line_reader *lines = NULL;
    char *line;
    size_t length;
    if (strcmp(path, "-") == 0)
        return DRR_OK;
    drr_status status = lines_open(&lines, path, err);
    while (status == DRR_OK && (status = lines_next(lines, &line, &length, err)) == DRR_OK) {
        json_t *value = NULL;
        const char *text;
        double p = 0, tokens = 0;
        status = json_parse(&value, line, length, path, err);
        if (status == DRR_OK)
            status = json_get_string(&text, value, "question", path, err);
        if (status == DRR_OK)
            status = json_get_number(&p, value, field, path, err);
        if (status == DRR_OK)
            tokens = json_number_or(value, "n_tokens", 0);
        known_question *more = status == DRR_OK ? realloc(k->at, (k->n + 1) * sizeof *more) : NULL;
        if (more) {
            k->at = more;
            k->at[k->n++] = (known_question){string_copy(text), p, tokens};
        }
        json_decref(value);
    }
    lines_close(lines);
    return status == DRR_E_EMPTY ? DRR_OK : status;
}

static known_question find(const known_questions *k, const char *text)
{
    for (size_t i = 0; i < k->n; i++)
        if (k->at[i].text && strcmp(k->at[i].text, text) == 0)
            return k->at[i];
    return (known_question){NULL, NAN, NAN};
}

static size_t count_options(const char *text)
{
    size_t n = 0;
    for (char mark[4] = "(A)"; n < 26 && strstr(text, mark); mark[1]++)
        n++;
    return n;
}

double study_judge(const study *s, const question *q, const answer *a, uint32_t others, uint32_t agree)
{
    drr_features f;
    drr_features_defaults(&f);
    f.parsed = a->parsed;
    f.n_tokens = a->n_tokens;
    f.n_others = others;
    f.n_agree = agree;
    return critic_meta_p(&s->metas[q->fold], a->logit, &f);
}

static drr_status add_questions(study *s, part *p, const corpus *c, const known_questions *known,
                                const known_questions *second, uint32_t fold, drr_error *err)
{
    groups g = {0};
    drr_status status = groups_new(&g, c, CORPUS_DEV, err);
    if (status != DRR_OK)
        return status;
    question *questions = realloc(p->questions, (p->n + g.n) * sizeof *questions);
    answer *answers = realloc(p->answers, (p->n_answers + g.n) * sizeof *answers);
    p->questions = questions ? questions : p->questions;
    p->answers = answers ? answers : p->answers;
    if (!questions || !answers)
        status = error_memory(err);
    for (size_t i = 0; status == DRR_OK && i < g.n; i = g.end[i]) {
        const drr_trace *first = &c->rows[g.rows[i]].trace;
        question *q = &p->questions[p->n++];
        *q = (question){.first = p->n_answers, .n = g.end[i] - i, .fold = fold};
        q->p_question = find(known, first->question).p;
        q->second = find(second, first->question).p;
        q->second_tokens = find(second, first->question).tokens;
        q->alternatives = weigh_alternatives(first->kind, count_options(first->question));
        q->closed = first->kind == DRR_KIND_CHOICE || first->kind == DRR_KIND_BOOLEAN;
        for (size_t k = i; k < g.end[i]; k++) {
            const corpus_row *row = &c->rows[g.rows[k]];
            answer *a = &p->answers[p->n_answers++];
            *a = (answer){.logit = row->logit,
                          .choice = SIZE_MAX,
                          .n_tokens = row->trace.n_tokens,
                          .parsed = judge_parsed(&row->trace),
                          .right = judge_label(&row->trace)};
            for (size_t j = i; a->parsed && j < k && a->choice == SIZE_MAX; j++)
                if (judge_parsed(&c->rows[g.rows[j]].trace) &&
                    drr_answer_equal(first->kind, row->trace.answer, c->rows[g.rows[j]].trace.answer))
                    a->choice = p->answers[q->first + j - i].choice;
            if (a->parsed && a->choice == SIZE_MAX)
                a->choice = q->n_choices++;
            a->alone = study_judge(s, q, a, 0, 0);
        }
    }
    groups_clear(&g);
    return status;
}

drr_status study_add_fold(study *s, char **files, drr_error *err)
{
    corpus dev = {0}, test = {0};
    known_questions known = {0}, second = {0};
    drr_train_result ignored = {0};
    const uint32_t fold = s->n_folds++;
    const bool textless = strcmp(files[0], "-") == 0;
    drr_status status = textless ? DRR_OK : drr_critic_open(&s->critics[fold], files[0], err);
    if (status == DRR_OK)
        status = read_scored(&dev, files[1], s->reasoner, err);
    if (status == DRR_OK)
        status = read_scored(&test, files[2], s->reasoner, err);
    if (status == DRR_OK)
        s->metas[fold] = textless ? (critic_meta){.no_encoder = true} : *critic_get_meta(s->critics[fold]);
    if (status == DRR_OK && (s->refit || textless))
        status = judge_fit(&s->metas[fold], &ignored, &dev, s->seed, err);
    if (status == DRR_OK)
        status = read_questions(&known, files[3], "p_correct", err);
    if (status == DRR_OK)
        status = read_questions(&second, s->second, "correct", err);
    if (status == DRR_OK)
        status = add_questions(s, &s->dev, &dev, &known, &second, fold, err);
    if (status == DRR_OK)
        status = add_questions(s, &s->test, &test, &known, &second, fold, err);
    known_clear(&known);
    known_clear(&second);
    corpus_clear(&dev);
    corpus_clear(&test);
    return status;
}
