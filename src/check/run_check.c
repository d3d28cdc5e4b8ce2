/* run_check.c: one check: an answer and what decides about it become a label. A Python program is run with its tests in
 * one interpreter; a command is handed question and answer as JSON. What the model wrote can only be wrong; what keeps
 * a checker from deciding is "unlabelled", never a guess. */
#include "check/check_internal.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>

/* "S": this ran, so what follows is the answer's doing. Then the token, when every test has passed, or "F" and why not.
 * The token is unknown to the answer, so that neither printing nor leaving early is taken for success; the program's
 * own output goes nowhere. */
static const char harness[] =
    "import sys, os, json\n"
    "j = json.loads(sys.stdin.buffer.read())\n"
    "write, leave, report = os.write, os._exit, os.dup(1)\n"
    "nothing = os.open(os.devnull, os.O_RDWR)\n"
    "for fd in (0, 1, 2):\n"
    "    os.dup2(nothing, fd)\n"
    "write(report, b'S')\n"
    "parts = [('the set-up', j.pop('setup')), ('the program', j.pop('code'))]\n"
    "parts += [('test %d' % (i + 1), t) for i, t in enumerate(j.pop('tests'))]\n"
    "token, space, what = j.pop('token').encode(), {'__name__': 'answer'}, ''\n"
    "try:\n"
    "    for what, source in parts:\n"
    "        exec(compile(source, what, 'exec'), space)\n"
    "except BaseException as e:\n"
    "    try:\n"
    "        write(report, ('F%s: %s: %s' % (what, type(e).__name__, e)).encode('utf-8', 'replace')[:200])\n"
    "    finally:\n"
    "        leave(1)\n"
    "write(report, token)\n"
    "leave(0)\n";

static void make_token(char token[33])
{
    unsigned char bytes[16] = {0};
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        memset(bytes, 0x5a, sizeof bytes); /* weaker, still nothing that a program prints by chance */
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(token + 2 * i, 3, "%02x", bytes[i]);
}

static void say(char *why, size_t size, const char *words)
{
    size_t n = 0;
    for (; *words && n + 1 < size; words++)
        why[n++] = (unsigned char)*words < ' ' ? ' ' : *words;
    while (n && ((unsigned char)why[n - 1] & 0xc0) == 0x80) /* a character cut in two says nothing */
        n--;
    why[n] = '\0';
}

static drr_label judge_python(char *why, size_t size, const contained_end *e, const char *token)
{
    const bool began = e->output_size > 0 && e->output[0] == 'S';
    why[0] = '\0';
    if (e->cancelled || !e->started || !began) {
        char words[OUTPUT_KEPT + 96];
        snprintf(words, sizeof words, "Python did not start (wait status %d%s): %s", e->wait_status,
                 e->out_of_time ? ", out of time" : "", e->output);
        say(why, size, e->cancelled ? "withdrawn" : e->started ? words : e->why_not);
        return DRR_LABEL_UNLABELLED;
    }
    if (strcmp(e->output + 1, token) == 0 && !e->out_of_time && !e->too_much_memory && WIFEXITED(e->wait_status) &&
        WEXITSTATUS(e->wait_status) == 0)
        return DRR_LABEL_ACCEPT;
    if (e->out_of_time)
        say(why, size, "out of time");
    else if (e->too_much_output)
        say(why, size, "too much output");
    else if (e->too_much_memory)
        say(why, size, "its processes took too much memory together");
    else if (e->output[1] == 'F')
        say(why, size, e->output + 2);
    else if (WIFSIGNALED(e->wait_status))
        snprintf(why, size, "ended by signal %d", WTERMSIG(e->wait_status));
    else
        say(why, size, "the program ended before its tests did");
    return DRR_LABEL_REJECT;
}

static drr_label judge_command(char *why, size_t size, const contained_end *e)
{
    why[0] = '\0';
    if (e->cancelled || !e->started) {
        say(why, size, e->cancelled ? "withdrawn" : e->why_not);
    } else if (e->out_of_time || e->too_much_output || e->too_much_memory) {
        say(why, size,
            e->out_of_time       ? "the checker ran out of time"
            : e->too_much_output ? "the checker wrote too much"
                                 : "the checker's processes took too much memory together");
    } else if (WIFSIGNALED(e->wait_status)) {
        snprintf(why, size, "the checker was ended by signal %d", WTERMSIG(e->wait_status));
    } else if (WEXITSTATUS(e->wait_status) == 0) {
        return DRR_LABEL_ACCEPT;
    } else if (WEXITSTATUS(e->wait_status) == 1) {
        say(why, size, e->output);
        return DRR_LABEL_REJECT;
    } else {
        char words[OUTPUT_KEPT + 64];
        snprintf(words, sizeof words, "the checker ended with %d: %s", WEXITSTATUS(e->wait_status), e->output);
        say(why, size, words);
    }
    return DRR_LABEL_UNLABELLED;
}

drr_status check_run(drr_label *label, char *why, size_t why_size, const check_place *place, const char *id,
                     const char *question, const char *spec, const char *answer, const atomic_bool *cancelled,
                     drr_error *err)
{
    json_t *check = NULL, *input = NULL;
    char *text = NULL, token[33];
    contained_end *end = calloc(1, sizeof *end);
    if (!end)
        return error_memory(err);
    drr_status status = json_parse(&check, spec, strlen(spec), "what decides about an answer", err);
    if (status != DRR_OK)
        goto done;
    const char *command = json_string_or(check, "checker", NULL);
    const char *const python_words[] = {place->python, "-I", "-c", harness, NULL};
    const char *const command_words[] = {"/bin/sh", "-c", command, NULL};
    make_token(token);
    input = command ? json_pack("{s:s, s:s, s:s}", "id", id, "question", question, "answer", answer)
                    : json_pack("{s:s, s:s, s:O, s:s}", "code", answer, "setup", json_string_or(check, "setup", ""),
                                "tests", json_object_get(check, "tests"), "token", token);
    text = input ? json_dumps(input, JSON_COMPACT) : NULL;
    if (!text) { /* an answer that is not UTF-8 */
        *label = DRR_LABEL_UNLABELLED;
        say(why, why_size, "question and answer cannot be written as JSON: not UTF-8?");
        goto done;
    }
    const contained_program program = {.argv = command ? command_words : python_words,
                                       .path = place->path,
                                       .folder = command ? place->folder : NULL,
                                       .input = text,
                                       .input_size = strlen(text),
                                       .visible = command ? place->visible_command : place->visible_python,
                                       .limits = place->limits,
                                       .namespaces = place->namespaces,
                                       .cancelled = cancelled};
    status = contained_run(end, &program, err);
    if (status == DRR_OK)
        *label = command ? judge_command(why, why_size, end) : judge_python(why, why_size, end, token);
done:
    json_decref(check);
    json_decref(input);
    free(text);
    free(end);
    return status;
}
