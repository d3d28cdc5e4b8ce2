/* judge_http.c: another program as the judge, over one of five routes whose shapes are their makers' own: rerank
 * (llama.cpp, Jina, Text Embeddings Inference), score and classify (vLLM), decisions (OpenAI) and systemone. One answer
 * a request; what comes back is a chance that the answer is right, or log-odds of it. A reply of another shape ends the
 * run with what was missing: a judge that is misread would be worse than none. */
#include "core/json.h"
#include "loop/judge.h"
#include "net/net.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct http_judge http_judge;

typedef struct route {
    const char *name;
    json_t *(*request)(const char *question, const char *text);
    drr_status (*read)(const http_judge *h, double *value, json_t *reply, drr_error *err);
    bool scaled; /* a bare number, of which `scale` says what it is */
    bool logit;  /* and what it is where nobody says */
} route;

struct http_judge {
    net_client *client;
    const route *route;
    char *address, *model;
    bool logit;
};

static const char instructions[] = "Is this answer to the question right?";

/* ---- requests; NULL when memory is out */

static json_t *rerank_request(const char *question, const char *text)
{
    return json_pack("{s:s,s:[s],s:i}", "query", question, "documents", text, "top_n", 1);
}

static json_t *score_request(const char *question, const char *text)
{
    return json_pack("{s:s,s:s}", "queries", question, "documents", text);
}

/* As one text, for servers differ in how they join two; the mark becomes the token where a BERT's tokenizer reads it.
 */
static json_t *classify_request(const char *question, const char *text)
{
    buffer joined = {0};
    json_t *o = NULL;
    if (buffer_printf(&joined, NULL, "%s [SEP] %s", question, text) == DRR_OK)
        o = json_pack("{s:[s]}", "input", joined.data);
    buffer_clear(&joined);
    return o;
}

static json_t *decisions_request(const char *question, const char *text)
{
    buffer joined = {0};
    json_t *o = NULL;
    if (buffer_printf(&joined, NULL, "Question: %s\n\nAnswer: %s", question, text) == DRR_OK)
        o = json_pack("{s:s,s:[{s:s,s:s,s:s}]}", "input", joined.data, "questions", "type", "predicate", "name",
                      "right", "instructions", instructions);
    buffer_clear(&joined);
    return o;
}

static json_t *systemone_request(const char *question, const char *text)
{
    return json_pack("{s:{s:s,s:s},s:{s:{s:s,s:s}}}", "state", "question", question, "answer", text, "questions",
                     "right", "type", "noul", "instructions", instructions);
}

/* ---- replies */

static drr_status missing(const http_judge *h, const char *what, drr_error *err)
{
    return error_set(err, DRR_E_FORMAT,
                     "%s: the reply has no %s, so it is not what the route %s answers; name the right one with "
                     "--judge-route",
                     h->address, what, h->route->name);
}

/* The number of this name in the first of a list, whose only element it should be. */
static drr_status first_number(const http_judge *h, double *value, json_t *list, const char *name, const char *what,
                               drr_error *err)
{
    json_t *number = json_object_get(json_array_get(list, 0), name);
    if (!json_is_number(number))
        return missing(h, what, err);
    *value = json_number_value(number);
    return DRR_OK;
}

static drr_status rerank_read(const http_judge *h, double *value, json_t *reply, drr_error *err)
{
    if (json_is_array(reply)) /* Text Embeddings Inference */
        return first_number(h, value, reply, "score", "[0].score", err);
    return first_number(h, value, json_object_get(reply, "results"), "relevance_score", "results[0].relevance_score",
                        err);
}

static drr_status score_read(const http_judge *h, double *value, json_t *reply, drr_error *err)
{
    return first_number(h, value, json_object_get(reply, "data"), "score", "data[0].score", err);
}

/* Which of two classes means right is known by the name of the likelier one. */
static drr_status classify_read(const http_judge *h, double *value, json_t *reply, drr_error *err)
{
    static const char *const good[] = {"accept", "right", "correct", "yes", "true", "LABEL_1"};
    static const char *const bad[] = {"reject", "wrong", "incorrect", "no", "false", "LABEL_0"};
    json_t *first = json_array_get(json_object_get(reply, "data"), 0), *probs = json_object_get(first, "probs");
    const char *label = json_string_or(first, "label", "");
    const size_t n = json_array_size(probs);
    for (size_t i = 0; i < n; i++)
        if (!json_is_number(json_array_get(probs, i)))
            return missing(h, "number in data[0].probs", err);
    if (n == 1) {
        *value = json_number_value(json_array_get(probs, 0));
        return DRR_OK;
    }
    if (n != 2)
        return missing(h, "data[0].probs of one class or two", err);
    const double a = json_number_value(json_array_get(probs, 0)), b = json_number_value(json_array_get(probs, 1));
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (strcasecmp(label, good[i]) == 0)
            *value = a > b ? a : b;
        else if (strcasecmp(label, bad[i]) == 0)
            *value = a > b ? b : a;
        else
            continue;
        return DRR_OK;
    }
    return error_set(err, DRR_E_MISMATCH,
                     "%s names a class \"%.60s\", and it cannot be told whether that means right: name them accept and "
                     "reject, or take a model of one class",
                     h->address, label);
}

static drr_status decisions_read(const http_judge *h, double *value, json_t *reply, drr_error *err)
{
    return first_number(h, value, json_object_get(reply, "answers"), "probability", "answers[0].probability", err);
}

static drr_status systemone_read(const http_judge *h, double *value, json_t *reply, drr_error *err)
{
    json_t *answers = json_object_get(reply, "answers");
    json_t *number = json_object_get(json_object_get(answers ? answers : reply, "right"), "noul");
    if (!json_is_number(number))
        return missing(h, "answers.right.noul", err);
    *value = json_number_value(number);
    return DRR_OK;
}

