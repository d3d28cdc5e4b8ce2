/* early.c: answers under way. Where a step ends, what is there so far is scored, by the critic or by the reasoner's own
 * certainty; where that is below the policy's bound the answer ends, and solve.c goes on from before that step. A
 * critic that scores steps judges each of them in the light of what is there; any other scores the text so far, which
 * means something where it was taught beginnings. All that are at a boundary after the same token are scored together,
 * while the reasoner waits. A question whose seconds are over ends here, too. */
#include "critic/critic.h"
#include "loop/loop_internal.h"
#include "loop/weigh.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Can it say anything of an answer under way? */
static drr_status check_critic(loop *l, drr_error *err)
{
    const drr_policy *p = l->policy;
    drr_critic_info info;
    if (!l->critic)
        return error_set(err, DRR_E_ARGUMENT,
                         "early rejection scores the steps of an answer under way, which a critic's file does and the "
                         "judge %s does not",
                         l->judge ? l->judge->name : "none");
    drr_critic_describe(l->critic, &info);
    if (info.kind == DRR_CRITIC_PROBE)
        return error_set(err, DRR_E_MISMATCH,
                         "early rejection needs a critic that reads text, and %s is a probe: `drr train "
                         "--beginnings 2` makes one that knows unfinished ones",
                         info.name);
    l->early_steps = info.head == DRR_HEAD_TOKEN;
    snprintf(l->cut_by, sizeof l->cut_by, "critic %.64s below %.9g from step %u at most %u times", info.sha256,
             p->early_below, p->early_steps, p->early_cuts);
    if (!l->early_steps && !info.n_train_beginnings)
        hooks_log(l->hooks, DRR_LOG_WARN,
                  "the critic %s was not trained on beginnings of answers, and scores them as if they were answers; "
                  "`drr train --beginnings 2` makes one that knows them, `drr train --steps` one that scores steps",
                  info.name);
    return DRR_OK;
}

drr_status early_check(loop *l, drr_error *err)
{
    const drr_policy *p = l->policy;
    const bool confidence = p->early_confidence > 0;
    if ((!(p->early_below > 0) && !confidence) ||
        (p->strategy != DRR_STRATEGY_DRR && p->strategy != DRR_STRATEGY_BEST_OF_N))
        return DRR_OK;
    if (p->grammar)
        return error_set(err, DRR_E_ARGUMENT,
                         "early rejection goes on from the middle of an answer, where no grammar can begin: leave out "
                         "one of the two");
    l->early = true;
    drr_status status = p->early_below > 0 ? check_critic(l, err) : DRR_OK;
    if (status != DRR_OK)
        return status;
    if (confidence) {
        const size_t n = strlen(l->cut_by);
        snprintf(l->cut_by + n, sizeof l->cut_by - n, "%sconfidence below %.9g from step %u at most %u times",
                 n ? "; " : "", p->early_confidence, p->early_steps, p->early_cuts);
    }
    if (confidence && reasoner_get_basis(l->reasoner)->recording[0])
        hooks_log(l->hooks, DRR_LOG_WARN,
                  "%s has no log-probabilities, so that no answer is stopped for want of confidence",
                  drr_reasoner_id(l->reasoner));
    if (!reasoner_get_basis(l->reasoner)->prefixes)
        hooks_log(l->hooks, DRR_LOG_WARN,
                  "%s cannot go on from the middle of an answer: what is stopped early begins again",
                  drr_reasoner_id(l->reasoner));
    return DRR_OK;
}

/* That can be read: one that cannot is none to fall back on. */
static uint32_t whole_answers(const seeker *s)
{
    uint32_t n = 0;
    for (size_t i = 0; i < s->result->n_turns; i++)
        n += drr_turn_answers(&s->result->turns[i]) && s->result->turns[i].answer;
    return n;
}

bool early_may_go_on(const loop *l, const seeker *s)
{
    return loop_draws_samples(l, s) || l->policy->early_free || loop_turns_spent(l, s) < l->policy->max_turns;
}

/* What is stopped has a turn left in which it is gone on with, or there is another answer already. */
bool early_watches(const loop *l, const loop_request *r)
{
    const drr_policy *p = l->policy;
    if (!l->early || r->role != role_attempt || r->cuts >= p->early_cuts)
        return false;
    if (loop_draws_samples(l, r->s))
        return r->sample >= p->early_after;
    if (p->early_after)
        return whole_answers(r->s) >= p->early_after;
    return p->early_free || loop_turns_spent(l, r->s) + 1 < p->max_turns;
}

/* ---- time */

static bool side_by_side(const loop *l, const seeker *s)
{
    const drr_policy *p = l->policy;
    return loop_draws_samples(l, s) && !p->max_tokens && (p->stop_confidence <= 0 || p->strategy == DRR_STRATEGY_DRR);
}

/* Of turns that follow each other, the sum of what each took, so that a question does not pay for the others that it
 * waits for, and texts from a cache count as when they were written. Samples that are drawn side by side take the time
 * from the first one on. */
