/* hf_import.c: a whole critic from a Hugging Face folder: the encoder is read by hf.c, and what else a critic knows
 * comes from drr.json (hf_meta.c), or of a model that another program trained from nowhere. */
#include "critic/encoder_family.h"
#include "critic/hf_internal.h"

#include <stdlib.h>

/* A model that another program trained: nothing is known of it but its logit. */
static drr_status foreign_meta(critic_meta *m, const encoder *e, const char *folder, const char *out, drr_error *err)
{
    if (e->head == DRR_HEAD_TOKEN)
        return error_set(
            err, DRR_E_FORMAT,
            "%s: a classifier of tokens without drr.json: what its tokens say, and which of them says it of "
            "the whole text, is not known; import a BertForSequenceClassification",
            folder);
    json_t *config = NULL;
    size_t stem;
    const char *file = file_name(out, &stem);
    *m = (critic_meta){.threshold = 0.5, .calibration = {1, 0}, .max_length = e->shape.n_positions};
    m->name = string_copy_n(file, stem);
    if (!m->name)
        return error_memory(err);
    drr_status status = hf_parse_tokenizer_config(&config, folder, err);
    if (status == DRR_E_NOT_FOUND)
        status = DRR_OK;
    const double longest = config ? json_number_or(config, "model_max_length", 0) : 0;
    if (longest >= 16 && longest < (double)m->max_length)
        m->max_length = (uint32_t)longest;
    json_decref(config);
    return status;
}

static drr_status own_meta(critic_meta *m, drr_head head, const char *path, drr_error *err)
{
    json_t *o = NULL;
    drr_status status = json_parse_file(&o, path, err);
    if (status == DRR_OK)
        status = critic_meta_parse(m, head, o, path, err);
    json_decref(o);
    return status;
}

static drr_status no_head(const encoder *e, const char *folder, drr_error *err)
{
    const encoder_tensor *head = encoder_head(e);
    return error_set(
        err, DRR_E_FORMAT,
        "%s holds an encoder without a head (%s and %s of one label), which judges nothing yet: `drr train "
        "--encoder %s` makes a critic of it",
        folder, head[0].hf_name, e->tensors[e->n_tensors - 2].hf_name, folder);
}

/* All that a folder says of a critic; `out` is the file that a strange model's name is taken from. */
static drr_status read_folder(encoder **e, wordpiece **tokenizer, critic_meta *meta, bool *foreign, const char *folder,
                              const char *out, drr_error *err)
{
    char *path = NULL;
    bool has_head = false;
    encoder_shape shape = {0};
    drr_head head = DRR_HEAD_CLS;
    drr_status status = hf_read_config(&shape, &head, folder, err);
    if (status == DRR_OK)
        status = encoder_open_hf_headed(e, tokenizer, &has_head, folder, head, 0, err);
    if (status == DRR_OK && !has_head)
        status = no_head(*e, folder, err);
    if (status == DRR_OK)
        status = hf_path(&path, folder, "drr.json", err);
    if (status == DRR_OK) {
        *foreign = !file_exists(path);
        status = *foreign ? foreign_meta(meta, *e, folder, out, err) : own_meta(meta, head, path, err);
    }
    free(path);
    return status;
}

drr_status critic_open_folder(drr_critic **critic, bool *foreign, const char *folder, const char *name, drr_error *err)
{
    encoder *e = NULL;
    wordpiece *tokenizer = NULL;
    critic_meta meta = {0};
    const char none[65] = "";
    drr_status status = read_folder(&e, &tokenizer, &meta, foreign, folder, name, err);
    if (status == DRR_OK)
        status = critic_check(e, tokenizer, &meta, err);
    if (status == DRR_OK)
        status = critic_of_parts(critic, e, tokenizer, &meta, none, err);
    if (status != DRR_OK) {
        critic_meta_clear(&meta);
        encoder_free(e);
        wordpiece_free(tokenizer);
    }
    return status;
}

drr_status drr_critic_import(const char *folder, const char *out, bool *foreign, drr_error *err)
{
    encoder *e = NULL;
    wordpiece *tokenizer = NULL;
    critic_meta meta = {0};
    drr_status status = read_folder(&e, &tokenizer, &meta, foreign, folder, out, err);
    if (status == DRR_OK && *foreign)
        status = critic_probes_make(&meta, e, tokenizer, err);
    if (status == DRR_OK)
        status = critic_write(out, e, tokenizer, &meta, err);
    critic_meta_clear(&meta);
    encoder_free(e);
    wordpiece_free(tokenizer);
    return status;
}
