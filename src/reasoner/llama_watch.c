/* llama_watch.c: shows the texts under way to who watches them, after each step of all sequences, and ends those that
 * are to end. Why they end is the watch's affair. */
#include "reasoner/llama_internal.h"

void slots_watch(llama_backend *b, const uint32_t *rows, size_t n)
{
    reasoner_watched texts[b->width];
    drr_finish ends[b->width];
    uint32_t slots[b->width];
    size_t n_watched = 0;
    const double now = clock_seconds();
    for (size_t row = 0; row < n; row++) {
        const slot *s = &b->slots[rows[row]];
        if (!s->watch || s->ended || s->closing)
            continue;
        texts[n_watched] =
            (reasoner_watched){s->complete_user, s->text.data, now - s->started_s, s->stats, s->n_written};
        ends[n_watched] = DRR_FINISH_STOP;
        slots[n_watched++] = rows[row];
    }
    if (n_watched == 0)
        return;
    const slot *first = &b->slots[slots[0]];
    first->watch(first->watch_user, texts, ends, n_watched);
    for (size_t i = 0; i < n_watched; i++) {
        slot *s = &b->slots[slots[i]];
        if (ends[i] != DRR_FINISH_CUT && ends[i] != DRR_FINISH_TIME)
            continue;
        s->finish = ends[i];
        s->closing = ends[i] == DRR_FINISH_TIME && s->answer_at; /* its last token is to be read, as of any answer */
        s->ended = !s->closing;
    }
}
