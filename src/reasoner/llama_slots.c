/* llama_slots.c: continuous batching over libllama. Each slot is one KV stream; a request is admitted into a free
 * slot as soon as there is one, and begins with whatever another slot already computed of its prompt: the few-shot
 * prefix, the same question's prompt, or the history that the slot itself holds. The last prompt token is never
 * prefilled but decoded in the common batch, so that every active slot costs one row of a batch at each step. Active
 * slots are kept side by side, or libllama would compute them apart.
 * Tokenising and templates are here too; sampling is llama_sample.c's. */
#include "reasoner/llama_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint32_t common_prefix(const llama_token *a, uint32_t n_a, const llama_token *b, uint32_t n_b)
{
    const uint32_t n = n_a < n_b ? n_a : n_b;
    uint32_t i = 0;
    while (i < n && a[i] == b[i])
        i++;
    return i;
}

/* ---- from messages to tokens */

static drr_status render_prompt(llama_backend *b, const reasoner_request *request, char **text, drr_error *err)
{
    struct llama_chat_message *chat = calloc(request->n_messages + 1, sizeof *chat);
    char *out = NULL;
    drr_status status = DRR_OK;
    size_t room = 256;
    if (!chat)
        return error_memory(err);
    for (size_t i = 0; i < request->n_messages; i++) {
        chat[i] = (struct llama_chat_message){request->messages[i].role, request->messages[i].content};
        room += strlen(request->messages[i].content) + 64;
    }
    for (int attempt = 0; attempt < 2; attempt++) {
        free(out);
        out = malloc(room + 1);
        if (!out) {
            status = error_memory(err);
            goto done;
        }
        const int32_t n =
            llama_chat_apply_template(b->chat_template, chat, request->n_messages, true, out, (int32_t)room);
        if (n < 0) {
            status = error_set(err, DRR_E_BACKEND,
                               "%s: its chat template is not one that libllama can apply; use a model whose template "
                               "it knows (ChatML, Llama, Mistral, Gemma, Phi and others)",
                               b->path);
            goto done;
        }
        if ((size_t)n <= room) {
            out[n] = '\0';
            break;
        }
        room = (size_t)n;
    }
    if (request->prefix) {
        const size_t n = strlen(out), more = strlen(request->prefix) + 1;
        char *larger = realloc(out, n + more);
        if (!larger) {
            status = error_memory(err);
            goto done;
        }
        out = larger;
        memcpy(out + n, request->prefix, more);
    }
    *text = out;
    out = NULL;
done:
    free(out);
    free(chat);
    return status;
}

static drr_status tokenize(llama_backend *b, const char *text, llama_token **tokens, uint32_t *n, drr_error *err)
{
    const int32_t length = (int32_t)strlen(text);
    const llama_token bos = llama_vocab_bos(b->vocab);
    const char *bos_text = bos >= 0 ? llama_vocab_get_text(b->vocab, bos) : NULL;
    const bool add_special = !(bos_text && bos_text[0] && strncmp(text, bos_text, strlen(bos_text)) == 0);
    int32_t room = length + 8;
    llama_token *out = malloc((size_t)room * sizeof *out);
    if (!out)
        return error_memory(err);
    int32_t count = llama_tokenize(b->vocab, text, length, out, room, add_special, true);
    if (count < 0) {
        room = -count;
        llama_token *larger = realloc(out, (size_t)room * sizeof *out);
        if (!larger) {
            free(out);
            return error_memory(err);
        }
        out = larger;
        count = llama_tokenize(b->vocab, text, length, out, room, add_special, true);
    }
    if (count <= 0) {
        free(out);
        return error_set(err, DRR_E_BACKEND, "%s: its tokenizer gave no tokens for a prompt of %d bytes", b->path,
                         length);
    }
    *tokens = out;
    *n = (uint32_t)count;
    return DRR_OK;
}

/* ---- completions on their way out */

static drr_status push_done(llama_backend *b, const reasoner_completion *completion, drr_error *err)
{
    if (b->n_done == b->done_capacity) {
        const size_t capacity = b->done_capacity ? b->done_capacity * 2 : 64;
        reasoner_completion *larger = realloc(b->done, capacity * sizeof *larger);
        if (!larger)
            return error_memory(err);
        b->done = larger;
        b->done_capacity = capacity;
    }
    b->done[b->n_done++] = *completion;
    return DRR_OK;
}

