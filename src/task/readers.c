/* readers.c: what an answer of each kind looks like: a letter or a choice's text, a number, yes or no, a few words; and
 * where it stands in a text that does not announce it. Announcements are extract.c's. */
#include "task/extract_internal.h"
#include "task/number.h"

#include <ctype.h>
#include <math.h>
#include <string.h>
#include <strings.h>

bool word_byte(const scope *s, size_t at)
{
    return at < s->end && (isalnum((unsigned char)s->text[at]) || (unsigned char)s->text[at] >= 0x80);
}

size_t skip_decoration(const scope *s, size_t at, bool lines)
{
    static const char *const decorations[] = {"\\text{", "\\textbf{", "\\mathrm{", "\\mathbf{", "\\boxed{", "\\(",
                                              "\\[",     "\\ ",       "\\,",       "“",         "$$"};
    for (bool moved = true; moved && at < s->end;) {
        moved = s->text[at] && strchr(lines ? " \t*_`\"':=([{\n\r" : " \t*_`\"':=([{", s->text[at]);
        if (moved) {
            at++;
            continue;
        }
        for (size_t i = 0; i < sizeof decorations / sizeof *decorations && !moved; i++) {
            const size_t n = strlen(decorations[i]);
            if (at + n <= s->end && strncmp(s->text + at, decorations[i], n) == 0) {
                at += n;
                moved = true;
            }
        }
    }
    return at;
}

static void skip_spaces(const scope *s, size_t *at)
{
    while (*at < s->end && isspace((unsigned char)s->text[*at]))
        ++*at;
}

static bool skip_word(const scope *s, size_t *at, const char *word)
{
    const size_t n = strlen(word);
    if (*at + n > s->end || strncasecmp(s->text + *at, word, n) != 0 ||
        (isalpha((unsigned char)word[n - 1]) && word_byte(s, *at + n)))
        return false;
    *at += n;
    return true;
}

/* ---- choices */

/* Bytes of the text that a choice's words take up at this place, whatever their case and spacing ("cloud\ over"); 0
 * when they do not stand there. */
static size_t choice_words_at(const scope *s, size_t at, const char *choice)
{
    size_t i = at;
    const char *c = choice;
    while (*c) {
        if (isspace((unsigned char)*c)) {
            const size_t before = i;
            while (i < s->end && (isspace((unsigned char)s->text[i]) || s->text[i] == '\\'))
                i++;
            if (i == before)
                return 0;
            while (isspace((unsigned char)*c))
                c++;
        } else if (i < s->end && tolower((unsigned char)s->text[i]) == tolower((unsigned char)*c)) {
            i++;
            c++;
        } else {
            return 0;
        }
    }
    return word_byte(s, i) || (at > s->begin && word_byte(s, at - 1)) ? 0 : i - at;
}

static bool choice_by_words(const scope *s, size_t at, found_answer *found)
{
    size_t best_length = 0;
    for (size_t i = 0; i < s->task->n_choices; i++) { /* the longest that stands there */
        const size_t n = choice_words_at(s, at, s->task->choices[i]);
        if (n > best_length) {
            best_length = n;
            *found = (found_answer){at, at + n, {(char)('A' + (int)i), '\0'}};
        }
    }
    return best_length > 0;
}

/* A letter that a choice has. A small letter counts only alone: "a" is an article too. */
static bool letter_at(const scope *s, size_t at, found_answer *found)
{
    if (at >= s->end || word_byte(s, at + 1) || (at > s->begin && word_byte(s, at - 1)))
        return false;
    const char c = s->text[at], next = at + 1 < s->end ? s->text[at + 1] : '\n';
    const int n = s->task->n_choices && s->task->n_choices < 26 ? (int)s->task->n_choices : 26;
    const int place = isupper((unsigned char)c) ? c - 'A' : islower((unsigned char)c) ? c - 'a' : -1;
    if (place < 0 || place >= n || next == '\'' || (islower((unsigned char)c) && next == ' '))
        return false;
    *found = (found_answer){at, at + 1, {(char)('A' + place), '\0'}};
    return true;
}

