/* checkpoint.c: the state of a run in one file: a fixed header, the arrays, and a hash over both. Written through a
 * temporary name, so that a kill leaves the one before. In the byte order of the machine that trains: a checkpoint is
 * for going on, not for passing on. */
#include "train/train.h"

#include <stdlib.h>
#include <string.h>

static const char MAGIC[8] = "drrckpt1";

typedef struct header {
    char magic[8];
    uint64_t identity, n, step, tokens;
    uint32_t best_epoch, stale_epochs, evaluated, arrays;
    double best_loss, best_auroc, epoch_loss, seconds;
} header;

enum { MOST_ARRAYS = 4 };

static size_t list_arrays(float *arrays[MOST_ARRAYS], const checkpoint *c)
{
    arrays[0] = c->parameters;
    arrays[1] = c->moment1;
    arrays[2] = c->moment2;
    arrays[3] = c->best;
    return c->best_epoch > 0 ? 4 : 3;
}

drr_status checkpoint_write(const char *path, const checkpoint *c, drr_error *err)
{
    file_writer w = {0};
    float *arrays[MOST_ARRAYS];
    const size_t n_arrays = list_arrays(arrays, c);
    header h;
    memset(&h, 0, sizeof h);
    memcpy(h.magic, MAGIC, sizeof h.magic);
    h.identity = c->identity;
    h.n = c->n;
    h.step = c->step;
    h.tokens = c->tokens;
    h.best_epoch = c->best_epoch;
    h.stale_epochs = c->stale_epochs;
    h.evaluated = c->evaluated;
    h.arrays = (uint32_t)n_arrays;
    h.best_loss = c->best_loss;
    h.best_auroc = c->best_auroc;
    h.epoch_loss = c->epoch_loss;
    h.seconds = c->seconds;
    uint64_t hash = hash_bytes(0, &h, sizeof h);
    drr_status status = file_writer_open(&w, path, err);
    if (status == DRR_OK)
        status = file_writer_put(&w, &h, sizeof h, err);
    for (size_t a = 0; status == DRR_OK && a < n_arrays; a++) {
        hash = hash_bytes(hash, arrays[a], c->n * sizeof(float));
        status = file_writer_put(&w, arrays[a], c->n * sizeof(float), err);
    }
    if (status == DRR_OK)
        status = file_writer_put(&w, &hash, sizeof hash, err);
    if (status == DRR_OK)
        return file_writer_commit(&w, err);
    file_writer_abandon(&w);
    return status;
}

drr_status checkpoint_read(const char *path, checkpoint *c, drr_error *err)
{
    file_map map = {0};
    float *arrays[MOST_ARRAYS];
    header h;
    uint64_t stored;
    drr_status status = file_map_open(&map, path, err);
    if (status != DRR_OK)
        return status;
    const char *broken = "the checkpoint %s is damaged; delete it to start again";
    if (map.size < sizeof h || memcmp(map.data, MAGIC, sizeof MAGIC) != 0) {
        status = error_set(err, DRR_E_FORMAT, "%s is not a checkpoint of drr; delete it to start again", path);
        goto done;
    }
    memcpy(&h, map.data, sizeof h);
    if (h.identity != c->identity || h.n != c->n) {
        status =
            error_set(err, DRR_E_MISMATCH,
                      "the checkpoint %s is of a run with other options, traces or encoder: give the same again, or "
                      "leave out --resume to start anew",
                      path);
        goto done;
    }
    const size_t bytes = c->n * sizeof(float);
    if (h.arrays != (h.best_epoch > 0 ? 4u : 3u) || map.size != sizeof h + h.arrays * bytes + sizeof stored) {
        status = error_set(err, DRR_E_FORMAT, broken, path);
        goto done;
    }
    uint64_t hash = hash_bytes(0, &h, sizeof h);
    for (uint32_t a = 0; a < h.arrays; a++)
        hash = hash_bytes(hash, map.data + sizeof h + a * bytes, bytes);
    memcpy(&stored, map.data + map.size - sizeof stored, sizeof stored);
    if (stored != hash) {
        status = error_set(err, DRR_E_FORMAT, broken, path);
        goto done;
    }
    c->step = h.step;
    c->tokens = h.tokens;
    c->best_epoch = h.best_epoch;
    c->stale_epochs = h.stale_epochs;
    c->evaluated = h.evaluated;
    c->best_loss = h.best_loss;
    c->best_auroc = h.best_auroc;
    c->epoch_loss = h.epoch_loss;
    c->seconds = h.seconds;
    const size_t n_arrays = list_arrays(arrays, c);
    for (size_t a = 0; a < n_arrays; a++)
        memcpy(arrays[a], map.data + sizeof h + a * bytes, bytes);
done:
    file_map_close(&map);
    return status;
}