/* A completion that says so, and no error: the others go on. least: "at least ", or "". */
static drr_status refuse_long(llama_backend *b, const reasoner_request *request, const char *least, uint32_t n_prompt,
                              drr_error *err)
{
    reasoner_completion refused = {.tag = request->tag, .finish = DRR_FINISH_FAILED, .n_prompt_tokens = n_prompt};
    buffer why = {0};
    drr_status status =
        buffer_printf(&why, err,
                      "the prompt has %s%u tokens and the context of one sequence holds %u: shorten the question "
                      "or raise --context",
                      least, n_prompt, b->n_context);
    if (status != DRR_OK)
        return status;
    refused.failure = buffer_take(&why);
    refused.text = string_copy("");
    status = push_done(b, &refused, err);
    if (status != DRR_OK)
        reasoner_completion_clear(&refused);
    return status;
}

drr_status llama_submit(void *self, const reasoner_request *request, drr_error *err)
{
    llama_backend *b = self;
    queued item = {.request = *request};
    char *text = NULL;
    drr_status status = render_prompt(b, request, &text, err);
    if (status != DRR_OK)
        goto done;
    /* Megabytes take seconds to tokenize, during which nobody's text goes on: not where the size alone says enough. */
    const size_t least = strlen(text) / b->longest_piece;
    if (least > b->n_context) {
        status = refuse_long(b, request, "at least ", least < INT32_MAX ? (uint32_t)least : INT32_MAX, err);
        goto done;
    }
    status = tokenize(b, text, &item.prompt, &item.n_prompt, err);
    if (status != DRR_OK)
        goto done;
    if (item.n_prompt + REASONER_LEAST_ROOM > b->n_context) {
        status = refuse_long(b, request, "", item.n_prompt, err);
        goto done;
    }
    status = grammar_open(&item.grammar, b, request->grammar, err);
    if (status != DRR_OK)
        goto done;
    item.prefix = string_copy(request->prefix);
    if (request->prefix && !item.prefix) {
        status = error_memory(err);
        goto done;
    }
    if (b->n_queue == b->queue_capacity) {
        const size_t capacity = b->queue_capacity ? b->queue_capacity * 2 : 64;
        queued *larger = realloc(b->queue, capacity * sizeof *larger);
        if (!larger) {
            status = error_memory(err);
            goto done;
        }
        b->queue = larger;
        b->queue_capacity = capacity;
    }
    item.request.messages = NULL;
    item.request.question = NULL;
    item.request.grammar = NULL;
    item.request.prefix = NULL;
    item.request.cut_by = NULL;
    b->queue[b->n_queue++] = item;
    item.prompt = NULL;
    item.grammar = NULL;
    item.prefix = NULL;
done:
    free(text);
    free(item.prompt);
    llama_sampler_free(item.grammar);
    free(item.prefix);
    return status;
}

/* ---- admission */

/* How much of this prompt slot s holds; the last prompt token is always decoded anew, for its logits. */
static uint32_t slot_overlap(const slot *s, const queued *item)
{
    return common_prefix(s->tokens, s->n_cached, item->prompt, item->n_prompt - 1);
}

/* Which queued request goes where. A request whose history a free slot holds, and no other slot does, goes there
 * first (the slot would be overwritten otherwise); then the oldest, into the slot unused for longest. Costs 64 prompts
 * times the width for each admission. */
static bool choose(const llama_backend *b, size_t *item_index, uint32_t *slot_index)
{
    const size_t look_ahead = b->n_queue < 64 ? b->n_queue : 64;
    uint32_t oldest = b->width, best_gain = 15;
    for (uint32_t s = 0; s < b->width; s++)
        if (!b->slots[s].active && (oldest == b->width || b->slots[s].last_used < b->slots[oldest].last_used))
            oldest = s;
    if (oldest == b->width || b->n_queue == 0)
        return false;
    *item_index = 0;
    *slot_index = oldest;
    for (size_t q = 0; q < look_ahead; q++) {
        uint32_t most = 0, second = 0, where = 0;
        for (uint32_t s = 0; s < b->width; s++) {
            const uint32_t n = slot_overlap(&b->slots[s], &b->queue[q]);
            if (n > most) {
                second = most;
                most = n;
                where = s;
            } else if (n > second) {
                second = n;
            }
        }
        if (!b->slots[where].active && most - second > best_gain) {
            best_gain = most - second;
            *item_index = q;
            *slot_index = where;
        }
    }
    return true;
}

