/* wording.c: the built-in prompts. Rationales in the examples are short on purpose: a reasoner writes as its examples
 * do, and on a CPU every token is paid for. The worked examples were invented for drr; none comes from a data set. The
 * words that ask for the answer line name no letter and no number, so that they pull towards none. Filling in and
 * overriding is prompt.c's. */
#include "task/wording.h"

#define FEEDBACK                                                                                                       \
    "A checker judged the answer {answer} to be wrong. Think again in a different way, briefly, and end with "         \
    "{format} "                                                                                                        \
    "on a line of its own."
#define FEEDBACK_UNPARSED                                                                                              \
    "No final answer could be read. Think again, briefly, and end with {format} on a line of its own."
#define FEEDBACK_SCORE                                                                                                 \
    "A checker gives the answer {answer} a chance of {score} to be right. Think again in a different way, briefly, "   \
    "and end with {format} on a line of its own."
#define FEEDBACK_STEP                                                                                                  \
    "A checker judged the answer {answer} to be wrong, and suspects this step: \"{step}\" Think again from there, "    \
    "briefly, and end with {format} on a line of its own."
#define JUDGE "Is the answer above right? Write only yes or no."
#define CRITIQUE                                                                                                       \
    "Check the answer above. In one sentence, name the first mistake in its reasoning; if you find none, write only: " \
    "no mistake."
#define REVISE                                                                                                         \
    "Taking this check into account, give your final answer: reason again briefly, then write {format} on a line of "  \
    "its "                                                                                                             \
    "own."

/* What every kind but programs says alike. */
#define ALL_BUT_PROGRAMS                                                                                               \
    .question = "{question}", .feedback = FEEDBACK, .feedback_unparsed = FEEDBACK_UNPARSED,                            \
    .feedback_score = FEEDBACK_SCORE, .feedback_step = FEEDBACK_STEP, .critique = CRITIQUE, .revise = REVISE,          \
    .judge = JUDGE

