/* critic_tokens.c: the tokenizer of byte-level BPE in a critic's file, both ways: llama.cpp's keys for GPT-2's kind,
 * and what it has no key for under "drr.". WordPiece's is critic_file.c's. */
#include "critic/critic_tokens_internal.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *key;
    int which;
} special_keys[] = {
    {"tokenizer.ggml.bos_token_id", SPECIAL_CLS},         {"tokenizer.ggml.eos_token_id", SPECIAL_SEP},
    {"tokenizer.ggml.cls_token_id", SPECIAL_CLS},         {"tokenizer.ggml.seperator_token_id", SPECIAL_SEP},
    {"tokenizer.ggml.unknown_token_id", SPECIAL_UNKNOWN}, {"tokenizer.ggml.padding_token_id", SPECIAL_PAD},
    {"tokenizer.ggml.mask_token_id", SPECIAL_MASK}};
enum { N_SPECIAL_KEYS = sizeof special_keys / sizeof *special_keys };

void critic_specials_add(tensorfile_builder *b, const wordpiece *tokenizer)
{
    for (size_t i = 0; i < N_SPECIAL_KEYS; i++)
        tensorfile_add_u32(b, special_keys[i].key, (uint32_t)wordpiece_special(tokenizer, special_keys[i].which));
}

static void add_merge(tensorfile_builder *b, const wordpiece *tokenizer, size_t rank)
{
    int32_t left, right;
    char text[1100]; /* no merge makes a token of more than 1024 bytes */
    bpe_merge(wordpiece_bytes(tokenizer), rank, &left, &right);
    snprintf(text, sizeof text, "%s %s", wordpiece_token(tokenizer, (size_t)left),
             wordpiece_token(tokenizer, (size_t)right));
    tensorfile_put_string(b, "", text);
}

/* llama.cpp joins a pair as [bos] query [eos if add_eos] [sep if add_sep] document [eos if add_eos], with the separator
 * for eos. */
void critic_tokens_add(tensorfile_builder *b, const wordpiece *tokenizer, const tokenizer_style *style)
{
    const bpe *bytes = wordpiece_bytes(tokenizer);
    const size_t n = wordpiece_size(tokenizer), n_merges = bpe_merges(bytes);
    tensorfile_add_string(b, "tokenizer.ggml.model", style->model);
    tensorfile_add_string(b, "tokenizer.ggml.pre", style->pre);
    tensorfile_begin_array(b, "tokenizer.ggml.tokens", GGUF_STRING, n);
    for (size_t id = 0; id < n; id++)
        tensorfile_put_string(b, "", wordpiece_token(tokenizer, id));
    tensorfile_begin_array(b, "tokenizer.ggml.token_type", GGUF_I32, n);
    for (size_t id = 0; id < n; id++) {
        const int32_t kind = bpe_kind(bytes, id);
        tensorfile_put(b, &kind, sizeof kind);
    }
    tensorfile_begin_array(b, "tokenizer.ggml.merges", GGUF_STRING, n_merges);
    for (size_t rank = 0; rank < n_merges; rank++)
        add_merge(b, tokenizer, rank);
    critic_specials_add(b, tokenizer);
    tensorfile_add_bool(b, "tokenizer.ggml.add_bos_token", true);
    tensorfile_add_bool(b, "tokenizer.ggml.add_eos_token", true);
    tensorfile_add_bool(b, "tokenizer.ggml.add_sep_token", wordpiece_between(tokenizer) == 2);
    tensorfile_add_bool(b, "drr.tokenizer.nfc", bpe_composes(bytes));
}

/* ---- reading */

/* The strings of an array, each with a NUL behind it. */
static drr_status copy_strings(const char ***copied, const tensorfile_key *key, const char *name, const tensorfile *f,
                               arena *texts, drr_error *err)
{
    const uint8_t *at = key->data;
    *copied = calloc((size_t)key->count + 1, sizeof **copied);
    if (!*copied)
        return error_memory(err);
    for (uint64_t i = 0; i < key->count; i++) {
        const tensorfile_text text = tensorfile_next(&at);
        if (memchr(text.data, 0, text.length))
            return error_set(err, DRR_E_FORMAT, "%s: item %llu of \"%s\" has a NUL in it", f->path,
                             (unsigned long long)i, name);
        (*copied)[i] = arena_copy(texts, text.data, (size_t)text.length);
        if (!(*copied)[i])
            return error_memory(err);
    }
    return DRR_OK;
}

