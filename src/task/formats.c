/* formats.c: one record of a data set in drr's own shape or in the shape its authors published: GSM8K, SVAMP,
 * CommonsenseQA, StrategyQA, ARC and MMLU. Reading files and keeping tasks is dataset.c's. */
#include "task/dataset_internal.h"
#include "task/number.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

const char *const format_names[FORMAT_COUNT] = {"drr", "gsm8k", "svamp", "csqa", "strategyqa", "arc", "mmlu"};

enum { MOST_CHOICES = 26, ANSWER_SIZE = 64 };

data_format format_detect(json_t *r)
{
    json_t *question = json_object_get(r, "question");
    if (json_object_get(r, "kind") && question)
        return FORMAT_DRR;
    if (json_object_get(r, "Body") && json_object_get(r, "Question"))
        return FORMAT_SVAMP;
    if (json_is_object(question)) /* the two differ in what they add */
        return json_object_get(question, "question_concept") ||
                       json_array_size(json_object_get(question, "choices")) == 5
                   ? FORMAT_CSQA
                   : FORMAT_ARC;
    if (json_object_get(r, "qid") && json_is_boolean(json_object_get(r, "answer")))
        return FORMAT_STRATEGYQA;
    if (json_is_string(question) &&
        (json_object_get(r, "correct_answer") || json_is_array(json_object_get(r, "choices"))))
        return FORMAT_MMLU;
    if (json_is_string(question) && json_is_string(json_object_get(r, "answer")))
        return FORMAT_GSM8K;
    return FORMAT_COUNT;
}

static drr_status read_choices(const char *texts[MOST_CHOICES], size_t *n, json_t *list, const char *where,
                               drr_error *err)
{
    *n = json_array_size(list);
    if (*n < 2 || *n > MOST_CHOICES)
        return error_set(err, DRR_E_FORMAT, "%s: a choice question needs 2 to %d choices, and this has %zu", where,
                         MOST_CHOICES, *n);
    for (size_t i = 0; i < *n; i++) {
        json_t *item = json_array_get(list, i);
        texts[i] = json_is_object(item) ? json_string_or(item, "text", NULL) : json_string_value(item);
        if (!texts[i])
            return error_set(err, DRR_E_FORMAT, "%s: choice %zu has no text", where, i + 1);
    }
    return DRR_OK;
}

/* The reference answer as text; a number or true and false are taken too. An answer that is not known is written "". */
static drr_status read_answer(char answer[ANSWER_SIZE], const char **text, json_t *r, const char *field,
                              const char *where, drr_error *err)
{
    json_t *value = json_object_get(r, field);
    if (!value || json_is_null(value))
        return error_set(err, DRR_E_FORMAT,
                         "%s: the field \"%s\" is missing; where the answer is not known, write \"\"", where, field);
    *text = answer;
    if (json_is_string(value))
        *text = json_string_value(value);
    else if (json_is_number(value))
        number_print(answer, ANSWER_SIZE, json_number_value(value));
    else if (json_is_boolean(value))
        snprintf(answer, ANSWER_SIZE, "%s", json_is_true(value) ? "yes" : "no");
    else
        return error_set(err, DRR_E_FORMAT, "%s: the field \"%s\" is neither text, a number, true nor false", where,
                         field);
    return DRR_OK;
}