static bool one_choice_at(const scope *s, size_t at, found_answer *found)
{
    at = skip_decoration(s, at, false);
    if (skip_word(s, &at, "option") || skip_word(s, &at, "choice"))
        at = skip_decoration(s, at, false);
    if (letter_at(s, at, found))
        return true;
    size_t words = at;
    if (skip_word(s, &words, "a") || skip_word(s, &words, "an") || skip_word(s, &words, "the"))
        skip_spaces(s, &words);
    return choice_by_words(s, at, found) || (words > at && choice_by_words(s, words, found));
}

/* "B, C" and "(A) theater or (C) hall" name no single choice. */
static bool goes_on_with_another(const scope *s, const found_answer *first)
{
    found_answer next;
    size_t at = first->end;
    while (at < s->end && (isspace((unsigned char)s->text[at]) || strchr(")]}.:*", s->text[at])))
        at++;
    if (first->end - first->begin == 1 && s->task->n_choices && choice_by_words(s, at, &next)) {
        at = next.end;
        skip_spaces(s, &at);
    }
    bool listed = at < s->end && (s->text[at] == ',' || s->text[at] == '/' || s->text[at] == '&');
    at += listed;
    skip_spaces(s, &at);
    listed = skip_word(s, &at, "or") || skip_word(s, &at, "and") || listed;
    if (!listed)
        return false;
    skip_spaces(s, &at);
    const bool bracket = at < s->end && s->text[at] == '(';
    if (!letter_at(s, at + bracket, &next) || next.text[0] == first->text[0])
        return false;
    return bracket || !islower((unsigned char)s->text[next.begin]);
}

/* The one choice whose words, or whose letter in brackets, this stretch holds; false when it holds none or several. */
static bool only_choice_within(const scope *s, found_answer *found)
{
    bool any = false;
    for (size_t at = s->begin; at < s->end; at++) {
        found_answer here;
        const bool bracketed = s->text[at] == '(' && letter_at(s, at + 1, &here) && here.end < s->end &&
                               s->text[here.end] == ')' && isupper((unsigned char)s->text[here.begin]);
        if (!bracketed && ((at > s->begin && word_byte(s, at - 1)) || !choice_by_words(s, at, &here)))
            continue;
        if (any && here.text[0] != found->text[0])
            return false;
        *found = here;
        any = true;
        at = here.end - 1;
    }
    return any;
}

/* ---- numbers */

static bool number_at(const scope *s, size_t at, found_answer *found)
{
    at = skip_decoration(s, at, false);
    size_t end = at;
    double value;
    if (!number_read(s->text, s->end, &end, &value) || !isfinite(value))
        return false;
    found->begin = at;
    found->end = end;
    number_print(found->text, sizeof found->text, value);
    return true;
}

/* The next number from *at on, which is left behind it. A sign belongs to it only where no term precedes: "5-3" holds 5
 * and 3. */
static bool next_number(const scope *s, size_t *at, found_answer *found)
{
    for (size_t i = *at; i < s->end; i++) {
        const unsigned char c = (unsigned char)s->text[i];
        const char before = i > s->begin ? s->text[i - 1] : ' ';
        if (!isdigit(c) && !strchr("-$.\\", c) && c < 0x80)
            continue;
        if (isalnum((unsigned char)before) || before == '_' || (before == ')' && c == '-') ||
            (before == '.' && i > s->begin + 1 && isdigit((unsigned char)s->text[i - 2])))
            continue;
        double value;
        size_t end = i;
        if (!number_read(s->text, s->end, &end, &value) || !isfinite(value))
            continue;
        found->begin = i;
        found->end = end;
        number_print(found->text, sizeof found->text, value);
        *at = end;
        return true;
    }
    return false;
}

/* The result of the last calculation written in the text ("= 9", or ">>9" after a calculator's note). */
static bool last_result(const scope *s, found_answer *found)
{
    bool any = false;
    for (size_t i = s->begin; i < s->end; i++) {
        found_answer here;
        if ((s->text[i] == '=' || (s->text[i] == '>' && i > s->begin && s->text[i - 1] == '>')) &&
            number_at(s, i + 1, &here)) {
            *found = here;
            any = true;
        }
    }
    return any;
}

/* Does a sentence end with the stop at text[at]? After an initial or a title it does not ("Mr. Tan"). */
static bool ends_sentence(const scope *s, size_t at)
{
    static const char *const titles[] = {"Mr", "Mrs", "Ms", "Dr", "St", "vs"};
    size_t begin = at;
    while (begin > s->begin && isalpha((unsigned char)s->text[begin - 1]))
        begin--;
    if (at - begin == 1 && isupper((unsigned char)s->text[begin]))
        return false;
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++)
        if (at - begin == strlen(titles[i]) && memcmp(s->text + begin, titles[i], at - begin) == 0)
            return false;
    return true;
}

