/* counting.c: counts traces by data set, reasoner and turn, whatever order they come in. Questions are counted by a
 * hash of data set and id, sorted in the end. */
#include "counting.h"
#include "fleet.h"

#include <stdlib.h>
#include <string.h>

typedef struct row {
    char *task, *reasoner;
    uint32_t turn;
    uint64_t traces, accepted, unparsed, tokens;
} row;

struct counting {
    row *rows;
    size_t n_rows;
    uint64_t *questions;
    size_t n_questions, room;
    drr_trace_counts all;
    bool failed;
};

counting *counting_new(void)
{
    return calloc(1, sizeof(counting));
}

void counting_free(counting *c)
{
    for (size_t i = 0; c && i < c->n_rows; i++) {
        free(c->rows[i].task);
        free(c->rows[i].reasoner);
    }
    if (c) {
        free(c->rows);
        free(c->questions);
    }
    free(c);
}

bool counting_failed(const counting *c)
{
    return c->failed;
}

static row *find_row(counting *c, const drr_trace *t)
{
    const char *task = t->task ? t->task : "", *reasoner = t->reasoner ? t->reasoner : "";
    for (size_t i = c->n_rows; i-- > 0;) {
        row *r = &c->rows[i];
        if (r->turn == t->turn && strcmp(r->task, task) == 0 && strcmp(r->reasoner, reasoner) == 0)
            return r;
    }
    row *rows = realloc(c->rows, (c->n_rows + 1) * sizeof *rows);
    if (!rows)
        return NULL;
    c->rows = rows;
    row *r = &rows[c->n_rows];
    *r = (row){.task = strdup(task), .reasoner = strdup(reasoner), .turn = t->turn};
    if (!r->task || !r->reasoner) {
        free(r->task);
        free(r->reasoner);
        return NULL;
    }
    c->n_rows++;
    return r;
}

/* FNV-1a over 64 bits: among a million questions two share a hash with a chance of 3 in 100 million. */
static uint64_t question_hash(const drr_trace *t)
{
    const char *const parts[] = {t->task ? t->task : "", t->id ? t->id : ""};
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < 2; i++) {
        const unsigned char *s = (const unsigned char *)parts[i];
        do
            h = (h ^ *s) * 0x100000001b3u;
        while (*s++);
    }
    return h;
}

static bool note_question(counting *c, uint64_t hash)
{
    if (c->n_questions && c->questions[c->n_questions - 1] == hash)
        return true;
    if (c->n_questions == c->room) {
        const size_t room = c->room ? 2 * c->room : 1024;
        uint64_t *questions = realloc(c->questions, room * sizeof *questions);
        if (!questions)
            return false;
        c->questions = questions;
        c->room = room;
    }
    c->questions[c->n_questions++] = hash;
    return true;
}