static drr_status read_kinds(uint8_t *kinds, const tensorfile_key *types, const tensorfile *f, drr_error *err)
{
    for (uint64_t i = 0; i < types->count; i++) {
        int32_t kind;
        memcpy(&kind, types->data + i * sizeof kind, sizeof kind);
        if (kind != TOKEN_NORMAL && kind != TOKEN_CONTROL && kind != TOKEN_ADDED)
            return error_set(err, DRR_E_FORMAT, "%s: token %llu of \"tokenizer.ggml.tokens\" is of type %d", f->path,
                             (unsigned long long)i, (int)kind);
        kinds[i] = (uint8_t)kind;
    }
    return DRR_OK;
}

static drr_status read_specials(bpe_parts *parts, const tensorfile *f, drr_error *err)
{
    drr_status status = DRR_OK;
    for (size_t i = 0; status == DRR_OK && i < N_SPECIAL_KEYS; i++) {
        uint32_t id = 0;
        status = tensorfile_u32(&id, f, special_keys[i].key, err);
        if (status == DRR_OK && (id >= parts->n_tokens || parts->kinds[id] != TOKEN_CONTROL))
            status = error_set(err, DRR_E_FORMAT, "%s: the key \"%s\" is %u, which is no control token", f->path,
                               special_keys[i].key, id);
        parts->specials[special_keys[i].which] = (int32_t)id;
    }
    return status;
}

drr_status critic_tokens_read(wordpiece **tokenizer, const tensorfile *f, const tokenizer_style *style, drr_error *err)
{
    const tensorfile_key *tokens, *types, *merges;
    const char **texts = NULL, **pairs = NULL;
    uint8_t *kinds = NULL;
    arena *memory = NULL;
    bpe_parts parts = {.n_between = style->n_between};
    drr_status status = tensorfile_array(&tokens, f, "tokenizer.ggml.tokens", GGUF_STRING, err);
    if (status == DRR_OK)
        status = tensorfile_array(&types, f, "tokenizer.ggml.token_type", GGUF_I32, err);
    if (status == DRR_OK)
        status = tensorfile_array(&merges, f, "tokenizer.ggml.merges", GGUF_STRING, err);
    if (status == DRR_OK && types->count != tokens->count)
        status = error_set(err, DRR_E_FORMAT, "%s: \"tokenizer.ggml.tokens\" has %llu items and its types %llu",
                           f->path, (unsigned long long)tokens->count, (unsigned long long)types->count);
    if (status == DRR_OK)
        status = tensorfile_bool(&parts.nfc, f, "drr.tokenizer.nfc", err);
    if (status != DRR_OK)
        return status;
    memory = arena_new(0);
    kinds = malloc((size_t)tokens->count + 1);
    if (!memory || !kinds)
        status = error_memory(err);
    if (status == DRR_OK)
        status = copy_strings(&texts, tokens, "tokenizer.ggml.tokens", f, memory, err);
    if (status == DRR_OK)
        status = copy_strings(&pairs, merges, "tokenizer.ggml.merges", f, memory, err);
    if (status == DRR_OK)
        status = read_kinds(kinds, types, f, err);
    if (status == DRR_OK) {
        parts.tokens = texts;
        parts.kinds = kinds;
        parts.n_tokens = (size_t)tokens->count;
        parts.merges = pairs;
        parts.n_merges = (size_t)merges->count;
        status = read_specials(&parts, f, err);
    }
    if (status == DRR_OK)
        status = wordpiece_new_bytes(tokenizer, &parts, f->path, err);
    free(texts);
    free(pairs);
    free(kinds);
    arena_free(memory);
    return status;
}
