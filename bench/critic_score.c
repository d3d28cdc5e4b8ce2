/* critic_score.c: scores pairs with the public interface and says how long each call took, for bench/critic-score:
 *
 *     critic_score CRITIC PRECISION
 *
 * Lines on standard input are answered by one each on standard output:
 *
 *     load FILE            pairs to score, JSONL of {"question", "text"}: "loaded N"
 *
 *     run BATCH SECONDS    calls of BATCH pairs round the file, for that long, 3 at least (1 below 0.5 s): each one's
 * seconds
 *
 *     logits               of the first 16 pairs
 *
 * A call is drr_critic_score: from text to P(correct), tokenising with it. */
#include "core/core.h"
#include "core/json.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_PAIRS = 100000, MOST_CALLS = 100000, SHOWN = 16 };

typedef struct pairs {
    json_t **rows;
    drr_score_item *items;
    drr_score *scores;
    size_t n, at;
} pairs;

static drr_status load(pairs *p, const char *path, drr_error *err)
{
    line_reader *lines = NULL;
    char *line;
    size_t length;
    drr_status status = lines_open(&lines, path, err);
    for (size_t i = 0; i < p->n; i++)
        json_decref(p->rows[i]);
    p->n = p->at = 0;
    while (status == DRR_OK && p->n < MOST_PAIRS) {
        status = lines_next(lines, &line, &length, err);
        if (status != DRR_OK)
            break;
        json_t *row = NULL;
        status = json_parse(&row, line, length, path, err);
        p->rows[p->n] = row;
        if (status == DRR_OK)
            status = json_get_string(&p->items[p->n].question, row, "question", path, err);
        if (status == DRR_OK)
            status = json_get_string(&p->items[p->n].text, row, "text", path, err);
        p->n += row != NULL;
    }
    lines_close(lines);
    return status == DRR_E_EMPTY && p->n ? DRR_OK : status;
}

static drr_status run(drr_critic *critic, pairs *p, size_t batch, double seconds, drr_error *err)
{
    drr_score_item *items = calloc(batch, sizeof *items);
    double *took = calloc(MOST_CALLS, sizeof *took);
    drr_status status = items && took && p->n ? DRR_OK : error_memory(err);
    const size_t least = seconds < 0.5 ? 1 : 3; /* calls */
    size_t calls = 0;
    const double end = clock_seconds() + seconds;
    for (; status == DRR_OK && calls < MOST_CALLS && (calls < least || clock_seconds() < end); calls++) {
        for (size_t i = 0; i < batch; i++)
            items[i] = p->items[p->at++ % p->n];
        const double began = clock_seconds();
        status = drr_critic_score(critic, p->scores, items, batch, err);
        took[calls] = clock_seconds() - began;
    }
    for (size_t i = 0; status == DRR_OK && i < calls; i++)
        printf("%s%.7f", i ? " " : "", took[i]);
    free(items);
    free(took);
    return status;
}

static drr_status answer(drr_critic *critic, pairs *p, char *line, drr_error *err)
{
    char *rest = strchr(line, ' ');
    if (strncmp(line, "load ", 5) == 0) {
        drr_status status = load(p, rest + 1, err);
        printf("loaded %zu", p->n);
        return status;
    }
    if (strncmp(line, "run ", 4) == 0) {
        char *end;
        const size_t batch = strtoul(rest, &end, 10);
        return run(critic, p, batch, strtod(end, NULL), err);
    }
    const size_t n = p->n < SHOWN ? p->n : SHOWN;
    drr_status status = drr_critic_score(critic, p->scores, p->items, n, err);
    for (size_t i = 0; status == DRR_OK && i < n; i++)
        printf("%s%.6f", i ? " " : "", p->scores[i].logit);
    return status;
}

int main(int argc, char **argv)
{
    char line[4200];
    drr_critic *critic = NULL;
    drr_precision precision;
    drr_error err = {0};
    pairs p = {calloc(MOST_PAIRS, sizeof *p.rows), calloc(MOST_PAIRS, sizeof *p.items),
               calloc(MOST_PAIRS, sizeof *p.scores), 0, 0};
    if (argc != 3 || !p.rows || !p.items || !p.scores) {
        fprintf(stderr, "critic_score: a critic and a precision are wanted, and memory\n");
        return 2;
    }
    drr_status status = drr_precision_parse(&precision, argv[2], &err);
    if (status == DRR_OK)
        status = drr_critic_open(&critic, argv[1], &err);
    if (status == DRR_OK)
        status = drr_critic_set_precision(critic, precision, &err);
    while (status == DRR_OK && fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        status = answer(critic, &p, line, &err);
        printf("\n");
        fflush(stdout);
    }
    if (status != DRR_OK)
        fprintf(stderr, "critic_score: %s\n", err.message);
    drr_critic_close(critic);
    for (size_t i = 0; i < p.n; i++)
        json_decref(p.rows[i]);
    free(p.rows);
    free(p.items);
    free(p.scores);
    return status == DRR_OK ? 0 : 1;
}