bool counting_add(void *user, const drr_trace *t)
{
    counting *c = user;
    row *r = find_row(c, t);
    if (!r || !note_question(c, question_hash(t))) {
        c->failed = true;
        return false;
    }
    const bool accepted = t->label == DRR_LABEL_ACCEPT;
    r->traces++;
    r->accepted += accepted;
    r->unparsed += t->label == DRR_LABEL_UNPARSED;
    r->tokens += t->n_tokens;
    c->all.traces++;
    c->all.accepted += accepted;
    c->all.rejected += t->label == DRR_LABEL_REJECT;
    c->all.unparsed += t->label == DRR_LABEL_UNPARSED;
    c->all.unlabelled += t->label == DRR_LABEL_UNLABELLED;
    c->all.forced += t->forced;
    c->all.tokens += t->n_tokens;
    c->all.turn0 += t->turn == 0;
    c->all.turn0_accepted += t->turn == 0 && accepted;
    c->all.seconds += t->seconds;
    c->all.stepped += t->n_steps > 0;
    c->all.rollouts += t->steps_rollouts;
    c->all.step_tokens += t->steps_tokens;
    c->all.hidden += t->hidden != NULL;
    return true;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void count_questions(counting *c)
{
    c->all.questions = 0;
    if (c->n_questions)
        qsort(c->questions, c->n_questions, sizeof *c->questions, by_value);
    for (size_t i = 0; i < c->n_questions; i++)
        c->all.questions += i == 0 || c->questions[i] != c->questions[i - 1];
}

static double share(uint64_t part, uint64_t whole)
{
    return whole ? (double)part / (double)whole : 0;
}

void counting_print(counting *c)
{
    cli_table table;
    char text[24];
    count_questions(c);
    cli_table_begin(&table, "TASK|REASONER|>TURN|>TRACES|>RIGHT|>UNPARSED|>TOKENS EACH");
    for (size_t i = 0; i < c->n_rows; i++) {
        const row *r = &c->rows[i];
        cli_table_add(&table, "%s", r->task);
        cli_table_add(&table, "%s", r->reasoner);
        cli_table_add(&table, "%u", r->turn);
        cli_table_add(&table, "%llu", (unsigned long long)r->traces);
        cli_table_add(&table, "%s", cli_share(text, share(r->accepted, r->traces)));
        cli_table_add(&table, "%s", cli_share(text, share(r->unparsed, r->traces)));
        cli_table_add(&table, "%.0f", share(r->tokens, r->traces));
    }
    cli_table_print(&table);
    printf("\n%llu traces of %llu questions, %llu right, %llu wrong, %llu unparsed, %llu after a forced rejection; ",
           (unsigned long long)c->all.traces, (unsigned long long)c->all.questions, (unsigned long long)c->all.accepted,
           (unsigned long long)c->all.rejected, (unsigned long long)c->all.unparsed, (unsigned long long)c->all.forced);
    if (c->all.unlabelled)
        printf("%llu unlabelled and so not trained on; ", (unsigned long long)c->all.unlabelled);
    printf("%llu tokens in %s\n", (unsigned long long)c->all.tokens, cli_duration(text, c->all.seconds));
    if (c->all.stepped)
        printf("steps labelled in %llu traces, by %llu continuations of %llu tokens\n",
               (unsigned long long)c->all.stepped, (unsigned long long)c->all.rollouts,
               (unsigned long long)c->all.step_tokens);
    if (c->all.hidden)
        printf("hidden states kept of %llu traces\n", (unsigned long long)c->all.hidden);
}

void counting_print_json(counting *c, const drr_fleet *fleet)
{
    cli_json j = {stdout, false};
    count_questions(c);
    cli_json_open(&j, NULL, '{');
    cli_json_uint(&j, "traces", c->all.traces);
    cli_json_uint(&j, "questions", c->all.questions);
    cli_json_uint(&j, "accepted", c->all.accepted);
    cli_json_uint(&j, "rejected", c->all.rejected);
    cli_json_uint(&j, "unparsed", c->all.unparsed);
    cli_json_uint(&j, "unlabelled", c->all.unlabelled);
    cli_json_uint(&j, "forced", c->all.forced);
    cli_json_uint(&j, "turn0", c->all.turn0);
    cli_json_uint(&j, "turn0_accepted", c->all.turn0_accepted);
    cli_json_uint(&j, "tokens", c->all.tokens);
    cli_json_number(&j, "seconds", c->all.seconds);
    cli_json_uint(&j, "stepped", c->all.stepped);
    cli_json_uint(&j, "rollouts", c->all.rollouts);
    cli_json_uint(&j, "step_tokens", c->all.step_tokens);
    cli_json_uint(&j, "hidden", c->all.hidden);
    cli_json_open(&j, "groups", '[');
    for (size_t i = 0; i < c->n_rows; i++) {
        const row *r = &c->rows[i];
        cli_json_open(&j, NULL, '{');
        cli_json_string(&j, "task", r->task);
        cli_json_string(&j, "reasoner", r->reasoner);
        cli_json_uint(&j, "turn", r->turn);
        cli_json_uint(&j, "traces", r->traces);
        cli_json_uint(&j, "accepted", r->accepted);
        cli_json_uint(&j, "unparsed", r->unparsed);
        cli_json_uint(&j, "tokens", r->tokens);
        cli_json_close(&j, '}');
    }
    cli_json_close(&j, ']');
    if (fleet)
        fleet_put_json(&j, "fleet", fleet);
    cli_json_close(&j, '}');
    printf("\n");
}
