/* judge_routes.c: the critic as a reranker (llama.cpp's, vLLM's and TEI's shapes), a classifier and a scorer of pairs
 * (vLLM's), and a reward model (OpenRLHF's). What each field means: docs/judge.md. */
#include "serve/judge_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double number_of(const judge_call *c, const judge_item *item)
{
    switch (c->unit) {
    case JUDGE_P:
        return item->p_correct;
    case JUDGE_SIGMOID:
        return 1 / (1 + exp(-item->logit));
    default:
        return item->logit;
    }
}

/* A list of 1 to JUDGE_MOST_PAIRS items, or one item alone; *field is the name that it was found under. */
static bool take_list(judge_call *c, json_t **list, const char *const *fields, const char **field, bool single)
{
    json_t *found = NULL;
    for (*field = *fields; *fields && (!found || json_is_null(found)); fields++)
        if (json_object_get(c->body, *fields)) {
            *field = *fields;
            found = json_object_get(c->body, *field);
        }
    *list = found;
    if (single && (json_is_string(found) || json_is_object(found)))
        return true;
    if (!json_is_array(found))
        return judge_call_refuse(c, *field,
                                 !found   ? "\"%s\" is missing"
                                 : single ? "\"%s\" is neither a string nor a list of strings"
                                          : "\"%s\" is no list of strings",
                                 *field);
    const size_t n = json_array_size(found);
    if (n == 0)
        return judge_call_refuse(c, *field, "\"%s\" is an empty list", *field);
    if (n > JUDGE_MOST_PAIRS)
        return judge_call_refuse(c, *field, "\"%s\" has %zu items; %d are the most in one request", *field, n,
                                 JUDGE_MOST_PAIRS);
    return true;
}

static size_t size_of(const json_t *list)
{
    return json_is_array(list) ? json_array_size(list) : 1;
}

static json_t *item_of(json_t *list, size_t i)
{
    return json_is_array(list) ? json_array_get(list, i) : list;
}

/* "documents[3]", or the field alone where it holds no list. */
static const char *place_in(char place[64], const json_t *list, const char *field, size_t i)
{
    snprintf(place, 64, json_is_array(list) ? "%s[%zu]" : "%s", field, i);
    return place;
}

/* ---- rerank */

typedef struct ranked {
    double number;
    size_t index;
} ranked;

static int best_first(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->number != y->number)
        return x->number < y->number ? 1 : -1;
    return (x->index > y->index) - (x->index < y->index);
}

static json_t *rank_json(const judge_call *c, const ranked *r)
{
    const char *text = c->items[r->index].text;
    json_t *one =
        json_pack("{s:I, s:f}", "index", (json_int_t)r->index, c->tei ? "score" : "relevance_score", r->number);
    if (c->texts)
        json_object_set_new(one, c->tei ? "text" : "document",
                            c->tei ? json_string(text) : json_pack("{s:s}", "text", text));
    return one;
}

static json_t *rerank_reply(const judge_call *c)
{
    char id[256];
    ranked *order = calloc(c->n, sizeof *order);
    json_t *results = json_array();
    const size_t n = c->top_n > 0 && (size_t)c->top_n < c->n ? (size_t)c->top_n : c->n;
    if (!order || !results) {
        free(order);
        json_decref(results);
        return NULL;
    }
    for (size_t i = 0; i < c->n; i++)
        order[i] = (ranked){number_of(c, &c->items[i]), i};
    qsort(order, c->n, sizeof *order, best_first);
    for (size_t i = 0; i < n; i++)
        json_array_append_new(results, rank_json(c, &order[i]));
    free(order);
    if (c->tei)
        return results;
    snprintf(id, sizeof id, "rerank-%.200s", http_id(c->http));
    return json_pack("{s:s, s:s, s:s, s:o, s:o}", "id", id, "model", c->name, "object", "list", "usage", judge_usage(c),
                     "results", results);
}

