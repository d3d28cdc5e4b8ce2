/* Programs that are checked: what they are said to be, and that what they try against the machine comes to nothing.
 * Each attack is small: were its guard to fail, the cost is one canary file, 40 processes or some seconds. */
#include "check/check_internal.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static drr_checker *contained, *limited;

static int open_checkers(void **state)
{
    (void)state;
    drr_check_options o;
    drr_error err = {0};
    drr_check_options_defaults(&o);
    o.seconds = 4;
    o.memory_bytes = 256u << 20;
    o.jobs = 2;
    if (drr_checker_open(&contained, &o, &err) != DRR_OK)
        print_message("this machine cannot contain programs: %s\n", err.message);
    o.limits_only = true;
    assert_int_equal(drr_checker_open(&limited, &o, &err), DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "--allow-uncontained"));
    o.allow_uncontained = true;
    if (geteuid() == 0)
        o.python = "/usr/bin/python3"; /* the user nobody must reach it */
    assert_int_equal(drr_checker_open(&limited, &o, &err), DRR_OK);
    return 0;
}

static int close_checkers(void **state)
{
    (void)state;
    drr_checker_close(contained);
    drr_checker_close(limited);
    return 0;
}

static check_result check(drr_checker *c, const char *spec, const char *answer)
{
    static unsigned long count; /* another question each time: nothing is remembered */
    char question[32];
    check_result r = {0};
    snprintf(question, sizeof question, "question %lu", count++);
    const drr_task task = {.task = "t", .id = "1", .question = question, .answer = spec, .kind = DRR_KIND_CHECKED};
    assert_int_equal(checker_submit(c, 7, &task, answer, NULL), DRR_OK);
    assert_true(checker_next(c, &r, 30000));
    assert_int_equal(r.tag, 7);
    return r;
}

#define SPEC "{\"tests\":[\"assert f() == 1\"],\"setup\":\"\"}"

static void is(drr_label wanted, const char *words, const check_result *r)
{
    if (r->label != wanted || !strstr(r->why, words))
        fail_msg("wanted %s (%s), got %s (%s)", drr_label_name(wanted), words, drr_label_name(r->label), r->why);
}

static void both_are(const char *spec, const char *answer, drr_label wanted, const char *words)
{
    drr_checker *const all[] = {contained, limited};
    for (size_t i = 0; i < 2; i++) {
        if (!all[i])
            continue;
        const check_result r = check(all[i], spec, answer);
        is(wanted, words, &r);
    }
}

static void a_program_is_right_when_every_test_passes(void **state)
{
    (void)state;
    both_are(SPEC, "def f(): return 1", DRR_LABEL_ACCEPT, "");
    both_are(SPEC, "def f(): return 2", DRR_LABEL_REJECT, "test 1: AssertionError");
    both_are(SPEC, "def f(: return 1", DRR_LABEL_REJECT, "the program: SyntaxError");
    both_are("{\"tests\":[\"assert f(Pair(1))\"],\"setup\":\"class Pair:\\n  def __init__(s, a): s.a = a\"}",
             "def f(p): return p.a == 1", DRR_LABEL_ACCEPT, "");
    both_are("{\"tests\":[\"assert f() == 1\",\"assert f() == 2\"],\"setup\":\"\"}", "def f(): return 1",
             DRR_LABEL_REJECT, "test 2");
}

static void leaving_early_or_printing_is_not_passing(void **state)
{
    (void)state;
    both_are(SPEC, "import os\nos._exit(0)", DRR_LABEL_REJECT, "before its tests");
    both_are(SPEC, "import sys\nsys.exit(0)", DRR_LABEL_REJECT, "SystemExit");
    both_are(SPEC, "print('P' * 32)\nimport os\nos.write(1, b'S' + b'0' * 32)\nos._exit(0)", DRR_LABEL_REJECT,
             "before its tests");
    both_are(SPEC, "import os\nos.kill(os.getpid(), 9)\nos.abort()", DRR_LABEL_REJECT, "");
    both_are(SPEC, "import ctypes\nctypes.string_at(0)", DRR_LABEL_REJECT, "signal 11");
}

