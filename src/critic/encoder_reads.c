/* encoder_reads.c: which rows of the last layer an encoder's head reads. A head of [CLS] reads the first token of each
 * sequence; one of tokens whatever it is asked for, and where nothing is asked the last token, the [SEP] that ends the
 * text: it is there whatever the text is, and is the same token behind every one. */
#include "critic/encoder_layers.h"

void encoder_workspace_read(encoder_workspace *w, const uint32_t *rows, const uint32_t *row_starts)
{
    w->rows = rows;
    w->row_starts = row_starts;
}

const uint32_t *encoder_read_rows(encoder_workspace *w, const uint32_t *starts, size_t n)
{
    if (w->rows || !w->ends)
        return w->rows ? w->rows : starts;
    for (size_t s = 0; s < n; s++)
        w->ends[s] = starts[s + 1] - 1;
    return w->ends;
}

const uint32_t *encoder_read_starts(const encoder_workspace *w)
{
    return w->rows ? w->row_starts : w->ones;
}

drr_status encoder_check_reads(const encoder_workspace *w, const uint32_t *starts, size_t n, drr_error *err)
{
    if (!w->rows)
        return DRR_OK;
    if (!w->ends)
        return error_set(err, DRR_E_MISMATCH, "the encoder has no head of tokens: it can be read at [CLS] alone");
    if (w->row_starts[0] != 0)
        return error_set(err, DRR_E_ARGUMENT, "the rows to read start at offset %u; they must start at 0",
                         w->row_starts[0]);
    for (size_t s = 0; s < n; s++) {
        if (w->row_starts[s + 1] <= w->row_starts[s])
            return error_set(err, DRR_E_ARGUMENT, "no row of sequence %zu is to be read; one at least must be", s);
        for (uint32_t r = w->row_starts[s]; r < w->row_starts[s + 1]; r++)
            if (w->rows[r] < starts[s] || w->rows[r] >= starts[s + 1] ||
                (r > w->row_starts[s] && w->rows[r] <= w->rows[r - 1]))
                return error_set(err, DRR_E_ARGUMENT,
                                 "row %u to read is token %u; it must lie in sequence %zu, tokens %u to %u, behind the "
                                 "one before",
                                 r, w->rows[r], s, starts[s], starts[s + 1] - 1);
    }
    return DRR_OK;
}

drr_status encoder_logits_at(const encoder *e, encoder_workspace *w, const int32_t *ids, const uint32_t *starts,
                             size_t n, const uint32_t *rows, const uint32_t *row_starts, float *logits, drr_error *err)
{
    encoder_workspace_read(w, rows, row_starts);
    drr_status status = encoder_logits(e, w, ids, starts, n, logits, err);
    encoder_workspace_read(w, NULL, NULL);
    return status;
}