/* The sentence before `end`, or the line where a line has one sentence. */
static scope sentence_before(const scope *s, size_t end)
{
    scope part = *s;
    while (end > s->begin && isspace((unsigned char)s->text[end - 1]))
        end--;
    part.end = end;
    for (part.begin = end; part.begin > s->begin && s->text[part.begin - 1] != '\n'; part.begin--) {
        const size_t i = part.begin;
        if (i < end && i >= s->begin + 2 && s->text[i - 1] == ' ' && s->text[i - 2] == '.' &&
            isupper((unsigned char)s->text[i]) && ends_sentence(s, i - 2))
            break;
    }
    return part;
}

/* Is the number that ends here the beginning of a calculation ("5 * 3 = 15")? */
static bool calculates(const scope *s, size_t at)
{
    static const char *const operators[] = {"+", "-", "*", "/", "x ", "=", "×", "÷", "−", "\\times", "\\cdot"};
    while (at < s->end && s->text[at] == ' ')
        at++;
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        const size_t n = strlen(operators[i]);
        if (at + n <= s->end && memcmp(s->text + at, operators[i], n) == 0)
            return true;
    }
    return false;
}

static bool number_unannounced(const scope *s, size_t floor, found_answer *found);

/* The number that a statement begins with, the result of the calculation it begins with, or what closes it. */
static bool number_within(const scope *s, size_t before, found_answer *found)
{
    const size_t at = skip_decoration(s, s->begin, true);
    if (number_at(s, at, found)) {
        size_t end = at;
        while (end < s->end && s->text[end] != '\n')
            end++;
        const scope line = {.task = s->task, .text = s->text, .begin = at, .end = end};
        if (calculates(s, found->end))
            last_result(&line, found);
        return true;
    }
    const scope whole = {.task = s->task, .text = s->text, .begin = before, .end = s->end};
    return number_unannounced(&whole, s->begin, found);
}

/* The closing sentence that holds a number, not before `floor`. Where it repeats the last calculation's result, that is
 * the answer ("So Rosie can run 50 miles in 7 hours"); else an amount of money; else its last number. */
static bool number_unannounced(const scope *s, size_t floor, found_answer *found)
{
    scope part = {.task = s->task, .text = s->text, .begin = s->end, .end = s->end};
    size_t at;
    do {
        if (part.begin <= floor)
            return false;
        part = sentence_before(s, part.begin);
        if (part.begin < floor)
            part.begin = floor;
        at = part.begin;
    } while (!next_number(&part, &at, found));
    found_answer result = {0}, here;
    const scope before = {.task = s->task, .text = s->text, .begin = s->begin, .end = part.begin};
    const bool calculated = last_result(&part, &result) || last_result(&before, &result);
    bool repeated = false, money = false;
    at = part.begin;
    while (next_number(&part, &at, &here)) {
        const bool same = calculated && strcmp(here.text, result.text) == 0, amount = s->text[here.begin] == '$';
        if (same || (!repeated && (amount || !money)))
            *found = here;
        repeated = repeated || same;
        money = money || amount;
    }
    return true;
}

/* ---- yes and no */

static bool boolean_at(const scope *s, size_t at, found_answer *found)
{
    static const char *const words[] = {"yes", "true", "no", "false"};
    at = skip_decoration(s, at, false);
    for (size_t i = 0; i < 4; i++) {
        size_t end = at;
        if (!skip_word(s, &end, words[i]))
            continue;
        *found = (found_answer){.begin = at, .end = end};
        memcpy(found->text, i < 2 ? "yes" : "no", i < 2 ? 4 : 3);
        return true;
    }
    return false;
}