static void time_memory_output_and_processes_are_limited(void **state)
{
    (void)state;
    const double began = clock_seconds();
    both_are(SPEC, "import time\ntime.sleep(60)", DRR_LABEL_REJECT, "out of time");
    both_are(SPEC, "while True: pass", DRR_LABEL_REJECT, "");
    assert_true(clock_seconds() - began < 40);
    both_are(SPEC, "x = bytearray(400 << 20)\ndef f(): return 1", DRR_LABEL_REJECT, "MemoryError");
    both_are(SPEC,
             "import os, time\nn = 0\ntry:\n  for i in range(40):\n    if os.fork() == 0:\n      time.sleep(30)\n"
             "      os._exit(0)\n    n += 1\nexcept OSError: pass\ndef f(): return 1 if 0 < n < 40 else n",
             DRR_LABEL_ACCEPT, "");
    both_are("{\"checker\":\"yes\"}", "x", DRR_LABEL_UNLABELLED, "wrote too much");
    both_are(SPEC,
             "import os, time\nfor i in range(6):\n  if os.fork() == 0:\n    x = bytearray(b'x') * (100 << 20)\n"
             "    time.sleep(4)\n    os._exit(0)\ntime.sleep(4)\ndef f(): return 1",
             DRR_LABEL_REJECT, "too much memory together"); /* 600 MB, and no process above its own 256 */
    both_are(SPEC,
             "n = 0\ntry:\n  with open('big', 'wb') as f:\n    while n < 80:\n      f.write(b'x' * (1 << 20))\n      n "
             "+= 1\nexcept OSError: pass\ndef f(): return 1 if 20 < n < 40 else n",
             DRR_LABEL_ACCEPT, "");
}

static size_t processes_called(const char *word)
{
    size_t n = 0;
    DIR *all = opendir("/proc");
    for (struct dirent *e; all && (e = readdir(all));) {
        char path[300], line[4096] = "";
        snprintf(path, sizeof path, "/proc/%.200s/cmdline", e->d_name);
        FILE *f = fopen(path, "re");
        if (!f)
            continue;
        const size_t size = fread(line, 1, sizeof line - 1, f);
        fclose(f);
        n += size && memmem(line, size, word, strlen(word)) != NULL;
    }
    closedir(all);
    return n;
}

static void nothing_that_a_program_started_outlives_it(void **state)
{
    (void)state;
    char leaves_a_grandchild[512], word[64];
    snprintf(word, sizeof word, "drr-grandchild-%ld", (long)getpid()); /* not another run's */
    snprintf(leaves_a_grandchild, sizeof leaves_a_grandchild,
             "import os\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n"
             "    os.execv('/bin/sh', ['sh', '-c', 'sleep 77; : %s'])\n  os._exit(0)\nimport time\n"
             "time.sleep(0.3)\ndef f(): return 1",
             word);
    both_are(SPEC, leaves_a_grandchild, DRR_LABEL_ACCEPT, "");
    assert_int_equal(processes_called(word), 0);
    char hangs[sizeof leaves_a_grandchild + 32];
    snprintf(hangs, sizeof hangs, "%s\ntime.sleep(60)", leaves_a_grandchild);
    both_are(SPEC, hangs, DRR_LABEL_REJECT, "out of time");
    assert_int_equal(processes_called(word), 0);
}

static void a_file_outside_its_folder_is_neither_read_nor_deleted(void **state)
{
    (void)state;
    char folder[] = "/tmp/drr-canary-XXXXXX", canary[64], program[512];
    if (!contained)
        skip();
    assert_non_null(mkdtemp(folder));
    chmod(folder, 0777);
    snprintf(canary, sizeof canary, "%s/canary", folder);
    FILE *f = fopen(canary, "w");
    fputs("alive", f);
    fclose(f);
    chmod(canary, 0666);
    snprintf(program, sizeof program,
             "import os\ntry:\n  open('%s').read()\n  n = 2\nexcept OSError: n = 1\n"
             "for path in ('%s', '/scratch/../%s'):\n  try:\n    os.unlink(path)\n    n = 3\n  except OSError: pass\n"
             "def f(): return n",
             canary, canary, canary + 1);
    const check_result r = check(contained, SPEC, program);
    is(DRR_LABEL_ACCEPT, "", &r);
    assert_int_equal(access(canary, R_OK), 0);
    /* and system folders cannot be written */
    const check_result w = check(contained, SPEC,
                                 "n = 1\nfor p in ('/usr/drr-x', '/drr-x', '/etc/drr-x', '/dev/drr-x'):\n  try:\n"
                                 "    open(p, 'w')\n    n = 2\n  except OSError: pass\ndef f(): return n");
    is(DRR_LABEL_ACCEPT, "", &w);
    const check_result own =
        check(contained, SPEC, "open('mine', 'w').write('1')\ndef f(): return int(open('mine').read())");
    is(DRR_LABEL_ACCEPT, "", &own);
    unlink(canary);
    rmdir(folder);
}

static void the_network_is_out_of_reach(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    char program[400];
    const int listening = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listening, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listening, 4), 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&address, &size), 0);
    snprintf(program, sizeof program,
             "import socket\ntry:\n  socket.create_connection(('127.0.0.1', %d), 2)\n  n = 2\nexcept OSError: n = 1\n"
             "def f(): return n",
             ntohs(address.sin_port));
    both_are(SPEC, program, DRR_LABEL_ACCEPT, "");
    fcntl(listening, F_SETFL, O_NONBLOCK);
    assert_true(accept(listening, NULL, NULL) < 0);
    close(listening);
}

