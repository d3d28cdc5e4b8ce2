/* plot_files.c: what a suite keeps of one evaluation beside its report: each plot as a file of its own, which brings
 * the page's colours along, and the page's part that is about this evaluation alone. */
#include "eval/eval_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char style[] =
    "<style>svg{background:#fff}text{font:12px system-ui,sans-serif;fill:#1c1e21}.h{font-size:14px;font-weight:600}"
    ".t,.a{fill:#5d6570}.axis{fill:none;stroke:#5d6570}.g{stroke:#d9dde3}.w{fill:none;stroke-width:2}"
    ".d.s0,.f0{fill:#7a828c}.d.s1,.f1{fill:#c2410c}.d.s2,.f2{fill:#0369a1}.d.s3,.f3{fill:#7c3aed}"
    ".d.s4,.f4{fill:#15803d}.w.s0{stroke:#7a828c}.w.s1{stroke:#c2410c}.w.s2{stroke:#0369a1}.w.s3{stroke:#7c3aed}"
    ".w.s4{stroke:#15803d}</style>\n";

/* Takes the plot. */
static drr_status put_file(buffer *plot, const part_forms *forms, const char *task, const char *name, drr_status status,
                           drr_error *err)
{
    buffer path = {0}, file = {0};
    const char *opened = plot->data ? strchr(plot->data, '>') : NULL;
    if (status == DRR_OK)
        status = buffer_printf(&path, err, "%s%s.%s.svg", forms->plots, task, name);
    if (status == DRR_OK && opened) /* "<svg": in a page it needs no name space */
        status = buffer_printf(&file, err, "<svg xmlns=\"http://www.w3.org/2000/svg\"%.*s",
                               (int)(opened + 1 - plot->data - 4), plot->data + 4);
    if (status == DRR_OK)
        status = buffer_puts(&file, style, err);
    if (status == DRR_OK && opened)
        status = buffer_puts(&file, opened + 1, err);
    if (status == DRR_OK)
        status = file_write_all(path.data, file.data, file.size, err);
    buffer_clear(plot);
    buffer_clear(&path);
    buffer_clear(&file);
    return status;
}

static drr_status write_plots(const part_forms *forms, const comparison *c, drr_error *err)
{
    buffer b = {0};
    bool has_risk = false;
    drr_status status = put_file(&b, forms, c->name, "accuracy", plot_accuracy(&b, c, err), err);
    for (size_t s = 0; s < c->n_runs; s++)
        has_risk = has_risk || !isnan(c->runs[s].aurc);
    if (status == DRR_OK && has_risk)
        status = put_file(&b, forms, c->name, "risk", plot_risk(&b, c, err), err);
    for (int rows = 0; status == DRR_OK && rows < N_JUDGED; rows++) {
        const judged *set = &c->judged[rows];
        char name[64];
        if (set->n == 0)
            continue;
        snprintf(name, sizeof name, "reliability.%s", set->key);
        status = put_file(&b, forms, c->name, name, plot_reliability(&b, set, err), err);
        snprintf(name, sizeof name, "scores.%s", set->key);
        if (status == DRR_OK)
            status = put_file(&b, forms, c->name, name, plot_scores(&b, set, err), err);
    }
    return status;
}

drr_status part_write(const part_forms *forms, const evaluation *e, drr_error *err)
{
    buffer body = {0};
    drr_status status = DRR_OK;
    for (size_t d = 0; status == DRR_OK && d < e->n; d++)
        status = write_plots(forms, &e->comparisons[d], err);
    if (status == DRR_OK)
        status = html_body(&body, e, false, err);
    if (status == DRR_OK)
        status = file_write_all(forms->body, body.data, body.size, err);
    buffer_clear(&body);
    return status;
}
