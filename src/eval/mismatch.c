/* mismatch.c: was the critic trained on answers like these? Another reasoner's, another file's of the same model or
 * another prompt's answers look different, and P(correct) then means less than it says. */
#include "eval/eval_internal.h"

#include <string.h>

#define REPLAY "@replay" /* ends the name of recorded answers */

/* What a recording was prompted with, its own words do not say. */
bool drr_critic_mismatch(char *why, size_t size, const drr_critic *critic, const drr_reasoner *reasoner,
                         const drr_prompts *prompts)
{
    drr_critic_info info;
    drr_critic_describe(critic, &info);
    return critic_mismatch(why, size, &info, drr_reasoner_id(reasoner),
                           reasoner_get_basis(reasoner)->recording[0] ? NULL : drr_prompts_id(prompts));
}

/* The name in "name@digest", without the digest. */
static size_t name_length(const char *id)
{
    return strcspn(id, "@");
}

static bool same_name(const char *known, const char *id)
{
    const size_t n = name_length(id);
    for (const char *at = known; *at; at++)
        if (strncmp(at, id, n) == 0 && (at == known || at[-1] == ' ' || at[-1] == ',') &&
            (at[n] == '@' || at[n] == ',' || !at[n]))
            return true;
    return false;
}

bool critic_mismatch(char *why, size_t size, const drr_critic_info *critic, const char *reasoner, const char *prompts)
{
    const char *of = critic->reasoner && *critic->reasoner ? critic->reasoner : NULL;
    char recorded[256];
    const size_t n = strlen(reasoner), n_suffix = strlen(REPLAY);
    const bool replayed = n > n_suffix && strcmp(reasoner + n - n_suffix, REPLAY) == 0;
    snprintf(recorded, sizeof recorded, "%.*s", (int)(replayed ? n - n_suffix : n), reasoner);
    const bool same_model = of && same_name(of, recorded),
               same = of && (replayed && !strchr(recorded, '@') ? same_model : strstr(of, recorded) != NULL);
    if (of && !same) { /* recordings of others have no digest */
        snprintf(
            why, size,
            "the critic %.60s was trained on answers of %.200s, and %.100s answers here%s: its P(correct) may mean "
            "little until it is trained on this one's (`drr distill`, `drr train`)",
            critic->name, of, reasoner,
            same_model ? ", the same model from another file or in another quantization" : ", another reasoner");
        return true;
    }
    if (of && prompts && critic->prompt && *critic->prompt && !strstr(critic->prompt, prompts)) {
        snprintf(why, size,
                 "the critic %.60s was trained on answers to the prompts %.100s, and the prompts are %.40s here: its "
                 "P(correct) may be off",
                 critic->name, critic->prompt, prompts);
        return true;
    }
    return false;
}
