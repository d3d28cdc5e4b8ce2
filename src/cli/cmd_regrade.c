/* cmd_regrade.c: `drr traces regrade`: recorded answers graded again by our extraction, and where the two differ. */
#include "counting.h"

#include <stdlib.h>
#include <string.h>

static int run(int argc, char **argv);

const cli_command traces_regrade_command = {
    "traces regrade", "FILE", "grade recorded answers again, and show where the grades differ",
    "n counts the traces with a reference answer. A record that took our number and cut it at a comma or lost its sign "
    "is\n"
    "counted as misread (docs/grading.md).\n\n"
    "Examples:\n  drr traces regrade svamp.replay.jsonl.gz\n  drr traces regrade csqa.replay.jsonl.gz --json\n"
    "  drr traces regrade svamp.replay.jsonl.gz --n 5\n",
    run};

/* Classes of disagreement: what the record says by what we say. */
enum { LABELS = 3 };
typedef struct classes {
    uint64_t n[LABELS][LABELS], to_show;
    bool json;
} classes;

static const char *shown(const char *answer)
{
    return answer ? answer : "nothing";
}

static void hear(void *user, const drr_trace *t, drr_label ours, const char *our_answer)
{
    classes *c = user;
    if ((unsigned)t->label >= LABELS || (unsigned)ours >= LABELS)
        return;
    if (c->n[t->label][ours]++ >= c->to_show || c->json)
        return;
    char *end = t->text ? cli_one_line(strlen(t->text) > 160 ? t->text + strlen(t->text) - 160 : t->text, 160) : NULL;
    printf("%s %s sample %u: recorded %s (read %s), ours %s (read %s), reference %s\n    ...%s\n", t->task, t->id,
           t->sample, drr_label_name(t->label), shown(t->answer), drr_label_name(ours), shown(our_answer), t->gold,
           end ? end : "");
    free(end);
}

static void print_json(const drr_regrade *r, const classes *c)
{
    cli_json j = {stdout, false};
    cli_json_open(&j, NULL, '{');
    cli_json_uint(&j, "n", r->n);
    cli_json_number(&j, "agreement", r->n ? (double)r->agreed / (double)r->n : 0);
    cli_json_uint(&j, "agreed", r->agreed);
    cli_json_uint(&j, "unparsed", r->unparsed);
    cli_json_uint(&j, "no_reference", r->no_reference);
    cli_json_uint(&j, "misread", r->misread);
    cli_json_open(&j, "disagreements", '[');
    for (int theirs = 0; theirs < LABELS; theirs++) {
        for (int ours = 0; ours < LABELS; ours++) {
            if (!c->n[theirs][ours])
                continue;
            cli_json_open(&j, NULL, '{');
            cli_json_string(&j, "recorded", drr_label_name((drr_label)theirs));
            cli_json_string(&j, "ours", drr_label_name((drr_label)ours));
            cli_json_uint(&j, "n", c->n[theirs][ours]);
            cli_json_close(&j, '}');
        }
    }
    cli_json_close(&j, ']');
    cli_json_close(&j, '}');
    printf("\n");
}

static void print_text(const drr_regrade *r, const classes *c)
{
    char share[16];
    cli_table table;
    if (c->to_show && r->agreed < r->n)
        printf("\n");
    printf("%llu graded, agreement %s; %llu unparsed, %llu misread by the record, %llu without a reference\n",
           (unsigned long long)r->n, cli_share(share, r->n ? (double)r->agreed / (double)r->n : 0),
           (unsigned long long)r->unparsed, (unsigned long long)r->misread, (unsigned long long)r->no_reference);
    if (r->agreed == r->n)
        return;
    printf("\n");
    cli_table_begin(&table, "RECORDED|OURS|>TRACES");
    for (int theirs = 0; theirs < LABELS; theirs++) {
        for (int ours = 0; ours < LABELS; ours++) {
            if (!c->n[theirs][ours])
                continue;
            cli_table_add(&table, "%s", drr_label_name((drr_label)theirs));
            cli_table_add(&table, "%s", drr_label_name((drr_label)ours));
            cli_table_add(&table, "%llu", (unsigned long long)c->n[theirs][ours]);
        }
    }
    cli_table_print(&table);
}

static int run(int argc, char **argv)
{
    classes c = {.to_show = 3};
    const cli_option options[] = {{.name = "n",
                                   .argument = "N",
                                   .type = CLI_UINT64,
                                   .value = &c.to_show,
                                   .meaning = "examples of each class to show"},
                                  {.name = "json", .type = CLI_FLAG, .value = &c.json, .meaning = "one JSON object"},
                                  CLI_END};
    drr_regrade result = {0};
    drr_error err = {0};
    int code;
    if (!cli_parse(&traces_regrade_command, options, &argc, &argv, 1, 1, &code))
        return code;
    if (drr_traces_regrade(argv[0], &result, hear, &c, &err) != DRR_OK)
        return cli_fail(&err);
    (c.json ? print_json : print_text)(&result, &c);
    return CLI_DONE;
}
