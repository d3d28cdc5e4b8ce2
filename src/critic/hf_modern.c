/* hf_modern.c: ModernBERT's config.json, both ways: rotary positions, global and local layers, pooling. What drr's
 * encoder does not do is refused by name. */
#include "critic/encoder_family.h"
#include "critic/hf_internal.h"

#include <math.h>
#include <string.h>

static drr_status want_false(json_t *config, const char *field, const char *folder, drr_error *err)
{
    if (!json_bool_or(config, field, false))
        return DRR_OK;
    return error_set(err, DRR_E_FORMAT,
                     "%s/config.json: \"%s\" is true; drr handles ModernBERT encoders without biases", folder, field);
}

/* Newer files say it as a list: "full_attention" where a layer is global, "sliding_attention" where it is local. */
static drr_status read_layer_types(encoder_shape *shape, json_t *list, const char *folder, drr_error *err)
{
    shape->global_every = shape->n_layers;
    for (uint32_t i = 1; i < shape->n_layers && shape->global_every == shape->n_layers; i++)
        if (strcmp(json_string_value(json_array_get(list, i)) ? json_string_value(json_array_get(list, i)) : "",
                   "full_attention") == 0)
            shape->global_every = i;
    for (uint32_t i = 0; i < shape->n_layers; i++) {
        const char *type = json_string_value(json_array_get(list, i));
        const char *wanted = i % shape->global_every ? "sliding_attention" : "full_attention";
        if (!type || strcmp(type, wanted) != 0)
            return error_set(
                err, DRR_E_FORMAT,
                "%s/config.json: layer %u of \"layer_types\" is \"%.40s\"; drr handles a full_attention layer "
                "at regular distances from the first on",
                folder, i, type ? type : "not a string");
    }
    return DRR_OK;
}

static drr_status read_layers(encoder_shape *shape, json_t *config, const char *folder, drr_error *err)
{
    json_t *types = json_object_get(config, "layer_types");
    drr_status status = hf_take_extent(&shape->window, config, "local_attention", folder, err);
    if (status != DRR_OK)
        return status;
    return json_is_array(types)
               ? read_layer_types(shape, types, folder, err)
               : hf_take_extent(&shape->global_every, config, "global_attn_every_n_layers", folder, err);
}

/* Newer files have an object for each kind of layer, older ones a number. */
static drr_status read_base(float *base, json_t *config, const char *kind, const char *field, double usual,
                            const char *folder, drr_error *err)
{
    json_t *ropes = json_object_get(config, "rope_parameters"), *rope = json_object_get(ropes, kind);
    const char *type = json_string_or(rope, "rope_type", "default");
    *base = (float)json_number_or(rope, "rope_theta", json_number_or(config, field, usual));
    if (strcmp(type, "default") != 0 || (ropes && !rope))
        return error_set(err, DRR_E_FORMAT,
                         "%s/config.json: \"rope_parameters\" has \"%.40s\" for \"%s\"; drr handles \"default\"",
                         folder, ropes && !rope ? "nothing" : type, kind);
    return *base > 1 && isfinite(*base)
               ? DRR_OK
               : error_set(err, DRR_E_FORMAT, "%s/config.json: \"%s\" is not a number above 1", folder, field);
}

static drr_status read_pooling(encoder_shape *shape, json_t *config, const char *folder, drr_error *err)
{
    const char *pooling = json_string_or(config, "classifier_pooling", "cls");
    shape->pooling = strcmp(pooling, "mean") == 0 ? ENCODER_POOLING_MEAN : ENCODER_POOLING_FIRST;
    return strcmp(pooling, "mean") == 0 || strcmp(pooling, "cls") == 0
               ? DRR_OK
               : error_set(err, DRR_E_FORMAT,
                           "%s/config.json: \"classifier_pooling\" is \"%.40s\"; drr handles \"cls\" and \"mean\"",
                           folder, pooling);
}

drr_status hf_modern_read(encoder_shape *shape, json_t *config, const char *folder, drr_error *err)
{
    static const char *const biases[] = {"attention_bias", "mlp_bias", "norm_bias", "classifier_bias"};
    drr_status status = hf_want_string(config, "hidden_activation", "gelu", folder, err);
    if (status == DRR_OK)
        status = hf_want_string(config, "classifier_activation", "gelu", folder, err);
    for (size_t i = 0; status == DRR_OK && i < sizeof biases / sizeof *biases; i++)
        status = want_false(config, biases[i], folder, err);
    if (status == DRR_OK)
        status = read_layers(shape, config, folder, err);
    if (status == DRR_OK)
        status = read_base(&shape->rope_base, config, "full_attention", "global_rope_theta", 160000, folder, err);
    if (status == DRR_OK)
        status =
            read_base(&shape->rope_base_local, config, "sliding_attention", "local_rope_theta", 10000, folder, err);
    shape->n_types = 1;
    return status == DRR_OK ? read_pooling(shape, config, folder, err) : status;
}

json_t *hf_modern_json(const encoder_shape *s, double epsilon)
{
    const family *f = family_of(s);
    return json_pack("{s:[s], s:s, s:s, s:s, s:s, s:s, s:{s:s}, s:{s:i}, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, "
                     "s:f, s:f, s:b, s:b, s:b, s:b, s:f, s:f, s:f, s:f}",
                     "architectures", f->hf_class, "model_type", f->model_type, "problem_type",
                     "multi_label_classification", "hidden_activation", "gelu", "classifier_activation", "gelu",
                     "classifier_pooling", s->pooling == ENCODER_POOLING_MEAN ? "mean" : "cls", "id2label", "0",
                     "accept", "label2id", "accept", 0, "hidden_size", (json_int_t)s->n_embd, "intermediate_size",
                     (json_int_t)s->n_ff, "num_hidden_layers", (json_int_t)s->n_layers, "num_attention_heads",
                     (json_int_t)s->n_heads, "vocab_size", (json_int_t)s->n_vocab, "max_position_embeddings",
                     (json_int_t)s->n_positions, "local_attention", (json_int_t)s->window, "global_attn_every_n_layers",
                     (json_int_t)s->global_every, "norm_eps", epsilon, "global_rope_theta", (double)s->rope_base,
                     "local_rope_theta", (double)s->rope_base_local, "attention_bias", 0, "mlp_bias", 0, "norm_bias", 0,
                     "classifier_bias", 0, "attention_dropout", 0.0, "embedding_dropout", 0.0, "mlp_dropout", 0.0,
                     "classifier_dropout", 0.0);
}
