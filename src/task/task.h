/* task.h: the door of src/task: what the rest of the library may know beside drr.h about questions, prompts
 * and answers. */
#ifndef DRR_TASK_H
#define DRR_TASK_H

#include "core/core.h"

/* A conversation that grows turn by turn; owns its strings. */
typedef struct conversation {
    drr_message *messages;
    size_t n, capacity;
} conversation;
drr_status conversation_add(conversation *c, const char *role, const char *content, drr_error *err);
void conversation_clear(conversation *c);

/* The question as the critic reads it and a trace stores it: the question text and, for a choice,
 * " (A) ... (B) ..." as in ../shared/traces. The caller frees. */
drr_status task_question_text(char **text, const drr_task *task, drr_error *err);

/* Few-shot conversation that asks `task`: system words, worked examples, the question. */
drr_status prompts_ask(conversation *c, const drr_prompts *prompts, const drr_task *task, drr_error *err);
/* The words that reject an answer, as sent back in a user message; answer NULL when none could be read.
 * The same words at distillation and at inference. The caller frees. */
drr_status prompts_feedback(char **words, const drr_prompts *prompts, const drr_task *task, const char *answer,
                            drr_error *err);
/* The same with the chance that it is right, as text, and, where not NULL, the step that is suspected. */
drr_status prompts_reject(char **words, const drr_prompts *prompts, const drr_task *task, const char *answer,
                          const char *score, const char *step, drr_error *err);
/* Asks the reasoner whether the answer above is right, yes or no. The caller frees. */
drr_status prompts_judge(char **words, const drr_prompts *prompts, const drr_task *task, drr_error *err);
/* Self-Refine's two requests: criticise the answer above; then revise it. The caller frees. */
drr_status prompts_critique(char **words, const drr_prompts *prompts, const drr_task *task, drr_error *err);
drr_status prompts_revise(char **words, const drr_prompts *prompts, const drr_task *task, drr_error *err);
/* GBNF grammar after which the final answer always parses; NULL for kinds that need none. Borrowed. */
const char *prompts_grammar(const drr_prompts *prompts, const drr_task *task);

/* Is the answer complete, so that generation may stop here? Called after each token with all text so far:
 * true only when drr_answer_extract finds an answer that more text of this line could not change. */
bool task_answer_complete(const drr_task *task, const char *text, size_t length);
/* Where drr_answer_extract finds the answer in the text; both 0 where it finds none. */
void task_answer_place(const drr_task *task, const char *text, size_t *begin, size_t *end);

/* Where the steps of a rationale end: n byte offsets, ascending, the last one the text's size; none of an empty text.
 * What is behind the last but one offset is the end of the text with its answer. The caller frees *ends. */
drr_status task_step_ends(uint32_t **ends, size_t *n, drr_kind kind, const char *text, drr_error *err);

/* Is an answer (NULL: none could be read) that of the reference? 1, 0, or -1: there is none, or a checker must say. */
int task_answer_correct(const drr_task *task, const char *answer);

/* A question as one line of drr's JSONL, and a set of one question from such a line; `where` names it in errors. The
 * caller frees. */
drr_status task_record(char **line, const drr_task *task, drr_error *err);
drr_status dataset_of_record(drr_dataset **dataset, const char *task, const char *record, const char *where,
                             drr_error *err);

/* The seed of one turn: a function of question, sample and turn alone, so that strategies that ask the same question
 * the same way share what was generated, and a killed run goes on alike. */
uint64_t task_turn_seed(uint64_t seed, const char *id, uint32_t sample, uint32_t turn);

#endif
