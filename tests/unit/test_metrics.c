/* test_metrics.c: /metrics is what Prometheus's text format 0.0.4 asks for, read by a strict reader of its own here:
 * HELP and TYPE before the first sample of a family, families not scattered, names and labels well formed, no sample
 * twice, histograms whose buckets rise to their count. And the numbers are those that were counted, from many threads.
 */
#include "serve/metrics.h"

#include <ctype.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST_SAMPLES = 512 };

typedef struct sample {
    char name[96], labels[300], family[96];
    double value;
} sample;

typedef struct exposition {
    sample samples[MOST_SAMPLES];
    size_t n;
    char family[96], kind[16]; /* of the lines that are being read */
    char families[64][96];
    size_t n_families;
} exposition;

static size_t name_length(const char *text, bool colon)
{
    size_t n = 0;
    while (isalpha((unsigned char)text[n]) || text[n] == '_' || (colon && text[n] == ':') ||
           (n && isdigit((unsigned char)text[n])))
        n++;
    return n;
}

/* {a="...",b="..."}: where it ends. */
static const char *read_labels(const char *at)
{
    assert_int_equal(*at, '{');
    do {
        at++;
        const size_t n = name_length(at, false);
        assert_true(n > 0 && at[n] == '=' && at[n + 1] == '"');
        for (at += n + 2; *at != '"'; at++) {
            assert_true(*at && *at != '\n');
            if (*at == '\\')
                assert_non_null(strchr("\\\"n", *++at));
        }
        at++;
    } while (*at == ',');
    assert_int_equal(*at, '}');
    return at + 1;
}

static bool is_of_family(const sample *s, const exposition *e)
{
    const size_t n = strlen(e->family);
    if (strcmp(e->kind, "histogram") != 0)
        return strcmp(s->name, e->family) == 0;
    const char *rest = s->name + n;
    return strncmp(s->name, e->family, n) == 0 &&
           (strcmp(rest, "_bucket") == 0 || strcmp(rest, "_sum") == 0 || strcmp(rest, "_count") == 0);
}

static void read_sample(exposition *e, const char *line)
{
    assert_true(e->n < MOST_SAMPLES);
    sample *s = &e->samples[e->n];
    const size_t n = name_length(line, true);
    assert_true(n > 0 && n < sizeof s->name);
    snprintf(s->name, sizeof s->name, "%.*s", (int)n, line);
    const char *at = line[n] == '{' ? read_labels(line + n) : line + n;
    assert_true((size_t)(at - line) - n < sizeof s->labels);
    snprintf(s->labels, sizeof s->labels, "%.*s", (int)(at - line - (long)n), line + n);
    assert_int_equal(*at, ' ');
    char *end;
    s->value = strtod(at + 1, &end);
    assert_true(end > at + 1 && *end == '\0');
    snprintf(s->family, sizeof s->family, "%s", e->family);
    assert_true(is_of_family(s, e));
    assert_true(strcmp(e->kind, "counter") != 0 || (s->value >= 0 && strstr(s->name, "_total")));
    for (size_t i = 0; i < e->n; i++)
        assert_true(strcmp(e->samples[i].name, s->name) != 0 || strcmp(e->samples[i].labels, s->labels) != 0);
    e->n++;
}

static void read_type(exposition *e, const char *line)
{
    char family[96], kind[16], help[96];
    assert_int_equal(sscanf(line, "# TYPE %95s %15s", family, kind), 2);
    assert_true(strcmp(kind, "counter") == 0 || strcmp(kind, "gauge") == 0 || strcmp(kind, "histogram") == 0);
    snprintf(help, sizeof help, "%s", e->family); /* of the HELP line before it */
    assert_string_equal(family, help);
    for (size_t i = 0; i < e->n_families; i++)
        assert_string_not_equal(e->families[i], family);
    snprintf(e->families[e->n_families++], 96, "%s", family);
    snprintf(e->kind, sizeof e->kind, "%s", kind);
}

static exposition *read_text(metrics *m)
{
    exposition *e = calloc(1, sizeof *e);
    buffer text = {0};
    assert_int_equal(metrics_text(&text, m, NULL), DRR_OK);
    assert_int_equal(text.data[text.size - 1], '\n');
    char *save = NULL;
    bool helped = false;
    for (char *line = strtok_r(text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            assert_false(helped);
            assert_int_equal(sscanf(line, "# HELP %95s", e->family), 1);
            assert_null(strchr(line, '\\'));
            helped = true;
        } else if (*line == '#') {
            assert_true(helped);
            read_type(e, line);
            helped = false;
        } else {
            assert_false(helped);
            read_sample(e, line);
        }
    }
    buffer_clear(&text);
    return e;
}

