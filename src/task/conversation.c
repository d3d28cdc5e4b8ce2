/* conversation.c: messages that grow turn by turn. */
#include "task/task.h"

#include <stdlib.h>

drr_status conversation_add(conversation *c, const char *role, const char *content, drr_error *err)
{
    if (c->n == c->capacity) {
        const size_t capacity = c->capacity ? c->capacity * 2 : 8;
        drr_message *larger = realloc(c->messages, capacity * sizeof *larger);
        if (!larger)
            return error_memory(err);
        c->messages = larger;
        c->capacity = capacity;
    }
    char *role_copy = string_copy(role), *content_copy = string_copy(content);
    if (!role_copy || !content_copy) {
        free(role_copy);
        free(content_copy);
        return error_memory(err);
    }
    c->messages[c->n++] = (drr_message){role_copy, content_copy};
    return DRR_OK;
}

void drr_messages_free(drr_message *messages, size_t n)
{
    for (size_t i = 0; messages && i < n; i++) {
        free((void *)(uintptr_t)messages[i].role);
        free((void *)(uintptr_t)messages[i].content);
    }
    free(messages);
}

void conversation_clear(conversation *c)
{
    drr_messages_free(c->messages, c->n);
    *c = (conversation){0};
}

uint64_t task_turn_seed(uint64_t seed, const char *id, uint32_t sample, uint32_t turn)
{
    return hash_mix(hash_mix(hash_string(seed, id), ((uint64_t)sample << 32) | turn), 0x5e);
}
