/* fuzz_judge.c: any body for the judge's routes; its first byte says which. Each call is ended once, by a 200 with
 * numbers or a 400 with words. What is not under test is HTTP: a call here is its body and its reply. */
#include "critic/gguf.h"
#include "fuzz.h"
#include "serve/judge.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct http_call {
    const char *body;
    size_t size;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    int times, status;
    json_t *reply;
};

const char *http_body(const http_call *call, size_t *size)
{
    *size = call->size;
    return call->body;
}

const char *http_id(const http_call *call)
{
    (void)call;
    return "fuzz";
}

void http_add_header(http_call *call, const char *name, const char *value)
{
    fuzz_that(call->times == 0 && *name && *value);
}

void http_on_gone(http_call *call, void (*gone)(void *user), void *user)
{
    fuzz_that(call->times == 0 && gone && user);
}

static void end(http_call *call, int status, json_t *reply)
{
    pthread_mutex_lock(&call->lock);
    call->times++;
    call->status = status;
    call->reply = reply;
    pthread_cond_signal(&call->ended);
    pthread_mutex_unlock(&call->lock);
}

void http_reply_json(http_call *call, int status, json_t *value)
{
    end(call, status, value);
}

void http_reply_error(http_call *call, int status, const char *type, const char *param, const char *code,
                      const char *format, ...)
{
    char words[1024];
    va_list arguments;
    va_start(arguments, format);
    const int n = vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    fuzz_that(n > 0 && !type && !code);
    end(call, status, json_pack("{s:s%}", "param", param ? param : "", param ? strlen(param) : 0));
}

static judge *the_judge(void)
{
    static judge *j;
    drr_error err = {0};
    if (!j) {
        encoder *e = small_encoder();
        wordpiece *w = small_tokenizer();
        critic_meta m = small_meta(true);
        fuzz_that(critic_write("c.gguf", e, w, &m, &err) == DRR_OK);
        critic_meta_clear(&m);
        wordpiece_free(w);
        encoder_free(e);
        fuzz_that(judge_open(&j, "c.gguf", DRR_PRECISION_FP32, 1, NULL, &err) == DRR_OK);
        files_clear();
    }
    return j;
}

/* It can be written: jansson has no number that is none. */
static void check_reply(const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    fuzz_that(text != NULL);
    free(text);
    fuzz_accepted++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const http_handler routes[] = {judge_rerank,    judge_classify,  judge_score,
                                          judge_decisions, judge_systemone, judge_reward};
    judge *j = the_judge();
    if (size == 0)
        return 0;
    char *body = malloc(size); /* the NUL that every body has behind it takes the first byte's place */
    fuzz_that(body != NULL);
    memcpy(body, data + 1, size - 1);
    body[size - 1] = '\0';
    http_call call = {
        .body = body, .size = size - 1, .lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
    routes[*data % 6](j, &call);
    pthread_mutex_lock(&call.lock);
    while (call.times == 0)
        pthread_cond_wait(&call.ended, &call.lock);
    pthread_mutex_unlock(&call.lock);
    fuzz_that(call.times == 1 && (call.status == 200 || call.status == 400));
    if (call.status == 200)
        check_reply(call.reply);
    json_decref(call.reply);
    free(body);
    return 0;
}