double loop_seconds_of(const loop *l, const seeker *s, double running)
{
    const drr_result *r = s->result;
    if (side_by_side(l, s))
        return s->began_s > 0 ? clock_seconds() - s->began_s : 0;
    return r->seconds + r->judge_seconds + running;
}

static bool out_of_time(const loop *l, seeker *s, double running)
{
    const double began = clock_seconds() - running;
    if (!(l->policy->max_seconds > 0))
        return false;
    if (s->began_s <= 0 || began < s->began_s)
        s->began_s = began;
    return loop_seconds_of(l, s, running) >= l->policy->max_seconds;
}

/* ---- boundaries */

typedef struct beginning { /* of an answer, up to a step's end */
    loop_request *r;
    char *text;
    uint32_t *ends; /* of its steps: n of them, the last one its size */
    size_t n;
    double confidence; /* NaN: not known, or not asked for */
    bool bad;
} beginning;

static void beginning_clear(beginning *b)
{
    free(b->text);
    free(b->ends);
    *b = (beginning){0};
}

typedef struct written { /* so far: the text with what was kept, and the tokens behind that */
    const char *text;
    const reasoner_token *tokens; /* their ends counted from behind what was kept */
    size_t n;
} written;

/* Of the first `size` bytes, by the tokens that end there. */
static drr_status confidence_at(double *confidence, const loop_request *r, const written *w, size_t size,
                                drr_error *err)
{
    const size_t n_kept = r->kept ? strlen(r->kept) : 0;
    size_t n = r->n_kept_tokens;
    float *logprobs = calloc(n + w->n + 1, sizeof *logprobs);
    if (!logprobs)
        return error_memory(err);
    for (size_t i = 0; i < n; i++)
        logprobs[i] = r->kept_tokens[i].logprob;
    for (size_t i = 0; i < w->n && n_kept + w->tokens[i].end <= size; i++)
        logprobs[n++] = w->tokens[i].logprob;
    *confidence = w->n ? weigh_lowest_group(logprobs, n) : (double)NAN;
    free(logprobs);
    return DRR_OK;
}

/* A step has ended once another one has begun: only then does it show. found: at a step's end that is new, and that is
 * not too early. */
static drr_status find_boundary(bool *found, beginning *b, const loop *l, loop_request *r, const written *w,
                                drr_error *err)
{
    uint32_t *ends = NULL;
    size_t n = 0;
    *found = false;
    drr_status status = task_step_ends(&ends, &n, r->s->task->kind, w->text, err);
    if (status == DRR_OK && n >= 2 && ends[n - 2] > r->n_looked_at) {
        r->n_looked_at = ends[n - 2];
        if (n - 1 >= l->policy->early_steps) {
            *b = (beginning){
                .r = r, .text = string_copy_n(w->text, ends[n - 2]), .ends = ends, .n = n - 1, .confidence = NAN};
            status = b->text ? DRR_OK : error_memory(err);
            if (status == DRR_OK && l->policy->early_confidence > 0)
                status = confidence_at(&b->confidence, r, w, ends[n - 2], err);
            ends = NULL;
            *found = status == DRR_OK;
            if (!*found)
                beginning_clear(b);
        }
    }
    free(ends);
    return status;
}

static void note_bad(beginning *b, size_t step, double p)
{
    b->bad = true;
    b->r->good = step ? b->ends[step - 1] : 0;
    b->r->p_bad = p;
}

/* Each of its steps; the first one that is too bad. */
static drr_status score_steps(loop *l, beginning *b, drr_error *err)
{
    const drr_score_item item = {.question = b->r->s->question, .text = b->text};
    const size_t first = l->policy->early_steps ? l->policy->early_steps - 1 : 0;
    drr_score score;
    drr_step_score *steps = calloc(b->n + 1, sizeof *steps);
    if (!steps)
        return error_memory(err);
    drr_status status = drr_critic_score_steps(l->critic, &score, steps, &item, b->ends, b->n, err);
    for (size_t i = first; status == DRR_OK && i < b->n && !b->bad; i++)
        if (steps[i].p < l->policy->early_below) /* not where it is NaN: it did not fit */
            note_bad(b, i, steps[i].p);
    free(steps);
    return status;
}

static drr_status score_texts(loop *l, beginning *list, size_t n, drr_error *err)
{
    drr_score_item *items = calloc(n, sizeof *items);
    drr_score *scores = calloc(n, sizeof *scores);
    drr_status status = items && scores ? DRR_OK : error_memory(err);
    for (size_t i = 0; status == DRR_OK && i < n; i++)
        items[i] = (drr_score_item){.question = list[i].r->s->question, .text = list[i].text};
    if (status == DRR_OK)
        status = drr_critic_score(l->critic, scores, items, n, err);
    for (size_t i = 0; status == DRR_OK && i < n; i++)
        if (scores[i].p_correct < l->policy->early_below)
            note_bad(&list[i], list[i].n - 1, scores[i].p_correct);
    free(items);
    free(scores);
    return status;
}