static const route routes[] = {{"rerank", rerank_request, rerank_read, true, true},
                               {"classify", classify_request, classify_read, false, false},
                               {"score", score_request, score_read, true, false},
                               {"decisions", decisions_request, decisions_read, false, false},
                               {"systemone", systemone_request, systemone_read, false, false}};
enum { ROUTES = sizeof routes / sizeof *routes };

/* ---- opening */

static const route *route_named(const char *name, size_t length)
{
    if (length == 9 && strncmp(name, "reranking", 9) == 0)
        length = 6;
    for (size_t i = 0; i < ROUTES; i++)
        if (strlen(routes[i].name) == length && strncmp(name, routes[i].name, length) == 0)
            return &routes[i];
    return NULL;
}

/* The last part of the path; a base such as http://host/v1 gets the route's own behind it. */
static drr_status find_route(http_judge *h, const char *address, const char *named, drr_error *err)
{
    size_t length = strcspn(address, "?#");
    while (length && address[length - 1] == '/')
        length--;
    const char *last = address + length;
    while (last > address && last[-1] != '/')
        last--;
    const route *by_path = route_named(last, (size_t)(address + length - last));
    h->route = named ? route_named(named, strlen(named)) : by_path;
    if (!h->route && named)
        return error_set(err, DRR_E_ARGUMENT,
                         "there is no route \"%s\": choose rerank, classify, score, decisions or systemone", named);
    if (!h->route)
        return error_set(err, DRR_E_ARGUMENT,
                         "%s does not end in a route that is known, rerank, classify, score, decisions or systemone: "
                         "name one with --judge-route",
                         address);
    buffer whole = {0};
    const char *base = "/v1";
    const bool is_base = !by_path && length >= 3 && strncmp(address + length - 3, base, 3) == 0;
    drr_status status = is_base ? buffer_printf(&whole, err, "%.*s/%s", (int)length, address, h->route->name)
                                : buffer_puts(&whole, address, err);
    if (status == DRR_OK)
        h->address = buffer_take(&whole);
    return status;
}

static drr_status find_scale(http_judge *h, const char *scale, drr_error *err)
{
    h->logit = h->route->logit;
    if (!scale)
        return DRR_OK;
    if (!h->route->scaled)
        return error_set(err, DRR_E_ARGUMENT,
                         "the route %s says itself what its numbers are: a scale is for rerank "
                         "and score",
                         h->route->name);
    if (strcmp(scale, "logit") != 0 && strcmp(scale, "probability") != 0)
        return error_set(err, DRR_E_ARGUMENT, "there is no scale \"%s\": it is logit or probability", scale);
    h->logit = strcmp(scale, "logit") == 0;
    return DRR_OK;
}

drr_status judge_http_open(void **http, const char *address, const drr_judge_options *options, drr_error *err)
{
    const char *key = getenv("DRR_JUDGE_API_KEY");
    const net_options net = {.key = key && *key ? key : NULL,
                             .ca_file = options->ca_file,
                             .seconds = options->seconds,
                             .hooks = options->hooks};
    http_judge *h = calloc(1, sizeof *h);
    if (!h)
        return error_memory(err);
    h->model = string_copy(options->model);
    drr_status status = options->model && !h->model ? error_memory(err) : find_route(h, address, options->route, err);
    if (status == DRR_OK)
        status = find_scale(h, options->scale, err);
    if (status == DRR_OK)
        status = net_client_new(&h->client, h->address, &net, err);
    if (status == DRR_OK)
        *http = h;
    else
        judge_http_close(h);
    return status;
}

void judge_http_close(void *http)
{
    http_judge *h = http;
    if (!h)
        return;
    net_client_free(h->client);
    free(h->address);
    free(h->model);
    free(h);
}

/* ---- scoring */

static drr_status make_body(char **body, const http_judge *h, const judged_turn *turn, drr_error *err)
{
    json_t *o = h->route->request(turn->question, turn->text);
    const bool whole = o && (!h->model || json_object_set_new(o, "model", json_string(h->model)) == 0);
    *body = whole ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    return *body ? DRR_OK
                 : error_set(err, DRR_E_MEMORY,
                             "no request could be made of an answer: memory is out, or it is not UTF-8");
}

static drr_status to_logit(const http_judge *h, double *logit, double value, drr_error *err)
{
    if (h->route->scaled && h->logit) {
        *logit = value;
        return DRR_OK;
    }
    if (!(value >= 0 && value <= 1))
        return error_set(err, DRR_E_FORMAT, "%s gave %g where a probability was expected%s", h->address, value,
                         h->route->scaled ? "; where its numbers are log-odds, say so with --judge-scale logit" : "");
    *logit = judge_logit(value);
    return DRR_OK;
}

static drr_status http_score(drr_judge *judge, double *logit, const judged_turn *turn, drr_error *err)
{
    const http_judge *h = judge->http;
    char *body = NULL, *text = NULL;
    json_t *reply = NULL;
    double value = NAN;
    drr_status status = make_body(&body, h, turn, err);
    if (status == DRR_OK)
        status = net_post_json(h->client, &text, body, err);
    if (status == DRR_OK)
        status = json_parse(&reply, text, strlen(text), h->address, err);
    if (status == DRR_OK)
        status = h->route->read(h, &value, reply, err);
    if (status == DRR_OK)
        status = to_logit(h, logit, value, err);
    json_decref(reply);
    free(text);
    free(body);
    return status;
}

const judge_class judge_http_class = {.name = "http", .score = http_score, .p = judge_p_of_logit};
