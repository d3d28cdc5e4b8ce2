/* describe.c: which oneDNN does the critic's matrix products, and which instructions it chose on this CPU. */
#include "tensor/tensor.h"

#include <dnnl.h>

void tensor_describe(char *text, size_t size)
{
    static const struct {
        dnnl_cpu_isa_t isa;
        const char *name;
    } names[] = {{dnnl_cpu_isa_sse41, "SSE4.1"},
                 {dnnl_cpu_isa_avx, "AVX"},
                 {dnnl_cpu_isa_avx2, "AVX2"},
                 {dnnl_cpu_isa_avx512_core, "AVX-512"},
                 {dnnl_cpu_isa_avx512_core_vnni, "AVX-512 VNNI"},
                 {dnnl_cpu_isa_avx512_core_bf16, "AVX-512 BF16"},
                 {dnnl_cpu_isa_avx512_core_amx, "AMX"}};
    const dnnl_version_t *v = dnnl_version();
    const dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    const char *name = "another instruction set";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].isa == isa)
            name = names[i].name;
    snprintf(text, size, "oneDNN %d.%d.%d with %s", v->major, v->minor, v->patch, name);
}

void tensor_onednn_version(char *text, size_t size)
{
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, size, "%d.%d.%d, commit %.12s", v->major, v->minor, v->patch, v->hash ? v->hash : "unknown");
}
