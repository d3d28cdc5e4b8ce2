/* pass.c: what stands around every pass of an encoder, so that oneDNN's generated code harms nobody else in the
 * process, and nobody harms it.
 *
 * Signals. Before version 3.11.2, oneDNN's fp32 product points the stack register at its workspace on the heap while it
 * works (its issue 4845). A handler that runs then has its frame, with the vector registers some kilobytes, written
 * below that workspace: over other allocations. So during a pass no signal is taken by the calling thread, and by
 * OpenMP's other threads never; it waits, a second at most in training, or another thread of the process takes it.
 * Signals that a thread raises by what it does itself stay as they are.
 *
 * Tiles. On CPUs with AMX oneDNN releases the tile registers' configuration when it has used them, and ggml, which
 * shares OpenMP's threads with it, configures each thread once and never again. So a pass puts back what it found. */
#include "tensor/bf16.h"

#include <dnnl.h>
#include <omp.h>
#include <signal.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define HAS_TILES 1
#endif

static _Thread_local bool deaf; /* a thread of the pool that takes no signals any more */

static void hold_signals(sigset_t *before)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t set;
    sigfillset(&set);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        sigdelset(&set, own[i]);
    pthread_sigmask(SIG_BLOCK, &set, before);
}

#ifdef HAS_TILES
static _Thread_local struct {
    _Alignas(64) uint8_t bytes[64];
} tiles;

__attribute__((target("amx-tile"))) static void keep_tiles(void)
{
    _tile_storeconfig(tiles.bytes);
}

__attribute__((target("amx-tile"))) static void put_back_tiles(void)
{
    _tile_loadconfig(tiles.bytes);
}
#else
static void keep_tiles(void)
{
}

static void put_back_tiles(void)
{
}
#endif

void tensor_begin(tensor_pass *pass, uint32_t most)
{
    sigset_t before;
    _Static_assert(sizeof before <= sizeof pass->signals, "tensor.h keeps room for a sigset_t");
    hold_signals(&before);
    memcpy(pass->signals, &before, sizeof before);
    pass->has_tiles = dnnl_get_effective_cpu_isa() == dnnl_cpu_isa_avx512_core_amx;
    tensor_use_threads(most);
#pragma omp parallel
    {
        if (omp_get_thread_num() > 0 && !deaf) {
            hold_signals(NULL);
            deaf = true;
        }
        if (pass->has_tiles)
            keep_tiles();
    }
}

void tensor_end(const tensor_pass *pass)
{
    if (pass->has_tiles) {
#pragma omp parallel
        put_back_tiles();
    }
    sigset_t before;
    memcpy(&before, pass->signals, sizeof before);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

uint32_t tensor_thread(void)
{
    return (uint32_t)omp_get_thread_num();
}

uint32_t tensor_team(void)
{
    return (uint32_t)omp_get_num_threads();
}
