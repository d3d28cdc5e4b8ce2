/* fuzz_judge.c: any body for the routes that let others use the critic. The first byte says which route, the rest is
 * the body. It is answered, or refused with words, once; what is answered is JSON, and the server needs no memory for
 * it that it would not give back. */
#include "fuzz.h"
#include "http_stub.h"
#include "serve/judge.h"

#include <stdlib.h>

static judge *opened;

static void close_judge(void)
{
    judge_close(opened);
}

static void open_judge(void)
{
    encoder *e = small_encoder();
    wordpiece *w = small_tokenizer();
    critic_meta m = small_meta(false);
    drr_error err = {0};
    fuzz_that(critic_write("critic.gguf", e, w, &m, &err) == DRR_OK);
    critic_meta_clear(&m);
    wordpiece_free(w);
    encoder_free(e);
    fuzz_that(judge_open(&opened, "critic.gguf", DRR_PRECISION_FP32, 1, NULL, &err) == DRR_OK);
    atexit(close_judge);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct {
        const char *path;
        http_handler handler;
    } routes[] = {{"/v1/rerank", judge_rerank},       {"/v1/classify", judge_classify},
                  {"/v1/score", judge_score},         {"/v1/decisions", judge_decisions},
                  {"/v1/systemone", judge_systemone}, {"/get_reward", judge_reward}};
    enum { N = sizeof routes / sizeof *routes };
    if (!opened)
        open_judge();
    if (!size)
        return 0;
    const size_t i = data[0] % N;
    stub_reply reply = stub_ask(routes[i].handler, opened, routes[i].path, data + 1, size - 1);
    if (stub_is_well(&reply))
        fuzz_accepted++;
    else
        fuzz_that(reply.status == 400 || reply.status == 413);
    stub_reply_clear(&reply);
    return 0;
}