/* Yes or no at the beginning of a sentence, the last one; "no" elsewhere is mostly not an answer. */
static bool boolean_unannounced(const scope *s, found_answer *found)
{
    bool any = false, fresh = true;
    for (size_t at = s->begin; at < s->end; at++) {
        found_answer here;
        const char c = s->text[at];
        if (fresh && !isspace((unsigned char)c)) {
            size_t word = at;
            if (skip_word(s, &word, "so") || skip_word(s, &word, "therefore") || skip_word(s, &word, "thus"))
                while (word < s->end && strchr(", ", s->text[word]))
                    word++;
            if (boolean_at(s, word, &here) && (here.end >= s->end || strchr(",.;:!\n*\r-", s->text[here.end]))) {
                *found = here;
                any = true;
            }
            fresh = false;
        }
        fresh = fresh || c == '\n' || ((c == '.' || c == '!' || c == '?') && at + 1 < s->end && s->text[at + 1] == ' ');
    }
    return any;
}

static bool boolean_within(const scope *s, found_answer *found)
{
    for (size_t at = s->begin; at < s->end; at++)
        if ((at == s->begin || !word_byte(s, at - 1)) && boolean_at(s, at, found))
            return true;
    return false;
}

/* ---- texts */

static bool text_at(const scope *s, size_t at, found_answer *found)
{
    at = skip_decoration(s, at, false);
    size_t end = at;
    while (end < s->end && s->text[end] != '\n')
        end++;
    while (end > at && strchr(" \t\r.*_`\"'})]$\\", s->text[end - 1]))
        end--;
    if (end == at || end - at >= sizeof found->text)
        return false;
    *found = (found_answer){.begin = at, .end = end};
    memcpy(found->text, s->text + at, end - at);
    return true;
}

/* ---- by kind */

bool answer_at(const scope *s, size_t at, found_answer *found)
{
    switch (s->task->kind) {
    case DRR_KIND_CHOICE:
        return one_choice_at(s, at, found);
    case DRR_KIND_NUMBER:
        return number_at(s, at, found);
    case DRR_KIND_BOOLEAN:
        return boolean_at(s, at, found);
    case DRR_KIND_TEXT:
        return text_at(s, at, found);
    case DRR_KIND_CHECKED: /* code.c's */
        break;
    }
    return false;
}

bool answer_within(const scope *s, size_t before, found_answer *found)
{
    const size_t at = skip_decoration(s, s->begin, true);
    switch (s->task->kind) {
    case DRR_KIND_CHOICE:
        if (one_choice_at(s, at, found))
            return !goes_on_with_another(s, found);
        return only_choice_within(s, found);
    case DRR_KIND_NUMBER:
        return number_within(s, before, found);
    case DRR_KIND_BOOLEAN:
        return boolean_at(s, at, found) || boolean_within(s, found);
    case DRR_KIND_TEXT:
        return text_at(s, at, found);
    case DRR_KIND_CHECKED: /* code.c's */
        break;
    }
    return false;
}

/* The last line that is not blank; *whole says that it is all there is. */
static scope closing_line(const scope *s, bool *whole)
{
    scope line = *s;
    while (line.end > line.begin && isspace((unsigned char)s->text[line.end - 1]))
        line.end--;
    while (line.begin < line.end && isspace((unsigned char)s->text[line.begin]))
        line.begin++;
    const size_t first = line.begin;
    for (line.begin = line.end; line.begin > first && s->text[line.begin - 1] != '\n';)
        line.begin--;
    *whole = line.begin == first;
    return line;
}

static bool choice_unannounced(const scope *s, found_answer *found)
{
    bool whole;
    const scope line = closing_line(s, &whole);
    const size_t at = skip_decoration(&line, line.begin, false);
    if (letter_at(&line, at, found) && (found->end == line.end || strchr(").:*", s->text[found->end])) &&
        !goes_on_with_another(&line, found)) /* "B", "(B) dog", "B. dog" */
        return true;
    return only_choice_within(&line, found) || (!whole && only_choice_within(s, found));
}

bool answer_unannounced(const scope *s, found_answer *found)
{
    enum { SHORT_ANSWER = 80 };
    bool whole;
    switch (s->task->kind) {
    case DRR_KIND_CHOICE:
        return choice_unannounced(s, found);
    case DRR_KIND_NUMBER:
        return number_unannounced(s, s->begin, found);
    case DRR_KIND_BOOLEAN:
        return boolean_unannounced(s, found);
    case DRR_KIND_TEXT: { /* nothing but an answer */
        const scope line = closing_line(s, &whole);
        return whole && line.end - line.begin <= SHORT_ANSWER && text_at(&line, line.begin, found);
    }
    case DRR_KIND_CHECKED:
        break;
    }
    return false;
}
