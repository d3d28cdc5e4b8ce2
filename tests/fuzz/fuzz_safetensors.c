/* fuzz_safetensors.c: any bytes for the model.safetensors of a small encoder's folder: read, every value finite, or
 * refused with words that name the file. */
#include "fuzz.h"

#include <math.h>
#include <string.h>

static const char config[] = "{\"model_type\":\"bert\",\"hidden_act\":\"gelu\",\"hidden_size\":2,"
                             "\"intermediate_size\":2,\"num_hidden_layers\":1,\"num_attention_heads\":1,"
                             "\"vocab_size\":7,\"max_position_embeddings\":8,\"type_vocab_size\":1}";
static const char vocabulary[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    encoder *e = NULL;
    wordpiece *w = NULL;
    bool has_head;
    drr_error err = {0};
    files_clear();
    files_put("config.json", config, sizeof config - 1);
    files_put("vocab.txt", vocabulary, sizeof vocabulary - 1);
    files_put("model.safetensors", data, size);
    const drr_status status = encoder_open_hf(&e, &w, &has_head, "folder", 1, &err);
    if (status == DRR_OK) {
        fuzz_accepted++;
        for (size_t i = 0; i < e->n_parameters; i++)
            fuzz_that(isfinite(e->parameters[i]));
    } else {
        fuzz_refused(status, &err, "folder/model.safetensors");
        fuzz_that(!e && !w);
    }
    encoder_free(e);
    wordpiece_free(w);
    files_clear();
    return 0;
}