static drr_status score_beginnings(loop *l, beginning *list, size_t n, drr_error *err)
{
    drr_status status = DRR_OK;
    const double began = clock_seconds();
    if (n == 0)
        return DRR_OK;
    if (l->policy->early_below > 0 && !l->early_steps)
        status = score_texts(l, list, n, err);
    for (size_t i = 0; status == DRR_OK && l->early_steps && i < n; i++)
        status = score_steps(l, &list[i], err);
    for (size_t i = 0; i < n; i++)
        if (!list[i].bad && list[i].confidence < l->policy->early_confidence)
            note_bad(&list[i], list[i].n - 1, list[i].confidence);
    const double each = (clock_seconds() - began) / (double)n;
    for (size_t i = 0; i < n; i++)
        list[i].r->s->result->judge_seconds += each;
    return status;
}

/* ---- while they are written */

static drr_status watch(loop *l, const reasoner_watched *texts, drr_finish *ends, size_t n, drr_error *err)
{
    drr_status status = DRR_OK;
    size_t n_found = 0;
    beginning *list = calloc(n, sizeof *list);
    size_t *where = calloc(n, sizeof *where);
    if (!list || !where)
        status = error_memory(err);
    for (size_t i = 0; status == DRR_OK && i < n; i++) {
        loop_request *r = texts[i].user;
        bool found = false;
        r->watched |= texts[i].text[0] != '\0'; /* what then comes whole is looked at when it is there */
        if (out_of_time(l, r->s, texts[i].seconds))
            ends[i] = DRR_FINISH_TIME;
        else if (early_watches(l, r))
            status = find_boundary(&found, &list[n_found], l, r,
                                   &(written){texts[i].text, texts[i].tokens, texts[i].n_tokens}, err);
        if (found)
            where[n_found++] = i;
    }
    if (status == DRR_OK)
        status = score_beginnings(l, list, n_found, err);
    for (size_t i = 0; list && i < n_found; i++) {
        if (status == DRR_OK && list[i].bad)
            ends[where[i]] = DRR_FINISH_CUT;
        beginning_clear(&list[i]);
    }
    free(list);
    free(where);
    return status;
}

void early_watch(void *user, const reasoner_watched *texts, drr_finish *ends, size_t n)
{
    loop *l = user;
    if (l->watch_status == DRR_OK)
        l->watch_status = watch(l, texts, ends, n, &l->watch_error);
    if (l->watch_status != DRR_OK) /* nothing that is still written will be wanted */
        for (size_t i = 0; i < n; i++)
            ends[i] = DRR_FINISH_TIME;
}

/* ---- afterwards */

/* Keeps what there would be had the completion ended after `size` bytes and n tokens; known: it tells of each. */
static void shorten(reasoner_completion *c, size_t size, uint32_t n, bool known)
{
    c->text[size] = '\0';
    c->seconds *= c->n_tokens ? (double)n / c->n_tokens : 1;
    c->n_tokens = n;
    c->n_token_stats = known ? n : 0;
    c->finish = DRR_FINISH_CUT;
    free(c->hidden);
    c->hidden = NULL;
    c->hidden_size = 0;
}

drr_status early_cut_ready(loop *l, loop_request *r, reasoner_completion *c, drr_error *err)
{
    enum { BYTES_A_TOKEN = 4 }; /* as the replay reasoner counts, which has no tokens */
    const size_t n_kept = r->kept ? strlen(r->kept) : 0, size = c->text ? strlen(c->text) : 0;
    const bool known = c->tokens && c->n_token_stats == c->n_tokens;
    const size_t n = known ? c->n_token_stats : (size + BYTES_A_TOKEN - 1) / BYTES_A_TOKEN;
    drr_status status = DRR_OK;
    const bool was_cut = c->finish == DRR_FINISH_CUT; /* and is from a cache: where and why is to be found again */
    if (r->watched || !early_watches(l, r) || size == 0)
        return DRR_OK;
    if (was_cut) {
        r->good = (uint32_t)n_kept;
        r->p_bad = NAN;
    }
    buffer so_far = {0};
    status = buffer_puts(&so_far, r->kept ? r->kept : "", err);
    for (size_t i = 0; status == DRR_OK && i + !was_cut < n; i++) { /* behind the last one it is over */
        const size_t end = known ? c->tokens[i].end : (i + 1) * BYTES_A_TOKEN;
        beginning b = {0};
        bool found = false;
        so_far.size = n_kept;
        status = buffer_append(&so_far, c->text, end < size ? end : size, err);
        if (status == DRR_OK)
            status = find_boundary(&found, &b, l, r, &(written){so_far.data, c->tokens, known ? i + 1 : 0}, err);
        if (status == DRR_OK && found)
            status = score_beginnings(l, &b, 1, err);
        const bool bad = b.bad;
        beginning_clear(&b);
        if (bad) {
            shorten(c, end < size ? end : size, (uint32_t)i + 1, known);
            break;
        }
    }
    buffer_clear(&so_far);
    return status;
}