static bool take_rerank(judge_call *c)
{
    static const char *const fields[] = {"documents", "texts", NULL};
    const char *field;
    char place[64];
    json_t *list, *query = json_object_get(c->body, "query");
    bool raw = true, activation = false;
    c->tei = json_object_get(c->body, "texts") != NULL;
    c->texts = !c->tei;
    if (!json_is_string(query))
        return judge_call_refuse(c, "query", query ? "\"query\" is no string" : "\"query\" is missing");
    if (!take_list(c, &list, fields, &field, false) || !judge_call_count(c, &c->top_n, "top_n") ||
        !judge_call_flag(c, &c->texts, c->tei ? "return_text" : "return_documents") ||
        !judge_call_flag(c, &raw, "raw_scores") || !judge_call_flag(c, &activation, "use_activation"))
        return false;
    c->unit = activation ? JUDGE_P : raw ? JUDGE_LOGIT : JUDGE_SIGMOID;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = judge_call_text(c, json_array_get(list, i), place_in(place, list, field, i));
        if (!text || !judge_call_add(c, json_string_value(query), text))
            return false;
    }
    return true;
}

/* ---- classify */

/* Of the critic's one logit, where it is asked for, there is no second class to tell. */
static json_t *classify_reply(const judge_call *c)
{
    json_t *data = json_array();
    for (size_t i = 0; data && i < c->n; i++) {
        const judge_item *item = &c->items[i];
        json_t *probs = c->unit == JUDGE_LOGIT ? json_pack("[f]", item->logit)
                                               : json_pack("[f, f]", item->p_correct, 1 - item->p_correct);
        json_array_append_new(data,
                              json_pack("{s:I, s:s, s:o, s:i, s:f}", "index", (json_int_t)i, "label",
                                        item->p_correct >= item->threshold ? "accept" : "reject", "probs", probs,
                                        "num_classes", c->unit == JUDGE_LOGIT ? 1 : 2, "threshold", item->threshold));
    }
    return data ? judge_reply_list(c, "classify", data) : NULL;
}

static bool add_pair(judge_call *c, const judge_pair *pair, const char *param)
{
    if (pair->question)
        return judge_call_add(c, pair->question, pair->text);
    return judge_call_refuse(
        c, param,
        "\"%s\" is one text, and the critic reads two, a question and the text that answers it: "
        "write [SEP] between them, \"Question: ...\" and \"Answer: ...\" at the beginning of lines, or "
        "an object with \"question\" and \"text\"",
        param);
}

static bool take_classify(judge_call *c)
{
    static const char *const fields[] = {"input", NULL};
    const char *field;
    char place[64];
    judge_pair pair;
    json_t *list, *messages = json_object_get(c->body, "messages");
    bool activation = true;
    if (!judge_call_flag(c, &activation, "use_activation") || !judge_call_flag(c, &activation, "activation"))
        return false;
    c->unit = activation ? JUDGE_P : JUDGE_LOGIT;
    if (messages && !json_object_get(c->body, "input")) {
        if (!json_is_array(messages))
            return judge_call_refuse(c, "messages", "\"messages\" is no list");
        return judge_pair_of(&pair, c, messages, "messages") && add_pair(c, &pair, "messages");
    }
    if (!take_list(c, &list, fields, &field, true))
        return false;
    for (size_t i = 0; i < size_of(list); i++) {
        json_t *item = item_of(list, i);
        place_in(place, list, field, i);
        if (!json_is_string(item) && !json_is_object(item))
            return judge_call_refuse(c, place, "\"%s\" is no string: ids of tokens are not taken", place);
        if (!judge_pair_of(&pair, c, item, place) || !add_pair(c, &pair, place))
            return false;
    }
    return true;
}

/* ---- score */

static json_t *score_reply(const judge_call *c)
{
    json_t *data = json_array();
    for (size_t i = 0; data && i < c->n; i++)
        json_array_append_new(data, json_pack("{s:I, s:s, s:f}", "index", (json_int_t)i, "object", "score", "score",
                                              number_of(c, &c->items[i])));
    return data ? judge_reply_list(c, "score", data) : NULL;
}