const wording wording_builtin[WORDING_KINDS] = {
    [DRR_KIND_CHOICE] =
        {
            .system =
                "You answer multiple-choice questions. Write one short sentence of reasoning, then \"Answer:\" and "
                "the letter on a line of its own.",
            .format = "\"Answer:\" and the letter",
            ALL_BUT_PROGRAMS,
            .grammar = "root ::= [^\\n]{1,300} \"\\nAnswer: \" [{letters}] \"\\n\"?\n",
            .examples =
                {
                    {"After kneading, where would a baker leave the dough if it has to rise quickly?\nA) freezer\nB) "
                     "warm "
                     "kitchen\nC) shop window\nD) bread bag\nE) garden",
                     "Yeast works fastest in warm air, and of these places only a warm kitchen is kept warm.\n"
                     "Answer: B"},
                    {"The hikers tied plastic bags around their boots because the path ahead was what?\nA) steep\nB) "
                     "famous\nC) crowded\nD) muddy\nE) shady",
                     "Plastic bags keep water and dirt away from boots, so the path must be wet and dirty, that is, "
                     "muddy.\nAnswer: D"},
                    {"What would someone do with an old letter that nobody else may ever read?\nA) burn it\nB) frame "
                     "it\nC) "
                     "copy it\nD) mail it\nE) translate it",
                     "Burning destroys a letter for good, while the other actions would let more people read it.\n"
                     "Answer: A"},
                },
            .n_examples = 3,
        },
    [DRR_KIND_NUMBER] =
        {
            .system = "You solve arithmetic word problems. Write the calculation in a few short sentences, then "
                      "\"Answer:\" and the number on a line of its own.",
            .format = "\"Answer:\" and the number",
            ALL_BUT_PROGRAMS,
            .grammar = "root ::= line line? line? \"Answer: \" number \"\\n\"?\nline ::= [^\\n]{1,200} \"\\n\"\n"
                       "number ::= \"-\"? [0-9]{1,12} (\".\" [0-9]{1,6})?\n",
            .examples =
                {
                    {"A shelf holds 6 boxes with 9 jars in each. The shopkeeper sells 14 jars before noon. How many "
                     "jars "
                     "are left?",
                     "There are 6 * 9 = 54 jars. After the sale 54 - 14 = 40 are left.\nAnswer: 40"},
                    {"Nora ran 12 laps and swam 20 lengths on Monday. On Tuesday she ran 5 laps more than on Monday. "
                     "How "
                     "many laps did she run on Tuesday?",
                     "Only the laps matter. On Tuesday she ran 12 + 5 = 17 laps.\nAnswer: 17"},
                    {"A printer costs $180, and today 25% is taken off. Two friends share the price equally, and each "
                     "also "
                     "pays $4.50 for ink. How many dollars does each friend pay?",
                     "25% of 180 is 45, so the printer costs 180 - 45 = 135. Each pays 135 / 2 = 67.5 for it. With ink "
                     "that is 67.5 + 4.5 = 72.\nAnswer: 72"},
                },
            .n_examples = 3,
        },
    [DRR_KIND_BOOLEAN] =
        {
            .system =
                "You answer yes-or-no questions. Write one short sentence of reasoning, then \"Answer:\" and yes or "
                "no on a line of its own.",
            .format = "\"Answer:\" and yes or no",
            ALL_BUT_PROGRAMS,
            .grammar = "root ::= [^\\n]{1,300} \"\\nAnswer: \" (\"yes\" | \"no\") \"\\n\"?\n",
            .examples =
                {
                    {"Could a grown elephant stand inside a telephone booth?",
                     "A grown elephant is about three metres tall and far wider than a telephone booth.\nAnswer: no"},
                    {"Would a lit candle go out in a sealed jar?",
                     "A flame needs oxygen, and in a sealed jar it soon uses up all there is.\nAnswer: yes"},
                    {"Could someone born in 1950 have watched the first Moon landing on television?",
                     "The landing of 1969 was shown on television, and that person was 19 years old.\nAnswer: yes"},
                },
            .n_examples = 3,
        },
    [DRR_KIND_TEXT] =
        {
            .system =
                "You answer questions. Write one short sentence of reasoning, then \"Answer:\" and the answer in as "
                "few words as possible on a line of its own.",
            .format = "\"Answer:\" and the answer in a few words",
            ALL_BUT_PROGRAMS,
            .grammar =
                "root ::= [^\\n]{1,300} \"\\nAnswer: \" [^ \\t\\n\\r*_`\"':=.(){}\\[\\]\\\\] [^\\n]{0,80} \"\\n\"\n",
            .examples =
                {
                    {"Which organ pumps blood through the body?",
                     "Blood is moved by the steady beating of the heart.\nAnswer: the heart"},
                    {"In which season do most trees of the north lose their leaves?",
                     "Leaves turn brown and fall before winter begins, that is, in autumn.\nAnswer: autumn"},
                    {"What tool drives a nail into wood?",
                     "Nails are struck on the head with a hammer.\nAnswer: hammer"},
                },
            .n_examples = 3,
        },
    /* Programs in Python. Whoever changes these words raises WORDING_CHECKED_REVISION: prompt.c says why. */
    [DRR_KIND_CHECKED] =
        {
            .system =
                "You write Python 3. Say in one short sentence how, then write the whole program in one ```python "
                "block, without tests and without printing.",
            .format = "the whole program in one ```python block",
            .question = "{question}",
            .feedback = "A checker judged this program to be wrong. Think again in a different way, briefly, and write "
                        "{format}.",
            .feedback_unparsed = "No program could be read. Think again, briefly, and write {format}.",
            .feedback_score = "A checker gives this program a chance of {score} to be right. Think again in a "
                              "different way, briefly, and write {format}.",
            .feedback_step = "A checker judged this program to be wrong, and suspects this line: \"{step}\" Think "
                             "again, briefly, and write {format}.",
            .critique =
                "Check the program above. In one sentence, name the first mistake in it; if you find none, write "
                "only: no mistake.",
            .revise = "Taking this check into account, say in one short sentence what to do, then write {format}.",
            .judge = "Is the program above right? Write only yes or no.",
            .grammar = NULL,
            .examples =
                {
                    {"Write a function to count the words of a text that begin with a given letter, in either case.\n"
                     "Your function must pass this test:\n"
                     "assert count_initial(\"Anna ate no apple\", \"a\") == 3",
                     "Split the text at white space and compare first letters in lower case.\n"
                     "```python\n"
                     "def count_initial(text, letter):\n"
                     "    return sum(word[0].lower() == letter.lower() for word in text.split())\n"
                     "```"},
                    {"Write a python function to find the smallest gap between any two numbers of a list.\n"
                     "Your function must pass this test:\n"
                     "assert smallest_gap([7, 1, 12, 4]) == 3",
                     "After sorting, the smallest gap lies between two neighbours.\n"
                     "```python\n"
                     "def smallest_gap(numbers):\n"
                     "    ordered = sorted(numbers)\n"
                     "    return min(b - a for a, b in zip(ordered, ordered[1:]))\n"
                     "```"},
                },
            .n_examples = 2,
        },
};
