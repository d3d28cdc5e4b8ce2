/* remote_sse.c: the event stream format of the HTML standard, section 9.2: lines end in LF, CR LF or CR; "data" fields
 * are joined by LF; a blank line hands the event over; comments (a server's way to keep a connection open) and the
 * other fields are passed over. */
#include "reasoner/remote_sse.h"

#include <string.h>

static drr_status hand_over(sse_parser *p, sse_event_fn event, void *user, drr_error *err)
{
    drr_status status = DRR_OK;
    if (p->has_data)
        status = event(user, p->data.data, p->data.size, err);
    p->has_data = false;
    p->data.size = 0;
    return status;
}

static drr_status take_line(sse_parser *p, sse_event_fn event, void *user, drr_error *err)
{
    const char *line = p->line.data ? p->line.data : "";
    size_t size = p->line.size;
    p->line.size = 0;
    if (!p->past_first_line && size >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) { /* byte order mark */
        line += 3;
        size -= 3;
    }
    p->past_first_line = true;
    if (size == 0)
        return hand_over(p, event, user, err);
    if (size < 5 || memcmp(line, "data:", 5) != 0)
        return DRR_OK;
    const size_t skip = size > 5 && line[5] == ' ' ? 6 : 5;
    drr_status status = p->has_data ? buffer_append(&p->data, "\n", 1, err) : DRR_OK;
    if (status == DRR_OK)
        status = buffer_append(&p->data, line + skip, size - skip, err);
    p->has_data = true;
    return status;
}

drr_status sse_feed(sse_parser *p, const char *bytes, size_t size, sse_event_fn event, void *user, drr_error *err)
{
    drr_status status = DRR_OK;
    for (size_t i = 0; status == DRR_OK && i < size;) {
        if (p->after_cr && bytes[i] == '\n') {
            p->after_cr = false;
            i++;
            continue;
        }
        p->after_cr = false;
        size_t end = i;
        while (end < size && bytes[end] != '\n' && bytes[end] != '\r')
            end++;
        if (p->most && p->line.size + p->data.size + (end - i) > p->most)
            return error_set(err, DRR_E_LIMIT, "an event of more than %zu bytes", p->most);
        status = buffer_append(&p->line, bytes + i, end - i, err);
        if (status == DRR_OK && end < size) {
            p->after_cr = bytes[end] == '\r';
            status = take_line(p, event, user, err);
            end++;
        }
        i = end;
    }
    return status;
}

drr_status sse_end(sse_parser *p, sse_event_fn event, void *user, drr_error *err)
{
    drr_status status = p->line.size ? take_line(p, event, user, err) : DRR_OK;
    return status == DRR_OK ? hand_over(p, event, user, err) : status;
}

void sse_clear(sse_parser *p)
{
    buffer_clear(&p->line);
    buffer_clear(&p->data);
    *p = (sse_parser){.most = p->most};
}
