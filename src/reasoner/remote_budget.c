/* remote_budget.c: how long to wait before another try, and whether another request may still be paid for. A request's
 * worst cost is set aside before it is sent, so that many in flight cannot overrun a limit together. */
#include "reasoner/remote_budget.h"

double retry_wait(uint32_t tries, double retry_after, double uniform)
{
    const double first = 0.5, longest = 60;
    double wait = first;
    for (uint32_t i = 1; i < tries && wait < longest; i++)
        wait *= 2;
    wait = (wait < longest ? wait : longest) * (0.5 + 0.5 * uniform);
    if (!(retry_after > 0))
        return wait;
    const double asked = retry_after * (1 + 0.1 * uniform);
    return asked > wait ? asked : wait;
}

uint64_t budget_guess_prompt(size_t bytes)
{
    return bytes / 3 + 16;
}

static uint64_t add(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t take(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static double cost(const budget *b, uint64_t prompt, uint64_t written)
{
    return ((double)prompt * b->prompt_price + (double)written * b->written_price) / 1e6;
}

bool budget_reserve(budget *b, uint64_t prompt, uint64_t written)
{
    const uint64_t all_prompt = add(add(b->prompt, b->reserved_prompt), prompt);
    const uint64_t all_written = add(add(b->written, b->reserved_written), written);
    if (b->most_tokens && add(all_prompt, all_written) > b->most_tokens)
        return false;
    if (b->most_money > 0 && cost(b, all_prompt, all_written) > b->most_money)
        return false;
    b->reserved_prompt = add(b->reserved_prompt, prompt);
    b->reserved_written = add(b->reserved_written, written);
    return true;
}

void budget_release(budget *b, uint64_t prompt, uint64_t written)
{
    b->reserved_prompt = take(b->reserved_prompt, prompt);
    b->reserved_written = take(b->reserved_written, written);
}

void budget_spend(budget *b, uint64_t prompt, uint64_t written)
{
    b->prompt = add(b->prompt, prompt);
    b->written = add(b->written, written);
}

double budget_money(const budget *b)
{
    return cost(b, b->prompt, b->written);
}