static double value_of(const exposition *e, const char *name, const char *labels)
{
    for (size_t i = 0; i < e->n; i++)
        if (strcmp(e->samples[i].name, name) == 0 && strcmp(e->samples[i].labels, labels) == 0)
            return e->samples[i].value;
    fail_msg("there is no %s%s", name, labels);
    return NAN;
}

static void assert_histograms_hold(const exposition *e)
{
    double before = 0, bound = -INFINITY;
    size_t n_whole = 0;
    for (size_t i = 0; i < e->n; i++) {
        const sample *s = &e->samples[i];
        if (strncmp(s->labels, "{le=\"", 5) != 0)
            continue;
        const double le = strtod(s->labels + 5, NULL);
        assert_true(le > bound && s->value >= before);
        bound = le;
        before = s->value;
        if (isinf(le)) {
            char count[128];
            snprintf(count, sizeof count, "%s_count", s->family);
            assert_true(value_of(e, count, "") == s->value);
            before = 0;
            bound = -INFINITY;
            n_whole++;
        }
    }
    assert_int_equal(n_whole, 7);
}

static metrics *fresh(void)
{
    metrics *m = NULL;
    assert_int_equal(metrics_new(&m, NULL), DRR_OK);
    return m;
}

static void an_idle_server_has_every_family(void **state)
{
    (void)state;
    static const char *const families[] = {"drr_requests_total",
                                           "drr_turns_total",
                                           "drr_turns_per_request",
                                           "drr_dm_score",
                                           "drr_dm_seconds",
                                           "drr_request_seconds",
                                           "drr_upstream_seconds",
                                           "drr_upstream_requests_total",
                                           "drr_upstream_retries_total",
                                           "drr_upstream_tokens_total",
                                           "drr_requests_in_flight",
                                           "drr_build_info",
                                           "drr_drift_alarm"};
    metrics *m = fresh();
    exposition *e = read_text(m);
    assert_histograms_hold(e);
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        bool found = false;
        for (size_t k = 0; k < e->n_families; k++)
            found |= strcmp(e->families[k], families[i]) == 0;
        if (!found)
            fail_msg("%s is missing", families[i]);
    }
    assert_true(value_of(e, "drr_requests_total", "{outcome=\"escalate\"}") == 0);
    assert_true(isnan(value_of(e, "drr_drift_distance", "")));
    free(e);
    metrics_free(m);
    metrics_free(NULL);
}

