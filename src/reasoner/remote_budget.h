/* remote_budget.h: the arithmetic of waiting and of spending, free of any network. */
#ifndef DRR_REASONER_REMOTE_BUDGET_H
#define DRR_REASONER_REMOTE_BUDGET_H

#include "core/core.h"

/* Seconds before try number `tries` + 1, for a uniform random number in [0, 1): 0.5, 1, 2, .. up to 60, of which the
 * second half is random. retry_after (0: none) is what the server asked for; it is kept, and up to a tenth is added so
 * that all who were told the same do not come back at once. */
double retry_wait(uint32_t tries, double retry_after, double uniform);

/* What may be spent, what is, and what requests in flight may yet cost. Prices are for a million tokens. */
typedef struct budget {
    uint64_t most_tokens; /* 0: no limit */
    double most_money;    /* 0: no limit */
    double prompt_price, written_price;
    uint64_t prompt, written;                   /* spent */
    uint64_t reserved_prompt, reserved_written; /* by requests in flight */
} budget;

/* A guess at a prompt's tokens, on the high side for ordinary text. */
uint64_t budget_guess_prompt(size_t bytes);
/* False, and nothing reserved, when it might go over a limit. */
bool budget_reserve(budget *b, uint64_t prompt, uint64_t written);
void budget_release(budget *b, uint64_t prompt, uint64_t written);
void budget_spend(budget *b, uint64_t prompt, uint64_t written);
double budget_money(const budget *b); /* spent so far */

#endif