static drr_status decode(llama_backend *b, drr_error *err)
{
    const int32_t code = llama_decode(b->context, b->batch);
    if (code == 0)
        return DRR_OK;
    return error_set(err, code == 1 ? DRR_E_LIMIT : DRR_E_BACKEND,
                     "llama_decode failed with code %d on a batch of %d tokens%s%s", code, b->batch.n_tokens,
                     llama_runtime_last_message()[0] ? ": " : "", llama_runtime_last_message());
}

static void batch_add(llama_backend *b, llama_token token, uint32_t position, uint32_t sequence, bool logits)
{
    const int32_t i = b->batch.n_tokens++;
    b->batch.token[i] = token;
    b->batch.pos[i] = (llama_pos)position;
    b->batch.n_seq_id[i] = 1;
    b->batch.seq_id[i][0] = (llama_seq_id)sequence;
    b->batch.logits[i] = logits;
}

/* Computes the prompt's tokens from n_cached up to, but without, the last. */
static drr_status prefill(llama_backend *b, uint32_t slot_index, drr_error *err)
{
    slot *s = &b->slots[slot_index];
    const double began = clock_seconds();
    while (s->n_cached + 1 < s->n_prompt) {
        b->batch.n_tokens = 0;
        uint32_t end = s->n_cached + b->n_batch;
        if (end > s->n_prompt - 1)
            end = s->n_prompt - 1;
        for (uint32_t i = s->n_cached; i < end; i++)
            batch_add(b, s->tokens[i], i, slot_index, false);
        drr_status status = decode(b, err);
        if (status != DRR_OK)
            return status;
        b->timing.n_prefilled += end - s->n_cached;
        s->n_cached = end;
    }
    b->timing.prefill_seconds += clock_seconds() - began;
    return DRR_OK;
}

static drr_status admit(llama_backend *b, size_t item_index, uint32_t slot_index, drr_error *err)
{
    queued item = b->queue[item_index];
    memmove(&b->queue[item_index], &b->queue[item_index + 1], (b->n_queue - item_index - 1) * sizeof item);
    b->n_queue--;

    slot *s = &b->slots[slot_index];
    uint32_t source = slot_index, overlap = slot_overlap(s, &item);
    for (uint32_t other = 0; other < b->width; other++) {
        const uint32_t n = slot_overlap(&b->slots[other], &item);
        if (n > overlap) {
            overlap = n;
            source = other;
        }
    }
    llama_memory_t memory = llama_get_memory(b->context);
    if (source != slot_index)
        llama_memory_seq_cp(memory, (llama_seq_id)source, (llama_seq_id)slot_index, -1, -1);
    drr_status status = DRR_OK;
    if (!llama_memory_seq_rm(memory, (llama_seq_id)slot_index, (llama_pos)overlap, -1)) {
        llama_memory_seq_rm(memory, (llama_seq_id)slot_index, -1, -1); /* a memory that cannot cut: start afresh */
        overlap = 0;
    }
    memcpy(s->tokens, item.prompt, item.n_prompt * sizeof *item.prompt);
    s->n_prompt = s->n_tokens = item.n_prompt;
    s->n_cached = s->n_reused = overlap;
    s->n_written = 0;
    s->last_used = ++b->clock;
    s->tag = item.request.tag;
    s->max_tokens = item.request.max_tokens ? item.request.max_tokens : 512;
    s->temperature = item.request.temperature;
    s->top_p = item.request.top_p > 0 ? item.request.top_p : 1.0f;
    s->complete = item.request.complete;
    s->complete_user = item.request.complete_user;
    s->watch = item.request.watch;
    s->watch_user = item.request.watch_user;
    s->answer_at = b->tap.layers.n ? item.request.answer_at : NULL;
    s->closing = false;
    rng_seed(&s->random, item.request.seed);
    s->text.size = 0;
    s->started_s = clock_seconds();
    s->ended = false;
    s->grammar = item.grammar;
    status = buffer_puts(&s->text, item.prefix ? item.prefix : "", err);
    s->n_prefix = (uint32_t)s->text.size;
    if (status == DRR_OK && s->answer_at)
        status = hidden_slot_begin(b, s, s->max_tokens, err);
    s->active = true;
    if (status == DRR_OK)
        status = prefill(b, slot_index, err);
    free(item.prompt);
    free(item.prefix);
    return status;
}

/* ---- keeping the active slots together */