static void what_was_counted_is_there(void **state)
{
    (void)state;
    metrics *m = fresh();
    metrics_request(m, METRICS_ACCEPT, 0.2, 1);
    metrics_request(m, METRICS_BEST, 7, 5);
    metrics_request(m, METRICS_PASSTHROUGH, 0.004, 0); /* no turns: not in their histogram */
    metrics_request(m, METRICS_OUTCOMES, 1, 1);        /* none such */
    metrics_in_flight(m, 1);
    metrics_in_flight(m, 1);
    metrics_in_flight(m, -1);
    metrics_turn(m, true);
    metrics_turn(m, false);
    metrics_turn(m, false);
    metrics_judged(m, 0.25, 0.003);
    metrics_judged(m, 1, 12);
    metrics_judged(m, NAN, NAN); /* not judged: nothing to observe */
    metrics_upstream(m, "http://h:1/v1", 200, 1.5);
    metrics_upstream(m, "http://h:1/v1", 200, 1.5);
    metrics_upstream(m, "http://h:1/v1", 0, 30);
    metrics_upstream(m, "a\"b\\c\nd", 503, 0.1);
    metrics_upstream_retry(m);
    metrics_upstream_tokens(m, 100, 20);
    metrics_batch(m, 3, 384, 0.02);
    metrics_waiting(m, 4);
    metrics_drift(m, 0.5, true, false);
    metrics_recorded(m, 6, 0);
    metrics_recorded(m, 2, 3);
    exposition *e = read_text(m);
    assert_histograms_hold(e);
    static const struct {
        const char *name, *labels;
        double value;
    } cases[] = {{"drr_requests_total", "{outcome=\"accept\"}", 1},
                 {"drr_requests_total", "{outcome=\"best\"}", 1},
                 {"drr_requests_total", "{outcome=\"passthrough\"}", 1},
                 {"drr_requests_total", "{outcome=\"error\"}", 0},
                 {"drr_requests_in_flight", "", 1},
                 {"drr_turns_total", "{verdict=\"accept\"}", 1},
                 {"drr_turns_total", "{verdict=\"reject\"}", 2},
                 {"drr_turns_per_request_bucket", "{le=\"4\"}", 1},
                 {"drr_turns_per_request_bucket", "{le=\"5\"}", 2},
                 {"drr_turns_per_request_sum", "", 6},
                 {"drr_request_seconds_count", "", 3},
                 {"drr_dm_score_bucket", "{le=\"0.2\"}", 0},
                 {"drr_dm_score_bucket", "{le=\"0.3\"}", 1},
                 {"drr_dm_score_bucket", "{le=\"1\"}", 2},
                 {"drr_dm_score_sum", "", 1.25},
                 {"drr_dm_seconds_bucket", "{le=\"5\"}", 1},
                 {"drr_dm_seconds_bucket", "{le=\"+Inf\"}", 2},
                 {"drr_upstream_requests_total", "{upstream=\"http://h:1/v1\",code=\"200\"}", 2},
                 {"drr_upstream_requests_total", "{upstream=\"http://h:1/v1\",code=\"none\"}", 1},
                 {"drr_upstream_requests_total", "{upstream=\"a\\\"b\\\\c\\nd\",code=\"503\"}", 1},
                 {"drr_upstream_seconds_sum", "", 33.1},
                 {"drr_upstream_retries_total", "", 1},
                 {"drr_upstream_tokens_total", "{kind=\"prompt\"}", 100},
                 {"drr_upstream_tokens_total", "{kind=\"completion\"}", 20},
                 {"drr_dm_texts_total", "", 3},
                 {"drr_dm_tokens_total", "", 384},
                 {"drr_dm_waiting", "", 4},
                 {"drr_drift_distance", "", 0.5},
                 {"drr_drift_alarm", "{kind=\"scores\"}", 1},
                 {"drr_drift_alarm", "{kind=\"model\"}", 0},
                 {"drr_recorded_turns_total", "{result=\"written\"}", 8},
                 {"drr_recorded_turns_total", "{result=\"lost\"}", 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!(fabs(value_of(e, cases[i].name, cases[i].labels) - cases[i].value) < 1e-9))
            fail_msg("%s%s is %g and not %g", cases[i].name, cases[i].labels,
                     value_of(e, cases[i].name, cases[i].labels), cases[i].value);
    free(e);
    metrics_free(m);
}

static void an_upstream_cannot_make_endless_labels(void **state)
{
    (void)state;
    metrics *m = fresh();
    for (int i = 0; i < 1000; i++)
        metrics_upstream(m, "http://h", i, 0.1);
    exposition *e = read_text(m);
    size_t n = 0;
    double sum = 0;
    for (size_t i = 0; i < e->n; i++)
        if (strcmp(e->samples[i].name, "drr_upstream_requests_total") == 0) {
            n++;
            sum += e->samples[i].value;
        }
    assert_int_equal(n, 33);
    assert_true(sum == 1000);
    assert_true(value_of(e, "drr_upstream_requests_total", "{upstream=\"other\",code=\"other\"}") == 968);
    free(e);
    metrics_free(m);
}

static void *count_often(void *argument)
{
    metrics *m = argument;
    buffer text = {0};
    for (int i = 0; i < 2000; i++) {
        metrics_request(m, METRICS_ACCEPT, 0.1, 1);
        metrics_upstream(m, "http://h", 200 + i % 3, 0.1);
        metrics_in_flight(m, i % 2 ? -1 : 1);
        if (i % 500 == 0 && metrics_text(&text, m, NULL) == DRR_OK)
            buffer_clear(&text);
    }
    return NULL;
}

static void threads_lose_no_count(void **state)
{
    (void)state;
    metrics *m = fresh();
    pthread_t threads[8];
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_often, m), 0);
    for (size_t i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    exposition *e = read_text(m);
    assert_true(value_of(e, "drr_requests_total", "{outcome=\"accept\"}") == 16000);
    assert_true(value_of(e, "drr_upstream_seconds_count", "") == 16000);
    assert_true(value_of(e, "drr_requests_in_flight", "") == 0);
    assert_histograms_hold(e);
    free(e);
    metrics_free(m);
}

static void without_metrics_nothing_is_counted(void **state)
{
    (void)state;
    metrics_request(NULL, METRICS_ACCEPT, 1, 1);
    metrics_in_flight(NULL, 1);
    metrics_turn(NULL, true);
    metrics_judged(NULL, 0.5, 1);
    metrics_upstream(NULL, "u", 200, 1);
    metrics_upstream_retry(NULL);
    metrics_upstream_tokens(NULL, 1, 1);
    metrics_batch(NULL, 1, 1, 1);
    metrics_waiting(NULL, 1);
    metrics_drift(NULL, 0.1, false, false);
    metrics_recorded(NULL, 1, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_idle_server_has_every_family),        cmocka_unit_test(what_was_counted_is_there),
        cmocka_unit_test(an_upstream_cannot_make_endless_labels), cmocka_unit_test(threads_lose_no_count),
        cmocka_unit_test(without_metrics_nothing_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