/* What decides about an answer, from a record's "tests" and "setup" or its "checker", becomes the task's answer. */
static drr_status read_checked(drr_dataset *d, const char *id, const char *question, json_t *r, const char *where,
                               drr_error *err)
{
    json_t *tests = json_object_get(r, "tests"), *setup = json_object_get(r, "setup"), *test;
    json_t *command = json_object_get(r, "checker"), *check;
    size_t i;
    if (!tests == !command)
        return error_set(
            err, DRR_E_FORMAT,
            "%s: a checked question needs either \"tests\", a list of Python statements, or \"checker\", a "
            "command; this has %s",
            where, tests ? "both" : "neither");
    if (command && (!json_is_string(command) || json_string_length(command) == 0))
        return error_set(err, DRR_E_FORMAT, "%s: the field \"checker\" is not a command", where);
    if (tests && (!json_is_array(tests) || json_array_size(tests) == 0))
        return error_set(err, DRR_E_FORMAT, "%s: the field \"tests\" is not a list of Python statements", where);
    json_array_foreach(tests, i, test)
    {
        if (!json_is_string(test))
            return error_set(err, DRR_E_FORMAT, "%s: test %zu is not text", where, i + 1);
    }
    if (setup && !json_is_null(setup) && !json_is_string(setup))
        return error_set(err, DRR_E_FORMAT, "%s: the field \"setup\" is not text", where);
    if (command)
        check = json_pack("{s:O}", "checker", command);
    else
        check = json_pack("{s:O, s:s}", "tests", tests, "setup", setup ? json_string_or(r, "setup", "") : "");
    char *text = check ? json_dumps(check, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
    json_decref(check);
    if (!text)
        return error_memory(err);
    drr_status status = dataset_add(d, id, question, NULL, 0, text, DRR_KIND_CHECKED, where, err);
    free(text);
    return status;
}

static drr_status read_drr(drr_dataset *d, json_t *r, const char *where, drr_error *err)
{
    const char *id, *question, *kind_name, *answer, *choices[MOST_CHOICES];
    char printed[ANSWER_SIZE];
    size_t n = 0;
    drr_kind kind;
    drr_status status = json_get_string(&id, r, "id", where, err);
    if (status == DRR_OK)
        status = json_get_string(&question, r, "question", where, err);
    if (status == DRR_OK)
        status = json_get_string(&kind_name, r, "kind", where, err);
    if (status != DRR_OK)
        return status;
    if (drr_kind_parse(&kind, kind_name, NULL) != DRR_OK)
        return error_set(err, DRR_E_FORMAT,
                         "%s: the kind \"%s\" is not known; write choice, number, boolean, text or "
                         "checked",
                         where, kind_name);
    if (kind == DRR_KIND_CHECKED)
        return read_checked(d, id, question, r, where, err);
    if (kind == DRR_KIND_CHOICE)
        status = read_choices(choices, &n, json_object_get(r, "choices"), where, err);
    if (status == DRR_OK)
        status = read_answer(printed, &answer, r, "answer", where, err);
    if (status != DRR_OK)
        return status;
    return dataset_add(d, id, question, choices, n, answer, kind, where, err);
}

/* The reference solution ends with "#### 1,234"; calculator notes <<2*3=6>> are not needed. */
static drr_status read_gsm8k(drr_dataset *d, json_t *r, size_t number, const char *where, drr_error *err)
{
    const char *question, *answer;
    char id[128], value[64];
    drr_status status = json_get_string(&question, r, "question", where, err);
    if (status == DRR_OK)
        status = json_get_string(&answer, r, "answer", where, err);
    if (status != DRR_OK)
        return status;
    const char *mark = strstr(answer, "####");
    size_t at = 0;
    double x;
    const char *rest = mark ? mark + 4 : "";
    while (*rest == ' ')
        rest++;
    if (!mark || !number_read(rest, strlen(rest), &at, &x))
        return error_set(err, DRR_E_FORMAT, "%s: the answer does not end with \"#### \" and a number, as GSM8K's do",
                         where);
    number_print(value, sizeof value, x);
    snprintf(id, sizeof id, "%s-%zu", d->name, number);
    return dataset_add(d, json_string_or(r, "id", id), question, NULL, 0, value, DRR_KIND_NUMBER, where, err);
}

static drr_status read_svamp(drr_dataset *d, json_t *r, const char *where, drr_error *err)
{
    const char *body, *question, *id;
    char value[64];
    double x;
    drr_status status = json_get_string(&body, r, "Body", where, err);
    if (status == DRR_OK)
        status = json_get_string(&question, r, "Question", where, err);
    if (status == DRR_OK)
        status = json_get_string(&id, r, "ID", where, err);
    if (status != DRR_OK)
        return status;
    json_t *answer = json_object_get(r, "Answer");
    const char *text = json_string_value(answer);
    size_t at = 0;
    if (json_is_number(answer))
        x = json_number_value(answer);
    else if (!text || !number_read(text, strlen(text), &at, &x))
        return error_set(err, DRR_E_FORMAT, "%s: the field \"Answer\" %s", where,
                         answer ? "is not a number" : "is missing");
    number_print(value, sizeof value, x);
    buffer whole = {0};
    const size_t n = strlen(body);
    const char *join = n && isalnum((unsigned char)body[n - 1]) ? ". " : " ";
    status = buffer_printf(&whole, err, "%s%s%s", body, join, question);
    if (status == DRR_OK)
        status = dataset_add(d, id, whole.data, NULL, 0, value, DRR_KIND_NUMBER, where, err);
    buffer_clear(&whole);
    return status;
}

/* CommonsenseQA and ARC: question.stem, question.choices[{label, text}], answerKey; ARC's labels may be 1 to 5. */
static drr_status read_stem(drr_dataset *d, json_t *r, const char *where, drr_error *err)
{
    const char *id, *stem, *choices[MOST_CHOICES];
    json_t *question = json_object_get(r, "question");
    json_t *list = json_object_get(question, "choices");
    size_t n = 0;
    drr_status status = json_get_string(&id, r, "id", where, err);
    if (status == DRR_OK)
        status = json_get_string(&stem, question, "stem", where, err);
    if (status == DRR_OK)
        status = read_choices(choices, &n, list, where, err);
    if (status != DRR_OK)
        return status;
    const char *key;
    char printed[ANSWER_SIZE], letter[2] = "";
    status = read_answer(printed, &key, r, "answerKey", where, err);
    if (status != DRR_OK)
        return status;
    for (size_t i = 0; i < n; i++)
        if (strcmp(json_string_or(json_array_get(list, i), "label", "?"), key) == 0)
            letter[0] = (char)('A' + (int)i);
    if (*key && !letter[0])
        return error_set(err, DRR_E_FORMAT, "%s: the answerKey \"%s\" is not the label of one of its choices", where,
                         key);
    return dataset_add(d, id, stem, choices, n, letter, DRR_KIND_CHOICE, where, err);
}

static drr_status read_strategyqa(drr_dataset *d, json_t *r, const char *where, drr_error *err)
{
    const char *id, *question;
    drr_status status = json_get_string(&id, r, "qid", where, err);
    if (status == DRR_OK)
        status = json_get_string(&question, r, "question", where, err);
    if (status != DRR_OK)
        return status;
    json_t *answer = json_object_get(r, "answer");
    if (answer && !json_is_boolean(answer))
        return error_set(err, DRR_E_FORMAT, "%s: \"answer\" is neither true nor false", where);
    return dataset_add(d, id, question, NULL, 0,
                       !answer                ? ""
                       : json_is_true(answer) ? "yes"
                                              : "no",
                       DRR_KIND_BOOLEAN, where, err);
}

/* MMLU goes round in two shapes: choices[] with the answer as an index or a letter, and answer_a .. answer_d with
 * correct_answer. */
static drr_status read_mmlu(drr_dataset *d, json_t *r, size_t number, const char *where, drr_error *err)
{
    static const char *const fields[] = {"answer_a", "answer_b", "answer_c", "answer_d"};
    const char *question, *choices[MOST_CHOICES];
    const bool listed = json_object_get(r, "choices") != NULL;
    size_t n = 0;
    char id[128], letter[2] = "";
    drr_status status = json_get_string(&question, r, "question", where, err);
    if (status == DRR_OK && listed)
        status = read_choices(choices, &n, json_object_get(r, "choices"), where, err);
    for (; status == DRR_OK && !listed && n < 4; n++)
        status = json_get_string(&choices[n], r, fields[n], where, err);
    if (status != DRR_OK)
        return status;
    const char *field = listed ? "answer" : "correct_answer";
    if (!listed && strcmp(json_string_or(r, field, ""), "answer") == 0)
        return DRR_OK; /* the heading of the table that the file was made of, left in as a record */
    json_t *answer = json_object_get(r, field);
    const char *text = json_string_value(answer);
    if (json_is_integer(answer) && json_integer_value(answer) >= 0 && json_integer_value(answer) < (json_int_t)n)
        letter[0] = (char)('A' + (int)json_integer_value(answer));
    else if (text && text[0] && !text[1])
        letter[0] = text[0];
    else
        return error_set(err, DRR_E_FORMAT, "%s: the field \"%s\" %s", where, field,
                         answer ? "is neither a letter nor the index of a choice" : "is missing");
    snprintf(id, sizeof id, "%s-%zu", d->name, number);
    return dataset_add(d, json_string_or(r, "id", id), question, choices, n, letter, DRR_KIND_CHOICE, where, err);
}

drr_status format_read(drr_dataset *d, data_format format, json_t *record, size_t number, const char *where,
                       drr_error *err)
{
    if (!json_is_object(record))
        return error_set(err, DRR_E_FORMAT, "%s: a record must be a JSON object", where);
    switch (format) {
    case FORMAT_DRR:
        return read_drr(d, record, where, err);
    case FORMAT_GSM8K:
        return read_gsm8k(d, record, number, where, err);
    case FORMAT_SVAMP:
        return read_svamp(d, record, where, err);
    case FORMAT_CSQA:
    case FORMAT_ARC:
        return read_stem(d, record, where, err);
    case FORMAT_STRATEGYQA:
        return read_strategyqa(d, record, where, err);
    case FORMAT_MMLU:
        return read_mmlu(d, record, number, where, err);
    case FORMAT_COUNT:
        break;
    }
    return error_set(err, DRR_E_FORMAT,
                     "%s: this record is in no known format (drr, gsm8k, svamp, csqa, strategyqa, arc, mmlu); say "
                     "--format or convert it to drr's, docs/formats.md",
                     where);
}