/* Into a free slot, whose own keys and values are lost; the one it leaves holds nothing that is counted on. */
static void move_slot(llama_backend *b, uint32_t from, uint32_t to)
{
    const slot idle = b->slots[to];
    llama_memory_seq_cp(llama_get_memory(b->context), (llama_seq_id)from, (llama_seq_id)to, -1, -1);
    b->slots[to] = b->slots[from];
    b->slots[from] = idle;
    b->slots[from].n_cached = 0;
}

/* libllama computes streams together only where their numbers follow one another: every run of active slots between
 * two idle ones is a pass of its own, and each pass reads all weights. So when nothing waits to fill the idle ones, the
 * last active slots move into the first idle ones. A move copies a stream's keys and values, milliseconds where a pass
 * takes tens of them. A history that lay in an idle slot is computed again if it is gone on with after all. */
static void close_gaps(llama_backend *b)
{
    uint32_t n_active = 0, last = b->width;
    for (uint32_t i = 0; i < b->width; i++)
        n_active += b->slots[i].active;
    for (uint32_t i = 0; i < n_active; i++) {
        if (b->slots[i].active)
            continue;
        do
            last--;
        while (!b->slots[last].active);
        move_slot(b, last, i);
    }
}

/* ---- one step for every active slot */

typedef struct step {
    llama_backend *b;
    uint32_t *rows;       /* slot of each batch row */
    const float **logits; /* of each batch row */
} step;

static void sample_rows(void *user, size_t begin, size_t end, uint32_t thread)
{
    step *work = user;
    llama_backend *b = work->b;
    for (size_t row = begin; row < end; row++) {
        slot *s = &b->slots[work->rows[row]];
        if (s->answer_at && s->n_cached >= s->n_prompt)
            hidden_slot_take(b, s, (uint32_t)row, s->n_cached - s->n_prompt);
        if (s->closing) {
            s->n_cached++;
            s->ended = true;
            continue;
        }
        reasoner_token *stats = &s->stats[s->n_written];
        const llama_token token = sample_token(b, s, work->logits[row], &b->spaces[thread], stats);
        char piece[256];
        s->n_cached++;
        if (isnan(stats->logprob)) {
            s->ended = true;
            s->finish = DRR_FINISH_FAILED;
            continue;
        }
        if (llama_vocab_is_eog(b->vocab, token)) {
            s->ended = true;
            s->finish = DRR_FINISH_STOP;
            continue;
        }
        s->tokens[s->n_tokens++] = token;
        const int32_t n = llama_token_to_piece(b->vocab, token, piece, (int32_t)sizeof piece, 0, false);
        if (n > 0 && buffer_append(&s->text, piece, (size_t)n, NULL) != DRR_OK) {
            s->ended = true;
            s->finish = DRR_FINISH_FAILED;
            continue;
        }
        stats->end = (uint32_t)s->text.size - s->n_prefix;
        s->n_written++;
        bool last = false;
        if (s->complete && s->complete(s->complete_user, s->text.data, s->text.size)) {
            last = true;
            s->finish = DRR_FINISH_ANSWERED;
        } else if (s->n_written >= s->max_tokens || s->n_tokens >= b->n_context) {
            last = true;
            s->finish = DRR_FINISH_LENGTH;
        }
        /* Its last token was drawn, not read: who wants hidden states gets it read in the next step. */
        s->closing = last && s->answer_at;
        s->ended = last && !s->answer_at;
    }
}

static drr_status hand_over(llama_backend *b, slot *s, drr_error *err)
{
    reasoner_completion c = {.tag = s->tag,
                             .finish = s->finish,
                             .n_prompt_tokens = s->n_prompt,
                             .n_cached_tokens = s->n_reused,
                             .n_tokens = s->n_written,
                             .n_token_stats = s->n_written,
                             .seconds = clock_seconds() - s->started_s};
    c.text = string_copy_n(s->text.data + s->n_prefix, s->text.size - s->n_prefix);
    c.tokens = malloc((s->n_written + 1) * sizeof *c.tokens);
    if (!c.text || !c.tokens) {
        reasoner_completion_clear(&c);
        return error_memory(err);
    }
    memcpy(c.tokens, s->stats, s->n_written * sizeof *c.tokens);
    reasoner_completion_keep_characters(&c);
    if (s->answer_at && c.finish != DRR_FINISH_FAILED && c.finish != DRR_FINISH_CUT &&
        hidden_slot_end(b, s, &c, err) != DRR_OK) {
        reasoner_completion_clear(&c);
        return DRR_E_MEMORY;
    }
    if (c.finish == DRR_FINISH_FAILED) {
        c.failure = string_copy("the model computed no valid number for the next token: run `drr doctor`");
        if (!c.failure) {
            reasoner_completion_clear(&c);
            return error_memory(err);
        }
    }
    s->active = false;
    s->last_used = ++b->clock;
    llama_sampler_free(s->grammar);
    s->grammar = NULL;
    drr_status status = push_done(b, &c, err);
    if (status != DRR_OK)
        reasoner_completion_clear(&c);
    return status;
}