static bool take_score(judge_call *c)
{
    static const char *const first[] = {"queries", "text_1", "data_1", NULL};
    static const char *const second[] = {"documents", "items", "text_2", "data_2", NULL};
    const char *fields[2];
    char place[64];
    json_t *lists[2];
    bool activation = true;
    if (!take_list(c, &lists[0], first, &fields[0], true) || !take_list(c, &lists[1], second, &fields[1], true) ||
        !judge_call_flag(c, &activation, "use_activation") || !judge_call_flag(c, &activation, "activation"))
        return false;
    const size_t n = size_of(lists[0]), m = size_of(lists[1]);
    if (n != 1 && n != m)
        return judge_call_refuse(c, fields[1], "\"%s\" has %zu items and \"%s\" %zu: as many, or one of \"%s\" for all",
                                 fields[1], m, fields[0], n, fields[0]);
    c->unit = activation ? JUDGE_P : JUDGE_LOGIT;
    for (size_t i = 0; i < m; i++) {
        const size_t k = n == 1 ? 0 : i;
        const char *question = judge_call_text(c, item_of(lists[0], k), place_in(place, lists[0], fields[0], k));
        const char *text =
            question ? judge_call_text(c, item_of(lists[1], i), place_in(place, lists[1], fields[1], i)) : NULL;
        if (!text || !judge_call_add(c, question, text))
            return false;
    }
    return true;
}

/* ---- reward */

static json_t *reward_reply(const judge_call *c)
{
    json_t *rewards = json_array(), *scores = json_array();
    for (size_t i = 0; i < c->n; i++) {
        json_array_append_new(rewards, json_real(c->items[i].logit));
        json_array_append_new(scores, json_real(c->items[i].p_correct));
    }
    return json_pack("{s:o, s:o, s:{s:O, s:O}}", "rewards", rewards, "scores", scores, "extra_logs", "logit", rewards,
                     "p_correct", scores);
}

/* A query is prompt and response in one; with the prompt beside it the response is what follows. */
static bool take_reward(judge_call *c)
{
    static const char *const fields[] = {"query", NULL};
    const char *field;
    char place[64];
    judge_pair pair;
    json_t *list, *prompts = json_object_get(c->body, "prompts");
    if (!take_list(c, &list, fields, &field, false))
        return false;
    if (prompts && !json_is_null(prompts) && json_array_size(prompts) != json_array_size(list))
        return judge_call_refuse(c, "prompts", "\"prompts\" is no list of as many strings as \"query\" has, %zu",
                                 json_array_size(list));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *query = json_string_value(json_array_get(list, i));
        place_in(place, list, field, i);
        if (!query)
            return judge_call_refuse(c, place, "\"%s\" is no string", place);
        if (json_array_size(prompts) == 0) {
            if (!judge_pair_of_string(&pair, c, query) || !add_pair(c, &pair, place))
                return false;
            continue;
        }
        const char *prompt = json_string_value(json_array_get(prompts, i));
        if (!prompt)
            return judge_call_refuse(c, place_in(place, prompts, "prompts", i), "\"%s\" is no string", place);
        const size_t n = strlen(prompt);
        if (!judge_call_add(c, prompt, strncmp(query, prompt, n) == 0 ? query + n : query))
            return false;
    }
    return true;
}

/* ---- the doors */

static void serve(void *user, http_call *call, bool (*take)(judge_call *), judge_reply_fn reply)
{
    judge_call *c = judge_call_new(user, call);
    if (c && take(c))
        judge_call_go(c, reply);
    else if (c)
        judge_call_drop(c);
}

void judge_rerank(void *user, http_call *call)
{
    serve(user, call, take_rerank, rerank_reply);
}

void judge_classify(void *user, http_call *call)
{
    serve(user, call, take_classify, classify_reply);
}

void judge_score(void *user, http_call *call)
{
    serve(user, call, take_score, score_reply);
}

void judge_reward(void *user, http_call *call)
{
    serve(user, call, take_reward, reward_reply);
}
