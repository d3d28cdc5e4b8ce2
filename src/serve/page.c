/* page.c: the server's page (page.html, embedded by tools/embed.cmake) and the recent requests that it shows. Requests
 * are kept in a list of one block of memory each, bounded in bytes; a reader holds those that it writes out, so that
 * the engine's thread waits for nobody. */
#include "serve/page.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TEXT_BYTES = 16 << 10, MOST_TURNS = 64, USUAL = 50, MOST = 200 };

extern const unsigned char page_html[];
extern const size_t page_html_size;

typedef struct kept_turn {
    const char *text, *answer, *feedback;
    double logit, p_correct, seconds;
    drr_verdict verdict;
    drr_finish finish;
    uint32_t n_prompt_tokens, n_tokens;
} kept_turn;

typedef struct kept { /* its strings lie behind its turns, in the same block */
    struct kept *next;
    size_t bytes, users; /* users: the list, and readers; under the lock */
    uint64_t number;
    time_t time;
    const char *id, *model, *outcome, *question, *answer;
    double p_correct, threshold, seconds;
    size_t n_turns, n_left_out;
    kept_turn turns[];
} kept;

struct page {
    size_t most_bytes;
    atomic_bool texts;
    char policy[512]; /* Content-Security-Policy */
    char start[17];   /* names this run of the server: numbers begin anew with each */
    pthread_mutex_t lock;
    kept *first, **last; /* oldest first */
    size_t bytes;
    uint64_t n;
};

void page_options_defaults(page_options *options)
{
    *options = (page_options){.bytes = (size_t)8 << 20, .texts = true};
}

/* ---- the page itself */

static void base64(char *text, const uint8_t *bytes, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        const uint32_t left = (uint32_t)(n - i), word = (uint32_t)bytes[i] << 16 |
                                                        (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                                                        (left > 2 ? (uint32_t)bytes[i + 2] : 0);
        *text++ = digits[word >> 18];
        *text++ = digits[word >> 12 & 63];
        *text++ = left > 1 ? digits[word >> 6 & 63] : '=';
        *text++ = left > 2 ? digits[word & 63] : '=';
    }
    *text = '\0';
}

