/* fits.c: a probe knows the hidden states of one reasoner behind one layer. */
#include "loop/fits.h"

#include "core/hidden.h"
#include "reasoner/reasoner.h"

#include <string.h>

drr_status probe_fits(probe_fit *fit, const drr_critic_info *critic, drr_reasoner *reasoner, drr_error *err)
{
    const char *id = drr_reasoner_id(reasoner), *own = critic->probe_reasoner;
    const hidden_layers *given = &reasoner_get_basis(reasoner)->hidden;
    hidden_layers read = {0};
    *fit = PROBE_ABSENT;
    if (!own || !*own)
        return DRR_OK;
    drr_status status = hidden_layers_parse(&read, critic->probe_layer, err);
    if (status != DRR_OK)
        return status;
    const size_t n = strlen(own);
    if (given->n == 0)
        *fit = PROBE_NO_STATES;
    else if (strncmp(id, own, n) != 0 || (id[n] && strcmp(id + n, "@replay") != 0))
        *fit = PROBE_OTHER_REASONER;
    else
        *fit = hidden_layers_have(given, read.layer[0]) ? PROBE_FITS : PROBE_OTHER_LAYER;
    return DRR_OK;
}