static drr_status run_step(llama_backend *b, drr_error *err)
{
    uint32_t rows[b->width];
    const float *logits[b->width];
    step work = {b, rows, logits};
    const double began = clock_seconds();
    b->batch.n_tokens = 0;
    for (uint32_t i = 0; i < b->width; i++) {
        slot *s = &b->slots[i];
        if (!s->active)
            continue;
        b->timing.n_passes += i == 0 || !b->slots[i - 1].active;
        rows[b->batch.n_tokens] = i;
        batch_add(b, s->tokens[s->n_cached], s->n_cached, i, true);
    }
    const size_t n = (size_t)b->batch.n_tokens;
    b->timing.n_steps++;
    hidden_tap_begin(b);
    drr_status status = decode(b, err);
    if (status == DRR_OK)
        status = hidden_tap_end(b, (uint32_t)n, err);
    if (status != DRR_OK)
        return status;
    llama_synchronize(b->context);
    for (size_t row = 0; row < n; row++) /* here, for libllama may write its own state when asked */
        logits[row] = llama_get_logits_ith(b->context, (int32_t)row);
    parallel_for(n, sample_rows, &work);
    const double seconds = clock_seconds() - began;
    b->timing.decode_seconds += seconds;
    b->timing.n_decoded += n;
    if (n == b->width) {
        b->timing.full_width_seconds += seconds;
        b->timing.n_full_width += n;
    }
    slots_watch(b, rows, n);
    for (size_t row = 0; row < n && status == DRR_OK; row++)
        if (b->slots[rows[row]].ended)
            status = hand_over(b, &b->slots[rows[row]], err);
    return status;
}

drr_status llama_next(void *self, reasoner_completion *completion, drr_error *err)
{
    llama_backend *b = self;
    while (b->n_done == 0) {
        size_t item;
        uint32_t where;
        bool any = false;
        if (b->called && b->called(b->called_user))
            return error_set(err, DRR_E_INTERRUPTED, "called away from what is in flight");
        while (choose(b, &item, &where)) {
            drr_status status = admit(b, item, where, err);
            if (status != DRR_OK)
                return status;
        }
        if (b->n_queue == 0)
            close_gaps(b);
        for (uint32_t i = 0; i < b->width; i++)
            any = any || b->slots[i].active;
        if (!any)
            return error_set(err, DRR_E_EMPTY, "no request is in flight");
        drr_status status = run_step(b, err);
        if (status != DRR_OK)
            return status;
    }
    *completion = b->done[0];
    b->n_done--;
    memmove(b->done, b->done + 1, b->n_done * sizeof *b->done);
    return DRR_OK;
}

void llama_timing(void *self, drr_reasoner_timing *timing)
{
    const llama_backend *b = self;
    *timing = b->timing;
}

void llama_cancel(void *self)
{
    llama_backend *b = self;
    for (size_t i = 0; i < b->n_queue; i++) {
        free(b->queue[i].prompt);
        llama_sampler_free(b->queue[i].grammar);
        free(b->queue[i].prefix);
    }
    b->n_queue = 0;
    for (size_t i = 0; i < b->n_done; i++)
        reasoner_completion_clear(&b->done[i]);
    b->n_done = 0;
    for (uint32_t i = 0; b->slots && i < b->width; i++) {
        b->slots[i].active = false;
        llama_sampler_free(b->slots[i].grammar);
        b->slots[i].grammar = NULL;
    }
}

void slots_clear(llama_backend *b)
{
    llama_cancel(b);
    for (uint32_t i = 0; b->slots && i < b->width; i++) {
        free(b->slots[i].tokens);
        free(b->slots[i].stats);
        free(b->slots[i].hidden);
        buffer_clear(&b->slots[i].text);
    }
    free(b->slots);
    free(b->queue);
    free(b->done);
    b->slots = NULL;
    b->queue = NULL;
    b->done = NULL;
}