static void a_command_accepts_rejects_or_says_nothing(void **state)
{
    (void)state;
    both_are("{\"checker\":\"exit 0\"}", "x", DRR_LABEL_ACCEPT, "");
    both_are("{\"checker\":\"echo too long; exit 1\"}", "x", DRR_LABEL_REJECT, "too long");
    both_are("{\"checker\":\"exit 2\"}", "x", DRR_LABEL_UNLABELLED, "ended with 2");
    both_are("{\"checker\":\"exec python3 -c 'import ctypes; ctypes.string_at(0)'\"}", "x", DRR_LABEL_UNLABELLED, "");
    both_are("{\"checker\":\"no-such-checker\"}", "x", DRR_LABEL_UNLABELLED, "ended with 127");
    both_are("{\"checker\":\"sleep 60\"}", "x", DRR_LABEL_UNLABELLED, "out of time");
    both_are("{\"checker\":\"python3 -c \\\"import sys, json; j = json.load(sys.stdin); sys.exit(j['answer'] != "
             "'é\\\\n2' or "
             "sorted(j) != ['answer', 'id', 'question'])\\\"\"}",
             "é\n2", DRR_LABEL_ACCEPT, "");
}

static void an_answer_is_checked_once(void **state)
{
    (void)state;
    char folder[] = "/tmp/drr-once-XXXXXX", spec[128], line[64];
    check_result r;
    assert_non_null(mkdtemp(folder));
    chmod(folder, 0777);
    snprintf(spec, sizeof spec, "{\"checker\":\"echo ran >>%s/log\"}", folder);
    const drr_task task = {.task = "t", .id = "1", .question = "once", .answer = spec, .kind = DRR_KIND_CHECKED};
    for (uint64_t i = 0; i < 6; i++) {
        assert_int_equal(checker_submit(limited, i, &task, "same", NULL), DRR_OK);
        if (i == 3)
            while (checker_pending(limited))
                assert_true(checker_next(limited, &r, 10000) && r.label == DRR_LABEL_ACCEPT);
    }
    while (checker_pending(limited))
        assert_true(checker_next(limited, &r, 10000) && r.label == DRR_LABEL_ACCEPT);
    snprintf(line, sizeof line, "%s/log", folder);
    struct stat st;
    assert_int_equal(stat(line, &st), 0);
    assert_int_equal(st.st_size, 4);
    unlink(line);
    rmdir(folder);
}

static void what_runs_can_be_withdrawn(void **state)
{
    (void)state;
    const drr_task task = {
        .task = "t", .id = "1", .question = "w", .answer = "{\"checker\":\"sleep 50\"}", .kind = DRR_KIND_CHECKED};
    const double began = clock_seconds();
    check_result r;
    for (uint64_t i = 0; i < 8; i++)
        assert_int_equal(checker_submit(limited, i, &task, i % 2 ? "a" : "b", NULL), DRR_OK);
    checker_cancel(limited);
    assert_int_equal(checker_pending(limited), 0);
    assert_false(checker_next(limited, &r, 0));
    assert_true(clock_seconds() - began < 3);
    const check_result after = check(limited, SPEC, "def f(): return 1");
    is(DRR_LABEL_ACCEPT, "", &after);
}

static void without_leave_nothing_is_run(void **state)
{
    (void)state;
    drr_error err = {0};
    const drr_task task = {.task = "t", .id = "1", .question = "q", .answer = SPEC, .kind = DRR_KIND_CHECKED};
    assert_int_equal(checker_allows(NULL, &task, &err), DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "--allow-checkers"));
    drr_check_options o;
    drr_checker *c = NULL;
    drr_check_options_defaults(&o);
    o.python = "no-such-python";
    assert_int_equal(drr_checker_open(&c, &o, &err), DRR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "--python"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_is_right_when_every_test_passes),
        cmocka_unit_test(leaving_early_or_printing_is_not_passing),
        cmocka_unit_test(time_memory_output_and_processes_are_limited),
        cmocka_unit_test(nothing_that_a_program_started_outlives_it),
        cmocka_unit_test(a_file_outside_its_folder_is_neither_read_nor_deleted),
        cmocka_unit_test(the_network_is_out_of_reach),
        cmocka_unit_test(a_command_accepts_rejects_or_says_nothing),
        cmocka_unit_test(an_answer_is_checked_once),
        cmocka_unit_test(what_runs_can_be_withdrawn),
        cmocka_unit_test(without_leave_nothing_is_run),
    };
    return cmocka_run_group_tests(tests, open_checkers, close_checkers);
}
