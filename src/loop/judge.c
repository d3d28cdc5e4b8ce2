/* judge.c: the judges that need no other program: a trained critic, the reasoner's own word, length, log-probability
 * and agreement. What each of them computes is said for people in docs/reasoning.md. */
#include "loop/judge.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

double judge_logit(double p)
{
    enum { LEAST_ODDS = 1000000 };
    const double least = 1.0 / LEAST_ODDS;
    if (isnan(p))
        return NAN;
    p = p < least ? least : p > 1 - least ? 1 - least : p;
    return log(p / (1 - p));
}

double judge_p_of_logit(const drr_judge *judge, double logit, const drr_features *features)
{
    (void)judge;
    (void)features;
    return 1 / (1 + exp(-logit));
}

/* ---- the critic */

static drr_status critic_score(drr_judge *judge, double *logit, const judged_turn *turn, drr_error *err)
{
    const drr_score_item item = {.question = turn->question, .text = turn->text, .features = turn->features};
    drr_score score;
    drr_status status = drr_critic_score(judge->critic, &score, &item, 1, err);
    if (status == DRR_OK)
        *logit = score.logit;
    return status;
}

static double critic_p(const drr_judge *judge, double logit, const drr_features *features)
{
    return drr_critic_combine(judge->critic, logit, features);
}

static const judge_class critic_class = {.name = "critic", .calibrated = true, .score = critic_score, .p = critic_p};

drr_judge judge_of_critic(drr_critic *critic, char *name)
{
    return (drr_judge){.class = &critic_class, .name = name, .critic = critic};
}

/* ---- the reasoner itself: P(True) (Kadavath et al. 2022, arXiv 2207.05221) */

double judge_word(const char *text, const uint32_t *token_ends, const float *logprobs, size_t n)
{
    const char *word = text;
    while (*word && !isalpha((unsigned char)*word))
        word++;
    size_t length = 0;
    while (isalpha((unsigned char)word[length]))
        length++;
    const bool yes = (length == 3 && strncasecmp(word, "yes", 3) == 0) ||
                     (length == 4 && strncasecmp(word, "true", 4) == 0) ||
                     (length == 5 && strncasecmp(word, "right", 5) == 0);
    const bool no = (length == 2 && strncasecmp(word, "no", 2) == 0) ||
                    (length == 5 && (strncasecmp(word, "false", 5) == 0 || strncasecmp(word, "wrong", 5) == 0));
    if (!yes && !no)
        return NAN;
    const size_t begin = (size_t)(word - text), end = begin + length;
    double logprob = 0;
    bool known = false;
    for (size_t i = 0; i < n; i++)
        if (token_ends[i] > begin && (i ? token_ends[i - 1] : 0) < end) {
            logprob += (double)logprobs[i];
            known = true;
        }
    const double said = known ? exp(logprob) : 1;
    return yes ? said : 1 - said;
}

static const judge_class self_class = {.name = "self", .asks_reasoner = true, .p = judge_p_of_logit};

/* ---- what every turn offers */

static drr_status length_score(drr_judge *judge, double *logit, const judged_turn *turn, drr_error *err)
{
    enum { HALF = 100, BYTES_A_TOKEN = 4 };
    const double tokens =
        turn->features->n_tokens ? (double)turn->features->n_tokens : (double)strlen(turn->text) / BYTES_A_TOKEN;
    (void)judge;
    (void)err;
    *logit = judge_logit(HALF / (HALF + tokens));
    return DRR_OK;
}

static const judge_class length_class = {.name = "length", .score = length_score, .p = judge_p_of_logit};

static drr_status logprob_score(drr_judge *judge, double *logit, const judged_turn *turn, drr_error *err)
{
    (void)judge;
    (void)err;
    *logit = turn->features->stats.n ? judge_logit(exp((double)turn->features->stats.mean)) : NAN;
    return DRR_OK;
}

static const judge_class logprob_class = {
    .name = "logprob", .needs_logprobs = true, .score = logprob_score, .p = judge_p_of_logit};

static drr_status vote_score(drr_judge *judge, double *logit, const judged_turn *turn, drr_error *err)
{
    (void)judge;
    (void)turn;
    (void)err;
    *logit = 0;
    return DRR_OK;
}

/* The share of the answers that are this one, with one more counted against it: alone it is 1/2 and not 1. */
static double vote_p(const drr_judge *judge, double logit, const drr_features *features)
{
    (void)judge;
    (void)logit;
    return (features->n_agree + 1.0) / (features->n_others + 2.0);
}

static const judge_class vote_class = {.name = "vote", .score = vote_score, .p = vote_p};

/* ---- opening */

void drr_judge_options_defaults(drr_judge_options *options)
{
    *options = (drr_judge_options){.seconds = 60};
}

static bool is_address(const char *source)
{
    return strncmp(source, "http://", 7) == 0 || strncmp(source, "https://", 8) == 0;
}

static drr_status open_critic(drr_judge *j, const char *source, drr_error *err)
{
    drr_critic_info info;
    if (!file_exists(source))
        return error_set(err, DRR_E_NOT_FOUND,
                         "there is no judge \"%s\": name a critic's file, self, length, logprob, vote, or an address "
                         "such as http://127.0.0.1:8080/v1/rerank",
                         source);
    drr_status status = drr_critic_open(&j->critic, source, err);
    if (status != DRR_OK)
        return status;
    j->owns_critic = true;
    j->class = &critic_class;
    drr_critic_describe(j->critic, &info);
    j->name = string_copy(info.name && *info.name ? info.name : source);
    return DRR_OK;
}

drr_status drr_judge_open(drr_judge **judge, const char *source, const drr_judge_options *options, drr_error *err)
{
    static const judge_class *const plain[] = {&self_class, &length_class, &logprob_class, &vote_class};
    drr_judge_options defaults;
    drr_status status = DRR_OK;
    drr_judge *j = calloc(1, sizeof *j);
    if (!j)
        return error_memory(err);
    if (!options) {
        drr_judge_options_defaults(&defaults);
        options = &defaults;
    }
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (strcmp(plain[i]->name, source) == 0)
            j->class = plain[i];
    if (is_address(source)) {
        j->class = &judge_http_class;
        status = judge_http_open(&j->http, source, options, err);
    } else if (options->route || options->scale) {
        status = error_set(err, DRR_E_ARGUMENT, "a route or a scale is of an address, and the judge is %s", source);
    } else if (!j->class) {
        status = open_critic(j, source, err);
    }
    if (status == DRR_OK && !j->name)
        j->name = string_copy(source);
    if (status == DRR_OK && !j->name)
        status = error_memory(err);
    if (status == DRR_OK)
        *judge = j;
    else
        drr_judge_close(j);
    return status;
}

void drr_judge_close(drr_judge *judge)
{
    if (!judge)
        return;
    if (judge->owns_critic)
        drr_critic_close(judge->critic);
    judge_http_close(judge->http);
    free(judge->name);
    free(judge);
}

const char *drr_judge_name(const drr_judge *judge)
{
    return judge->name;
}

bool drr_judge_calibrated(const drr_judge *judge)
{
    return judge->class->calibrated;
}

drr_critic *drr_judge_critic(const drr_judge *judge)
{
    return judge->critic;
}