/* 'sha256-...' of what stands between two tags of the page: nothing else may run or lay out. */
static bool source_hash(char out[64], const char *html, const char *open, const char *close)
{
    const char *begin = strstr(html, open), *end = begin ? strstr(begin, close) : NULL;
    char hex[65], code[48];
    uint8_t bytes[32];
    sha256 h;
    if (!end)
        return false;
    begin += strlen(open);
    sha256_begin(&h);
    sha256_add(&h, begin, (size_t)(end - begin));
    sha256_end(&h, hex);
    for (size_t i = 0; i < 32; i++) {
        const char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        bytes[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    base64(code, bytes, 32);
    snprintf(out, 64, "'sha256-%s'", code);
    return true;
}

static drr_status make_policy(page *p, drr_error *err)
{
    char script[64], style[64];
    char *html = string_copy_n((const char *)page_html, page_html_size);
    if (!html)
        return error_memory(err);
    const bool good =
        source_hash(script, html, "<script>", "</script>") && source_hash(style, html, "<style>", "</style>");
    free(html);
    if (!good)
        return error_set(err, DRR_E_FORMAT,
                         "the page that drr was built with has no script or no style: build drr again");
    snprintf(p->policy, sizeof p->policy,
             "default-src 'none'; script-src %s; style-src %s; connect-src 'self'; img-src data:; base-uri 'none'; "
             "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
             script, style);
    return DRR_OK;
}

void page_get(void *user, http_call *call)
{
    const page *p = user;
    char *body = malloc(page_html_size);
    if (!body) {
        http_reply_error(call, 500, NULL, NULL, NULL, "out of memory");
        return;
    }
    memcpy(body, page_html, page_html_size);
    http_add_header(call, "Content-Security-Policy", p->policy);
    http_add_header(call, "X-Content-Type-Options", "nosniff");
    http_add_header(call, "X-Frame-Options", "DENY");
    http_add_header(call, "Referrer-Policy", "no-referrer");
    http_add_header(call, "Cross-Origin-Opener-Policy", "same-origin");
    http_add_header(call, "Cache-Control", "no-cache");
    http_reply(call, 200, "text/html; charset=utf-8", body, page_html_size);
}

/* ---- keeping */

static size_t cut_length(const char *text)
{
    size_t n = strnlen(text, TEXT_BYTES + 1);
    if (n <= TEXT_BYTES)
        return n;
    for (n = TEXT_BYTES; n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80; n--) /* between characters */
        ;
    return n;
}

typedef struct pen { /* counts what strings take, then writes them */
    char *at;
    size_t bytes;
} pen;

static const char *put_text(pen *p, const char *text, bool kept_at_all)
{
    if (!text || !kept_at_all)
        return NULL;
    const size_t n = cut_length(text);
    p->bytes += n + 1;
    if (!p->at)
        return NULL;
    char *to = p->at;
    memcpy(to, text, n);
    to[n] = '\0';
    p->at += n + 1;
    return to;
}

static void put_record(pen *strings, kept *k, const engine_record *record, bool texts)
{
    kept scratch;
    kept *head = k ? k : &scratch;
    head->id = put_text(strings, record->id, true);
    head->model = put_text(strings, record->model, true);
    head->outcome = put_text(strings, record->outcome, true);
    head->question = put_text(strings, record->question, texts);
    head->answer = put_text(strings, record->answer, texts);
    for (size_t i = 0; i < record->n_turns && i < MOST_TURNS; i++) {
        const engine_turn *from = &record->turns[i];
        const kept_turn turn = {.text = put_text(strings, from->text, texts),
                                .answer = put_text(strings, from->answer, texts),
                                .feedback = put_text(strings, from->feedback, texts),
                                .logit = from->logit,
                                .p_correct = from->p_correct,
                                .seconds = from->seconds,
                                .verdict = from->verdict,
                                .finish = from->finish,
                                .n_prompt_tokens = from->n_prompt_tokens,
                                .n_tokens = from->n_tokens};
        if (k)
            k->turns[i] = turn;
    }
}

static void let_go(kept *k) /* under the lock */
{
    if (--k->users == 0)
        free(k);
}

void page_keep(void *user, const engine_record *record)
{
    page *p = user;
    const bool texts = atomic_load(&p->texts);
    pen strings = {0};
    put_record(&strings, NULL, record, texts);
    const size_t n_turns = record->n_turns < MOST_TURNS ? record->n_turns : MOST_TURNS;
    const size_t head = sizeof(kept) + n_turns * sizeof(kept_turn), bytes = head + strings.bytes;
    kept *k = bytes <= p->most_bytes ? calloc(1, bytes) : NULL;
    if (!k)
        return; /* one that does not fit is not shown; the page is a convenience */
    strings.at = (char *)k + head;
    put_record(&strings, k, record, texts);
    k->bytes = bytes;
    k->users = 1;
    k->time = time(NULL);
    k->p_correct = record->p_correct;
    k->threshold = record->threshold;
    k->seconds = record->seconds;
    k->n_turns = n_turns;
    k->n_left_out = record->n_turns - n_turns;
    pthread_mutex_lock(&p->lock);
    if (texts && !atomic_load(&p->texts)) { /* forbidden meanwhile */
        pthread_mutex_unlock(&p->lock);
        free(k);
        return;
    }
    k->number = ++p->n;
    *p->last = k;
    p->last = &k->next;
    for (p->bytes += bytes; p->bytes > p->most_bytes;) {
        kept *oldest = p->first;
        p->first = oldest->next;
        p->bytes -= oldest->bytes;
        let_go(oldest);
    }
    pthread_mutex_unlock(&p->lock);
}

static void forget_all(page *p) /* under the lock */
{
    while (p->first) {
        kept *next = p->first->next;
        let_go(p->first);
        p->first = next;
    }
    p->last = &p->first;
    p->bytes = 0;
}

void page_set_texts(page *p, bool texts)
{
    pthread_mutex_lock(&p->lock);
    if (atomic_exchange(&p->texts, texts) && !texts)
        forget_all(p);
    pthread_mutex_unlock(&p->lock);
}

/* ---- showing */

static json_t *text_or_null(const char *text)
{
    if (!text)
        return json_null();
    json_t *value = json_string(text);
    if (value)
        return value;
    char *ascii = string_copy(text); /* not UTF-8: what an upstream sent may be anything */
    for (char *c = ascii; c && *c; c++)
        if (*c & 0x80)
            *c = '?';
    value = json_string(ascii ? ascii : "");
    free(ascii);
    return value;
}

static json_t *turn_json(const kept_turn *t, size_t index)
{
    return json_pack("{s:I,s:s,s:o,s:o,s:o,s:o,s:o,s:s,s:I,s:I,s:o}", "turn", (json_int_t)index, "verdict",
                     drr_verdict_name(t->verdict), "p_correct", json_number_or_null(t->p_correct), "logit",
                     json_number_or_null(t->logit), "answer", text_or_null(t->answer), "text", text_or_null(t->text),
                     "feedback", text_or_null(t->feedback), "finish", drr_finish_name(t->finish), "prompt_tokens",
                     (json_int_t)t->n_prompt_tokens, "completion_tokens", (json_int_t)t->n_tokens, "seconds",
                     json_number_or_null(t->seconds));
}

static json_t *kept_json(const kept *k)
{
    json_t *turns = json_array();
    for (size_t i = 0; i < k->n_turns; i++)
        json_array_append_new(turns, turn_json(&k->turns[i], i));
    return json_pack("{s:I,s:o,s:I,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:I}", "n", (json_int_t)k->number, "id",
                     text_or_null(k->id), "created", (json_int_t)k->time, "model", text_or_null(k->model), "outcome",
                     text_or_null(k->outcome), "question", text_or_null(k->question), "answer", text_or_null(k->answer),
                     "p_correct", json_number_or_null(k->p_correct), "threshold", json_number_or_null(k->threshold),
                     "seconds", json_number_or_null(k->seconds), "turns", turns, "turns_left_out",
                     (json_int_t)k->n_left_out);
}

/* A whole number of the query; false: it is none. */
static bool query_number(uint64_t *value, const http_call *call, const char *name, uint64_t fallback)
{
    const char *text = http_query(call, name);
    *value = fallback;
    if (!text)
        return true;
    if (!*text || strlen(text) > 18 || text[strspn(text, "0123456789")])
        return false;
    *value = strtoull(text, NULL, 10);
    return true;
}

/* Holds what is to be shown: behind `after`, else the newest ones. */
static size_t hold(page *p, kept *shown[MOST], uint64_t after, uint64_t limit, uint64_t *newest)
{
    size_t n = 0;
    pthread_mutex_lock(&p->lock);
    *newest = p->n;
    if (after == UINT64_MAX)
        after = p->n > limit ? p->n - limit : 0;
    for (kept *k = p->first; k && n < limit; k = k->next)
        if (k->number > after) {
            k->users++;
            shown[n++] = k;
        }
    pthread_mutex_unlock(&p->lock);
    return n;
}

void page_traces(void *user, http_call *call)
{
    page *p = user;
    uint64_t after, limit, newest;
    kept *shown[MOST];
    if (!query_number(&after, call, "after", UINT64_MAX) || !query_number(&limit, call, "limit", USUAL) || limit < 1 ||
        limit > MOST) {
        http_reply_error(call, 400, NULL, NULL, NULL,
                         "\"after\" is the number of a trace, and \"limit\" one from 1 to %d", MOST);
        return;
    }
    const size_t n = hold(p, shown, after, limit, &newest);
    json_t *data = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(data, kept_json(shown[i]));
    pthread_mutex_lock(&p->lock);
    for (size_t i = 0; i < n; i++)
        let_go(shown[i]);
    pthread_mutex_unlock(&p->lock);
    json_t *all = json_pack("{s:s,s:o,s:I,s:b,s:s}", "object", "list", "data", data, "newest", (json_int_t)newest,
                            "texts", (int)atomic_load(&p->texts), "start", p->start);
    if (!all) {
        http_reply_error(call, 500, NULL, NULL, NULL, "out of memory");
        return;
    }
    http_add_header(call, "Cache-Control", "no-store");
    http_reply_json(call, 200, all);
}

/* ---- opening and closing */

drr_status page_open(page **result, const page_options *options, drr_error *err)
{
    page *p = calloc(1, sizeof *p);
    if (!p)
        return error_memory(err);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(p->start, sizeof p->start, "%016llx",
             (unsigned long long)hash_mix((uint64_t)now.tv_sec, (uint64_t)now.tv_nsec));
    p->most_bytes = options->bytes;
    atomic_init(&p->texts, options->texts);
    p->last = &p->first;
    pthread_mutex_init(&p->lock, NULL);
    drr_status status = make_policy(p, err);
    if (status == DRR_OK)
        *result = p;
    else
        page_close(p);
    return status;
}

void page_close(page *p)
{
    if (!p)
        return;
    forget_all(p);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
