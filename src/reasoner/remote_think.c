/* remote_think.c: <think>...</think> at the beginning of an answer. An opening tag counts only where nothing but white
 * space has been written: an answer may speak of the tag. A closing tag without an opening one makes thoughts of all
 * before it: templates that end the prompt with "<think>" leave the opening tag out of the reply. */
#include "reasoner/remote_think.h"

#include <string.h>

static const char OPEN[] = "<think>", CLOSE[] = "</think>";

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static void drop_held(think_splitter *s, size_t n)
{
    s->n_held -= n;
    memmove(s->held, s->held + n, s->n_held);
}

/* How the held bytes compare with a tag: whole, the beginning of one, or neither. */
enum match { NO_TAG, MAYBE_TAG, TAG };
static enum match compare(const char *held, size_t n, const char *tag)
{
    const size_t length = strlen(tag);
    if (n < length)
        return memcmp(held, tag, n) == 0 ? MAYBE_TAG : NO_TAG;
    return memcmp(held, tag, length) == 0 ? TAG : NO_TAG;
}

static void end_thoughts(think_splitter *s)
{
    s->n_held = 0;
    s->seen = true;
    s->n_ended++;
    s->state = THINK_START;
}

static size_t held_space(const think_splitter *s)
{
    size_t space = 0;
    while (space < s->n_held && is_space(s->held[space]))
        space++;
    return space;
}

/* At the start: space, then perhaps an opening tag. True: wait for more bytes. */
static bool settle_start(think_splitter *s)
{
    const size_t space = held_space(s);
    const enum match m = compare(s->held + space, s->n_held - space, OPEN);
    if (m == TAG) {
        s->n_held = 0;
        s->state = THINK_INSIDE;
    } else if (m == NO_TAG || space > sizeof s->held / 2) {
        if (s->seen) /* space between thoughts and answer belongs to neither */
            drop_held(s, space);
        s->state = THINK_ANSWER;
    }
    return m == MAYBE_TAG && s->state == THINK_START;
}

/* Looks at the held bytes after each new one. */
static drr_status settle(think_splitter *s, drr_error *err)
{
    drr_status status = DRR_OK;
    while (status == DRR_OK && s->n_held) {
        if (s->state == THINK_START) {
            if (settle_start(s))
                break;
            continue;
        }
        const bool looking = s->state == THINK_INSIDE || !s->seen;
        const enum match m = looking ? compare(s->held, s->n_held, CLOSE) : NO_TAG;
        if (m == MAYBE_TAG)
            break;
        if (m == TAG) {
            if (s->state == THINK_ANSWER) {
                status = buffer_append(&s->thoughts, s->answer.data, s->answer.size, err);
                s->answer.size = 0;
                if (s->answer.data) /* who looks at it under way */
                    s->answer.data[0] = '\0';
            }
            end_thoughts(s);
        } else {
            status = buffer_append(s->state == THINK_INSIDE ? &s->thoughts : &s->answer, s->held, 1, err);
            drop_held(s, 1);
        }
    }
    return status;
}

drr_status think_feed(think_splitter *s, const char *bytes, size_t size, drr_error *err)
{
    drr_status status = DRR_OK;
    for (size_t i = 0; status == DRR_OK && i < size; i++) {
        if (s->n_held == 0 && s->state == THINK_ANSWER && s->seen)
            return buffer_append(&s->answer, bytes + i, size - i, err);
        s->held[s->n_held++] = bytes[i]; /* settle leaves half the room and a tag at most */
        status = settle(s, err);
    }
    return status;
}

drr_status think_feed_thoughts(think_splitter *s, const char *bytes, size_t size, drr_error *err)
{
    s->seen = s->seen || size; /* such a server writes no tags */
    return buffer_append(&s->thoughts, bytes, size, err);
}

size_t think_answer_size(const think_splitter *s)
{
    if (s->state == THINK_INSIDE)
        return 0;
    return s->answer.size + s->n_held - (s->state == THINK_START && s->seen ? held_space(s) : 0);
}

drr_status think_end(think_splitter *s, drr_error *err)
{
    const size_t space = s->state == THINK_START && s->seen ? held_space(s) : 0;
    drr_status status =
        buffer_append(s->state == THINK_INSIDE ? &s->thoughts : &s->answer, s->held + space, s->n_held - space, err);
    s->n_held = 0;
    return status;
}

void think_clear(think_splitter *s)
{
    buffer_clear(&s->answer);
    buffer_clear(&s->thoughts);
    *s = (think_splitter){0};
}
