/* critic.h: the door of src/critic beside drr.h: what training and evaluation need to build, fill and save a
 * critic. Inference alone needs only drr.h. */
#ifndef DRR_CRITIC_H
#define DRR_CRITIC_H

#include "core/core.h"
#include "critic/probe.h"

/* ---- the tokenizer: WordPiece (wordpiece.c), same ids as Hugging Face's BertTokenizer; or byte-level BPE (bpe.c),
 * those of its RoBERTa and ModernBERT, which only a file or a folder makes. */
typedef struct wordpiece wordpiece;
drr_status wordpiece_new(wordpiece **tokenizer, const char *const *tokens, size_t n_tokens, bool lowercase,
                         drr_error *err);
drr_status wordpiece_open(wordpiece **tokenizer, const char *vocab_txt, bool lowercase, drr_error *err);
void wordpiece_free(wordpiece *tokenizer);
size_t wordpiece_size(const wordpiece *tokenizer);
const char *wordpiece_utf8proc_version(void); /* of the utf8proc that is loaded */
const char *wordpiece_token(const wordpiece *tokenizer, size_t id);
bool wordpiece_lowercase(const wordpiece *tokenizer);
/* Ids of a text without [CLS] and [SEP]. *ids is the caller's to free. */
drr_status wordpiece_encode(const wordpiece *tokenizer, const char *text, int32_t **ids, size_t *n, drr_error *err);
/* [CLS] question [SEP] text [SEP], or what the family has for it (RoBERTa: <s> q </s></s> t </s>), at most max_length.
 * Where it does not fit the question is kept (cut to half the room at most) and of the text its end, where the answer
 * is. *truncated tells. Writes to ids[max_length]. */
drr_status wordpiece_encode_pair(const wordpiece *tokenizer, const char *question, const char *text, size_t max_length,
                                 int32_t *ids, size_t *n, bool *truncated, drr_error *err);
/* Where steps of `text` lie in the ids[n] that wordpiece_encode_pair made of it: places[i] is the last token of the
 * text up to ends[i], or WORDPIECE_NOWHERE where that was cut off or there is none. An end within a character or a word
 * of ASCII letters is taken to that one's end. Places do not fall (wordpiece_steps.c). */
#define WORDPIECE_NOWHERE UINT32_MAX
drr_status wordpiece_step_places(uint32_t *places, const wordpiece *tokenizer, const char *text, const uint32_t *ends,
                                 size_t n_ends, const int32_t *ids, size_t n, drr_error *err);

/* ---- the encoder's shape and weights (encoder.c); what sets the families apart is in encoder_family.h */
typedef enum encoder_family { ENCODER_BERT, ENCODER_ROBERTA, ENCODER_MODERNBERT, ENCODER_FAMILIES } encoder_family;
typedef enum encoder_pooling { ENCODER_POOLING_FIRST, ENCODER_POOLING_MEAN } encoder_pooling;
typedef struct encoder_shape {
    uint32_t n_layers, n_embd, n_heads, n_ff, n_vocab, n_positions, n_types;
    float norm_epsilon;
    encoder_family family;
    uint32_t position_offset; /* rows of Hugging Face's position table before that of the first token: in RoBERTa the
                               * padding's id + 1. They are not among n_positions, nor among the parameters. */
    encoder_pooling pooling;  /* the head reads the first token's row, or the mean of all */
    /* Of ModernBERT; else all 0. Layers 0, global_every, 2 global_every .. see the whole input; in the others a token
     * sees those at most window / 2 places away. */
    uint32_t window, global_every;
    float rope_base, rope_base_local; /* of rotary positions, in global and in local layers */
} encoder_shape;

/* All parameters in one fp32 arena, laid out from one table in GGUF/llama.cpp names (encoder_tensor). Matrices are
 * row-major [out][in] as in Hugging Face. The head is cls.weight ([n_embd][n_embd]; BERT's pooler), cls.bias, tanh,
 * cls.output.weight [1][n_embd], cls.output.bias; ModernBERT's has GELU and a norm in place of bias and tanh:
 * docs/model.md. */
typedef struct encoder_tensor {
    char name[64];          /* "blk.0.attn_q.weight" */
    char hf_name[96];       /* "encoder.layer.0.attention.self.query.weight", without the family's prefix */
    uint32_t rows, columns; /* a vector has rows 1 */
    size_t offset;          /* in floats */
    bool decay;             /* weight decay applies: not to biases and norms */
} encoder_tensor;

typedef struct encoder {
    encoder_shape shape;
    encoder_tensor *tensors;
    size_t n_tensors, n_parameters;
    float *parameters; /* n_parameters, 64-byte aligned */
    bool bf16;         /* workspaces and tapes planned for it compute in bf16; parameters stay fp32 */
    bool int8;         /* the same in int8, and only workspaces: it is for scoring */
    drr_head head;     /* of tokens: instead of the four cls tensors drr.token.weight [1][n_embd] and drr.token.bias */
} encoder;
drr_status encoder_new(encoder **e, const encoder_shape *shape, drr_error *err); /* zeroed parameters, head of [CLS] */
drr_status encoder_new_headed(encoder **e, const encoder_shape *shape, drr_head head, drr_error *err);
void encoder_free(encoder *e);
const encoder_tensor *encoder_find(const encoder *e, const char *name);
/* From a Hugging Face folder (config.json, model.safetensors, and vocab.txt, or tokenizer.json, or vocab.json and
 * merges.txt). A missing head (pooler or classifier) is initialised from `seed`: normal(0, 0.02), zero biases;
 * *has_head tells. */
drr_status encoder_open_hf(encoder **e, wordpiece **tokenizer, bool *has_head, const char *folder, uint64_t seed,
                           drr_error *err);
/* The same with another head, which is taken from the folder where that holds a model with such a one. */
drr_status encoder_open_hf_headed(encoder **e, wordpiece **tokenizer, bool *has_head, const char *folder, drr_head head,
                                  uint64_t seed, drr_error *err);

/* What a precision means on this CPU, and sets e->bf16 so: auto is bf16 where the CPU multiplies it itself.
 * DRR_E_BACKEND: bf16 or int8 was asked for and the CPU has none, or the encoder's heads do not suit int8. e may be
 * NULL. */
drr_status encoder_set_precision(encoder *e, drr_precision *precision, drr_error *err);

/* Logits of n packed sequences without padding: ids of all of them end to end, starts[n+1] their offsets.
 * Buffers belong to the workspace, planned once for the largest batch. */
typedef struct encoder_workspace encoder_workspace;
drr_status encoder_workspace_new(encoder_workspace **w, const encoder *e, size_t max_tokens, size_t max_sequences,
                                 drr_error *err);
void encoder_workspace_free(encoder_workspace *w);
drr_status encoder_logits(const encoder *e, encoder_workspace *w, const int32_t *ids, const uint32_t *starts, size_t n,
                          float *logits, drr_error *err);
/* Logits of a token head at rows[row_starts[s]] .. rows[row_starts[s + 1] - 1] of each sequence s, which rise and are
 * offsets in ids; at least one of each. encoder_logits reads the last token of each. */
drr_status encoder_logits_at(const encoder *e, encoder_workspace *w, const int32_t *ids, const uint32_t *starts,
                             size_t n, const uint32_t *rows, const uint32_t *row_starts, float *logits, drr_error *err);

/* ---- the stack (stack.c): logistic model over the text logit and what else a turn offers */
#define STACK_MAX_FEATURES 32
typedef struct stack_model {
    uint32_t n;                      /* features in use, named by stack_feature_name */
    double mean[STACK_MAX_FEATURES]; /* imputed where a feature is not known */
    double scale[STACK_MAX_FEATURES];
    double weight[STACK_MAX_FEATURES]; /* of the standardised feature */
    double bias;
} stack_model;
const char *stack_feature_name(uint32_t index); /* NULL past the last */
void stack_features(double values[STACK_MAX_FEATURES], double logit, const drr_features *features); /* NaN: unknown */
/* Fits by penalised maximum likelihood (Newton); rows of STACK_MAX_FEATURES values, labels 0/1, row weights
 * (NULL: 1). A feature that is never known or constant gets weight 0. */
drr_status stack_fit(stack_model *model, const double *rows, const uint8_t *labels, const double *weights, size_t n,
                     double l2, drr_error *err);
double stack_predict(const stack_model *model, const double values[STACK_MAX_FEATURES]); /* P(correct) */

double stack_logit(const stack_model *model, const double values[STACK_MAX_FEATURES]); /* its log-odds */

/* ---- calibration (calibrate.c, isotonic.c) */
typedef struct platt { /* p = sigmoid(a * logit + b) */
    double a, b;
} platt;
drr_status platt_fit(platt *p, const double *logits, const uint8_t *labels, size_t n, drr_error *err);
/* The same with row weights (NULL: 1); without an offset it is temperature scaling: b is 0 and a, 1 / temperature,
 * above 0. */
drr_status line_fit(platt *p, const double *logits, const uint8_t *labels, const double *weights, size_t n, bool offset,
                    drr_error *err);

#define CURVE_MOST_KNOTS 64
typedef struct curve { /* p at x, rising, straight between knots and level beyond them; n 0: there is none */
    uint32_t n;
    double x[CURVE_MOST_KNOTS], y[CURVE_MOST_KNOTS];
} curve;
/* Isotonic regression by pooling adjacent violators; a knot stands at the mean x of each pool (centred isotonic
 * regression, Oron and Flournoy 2017), so that p still tells apart what falls into one pool. y is kept within
 * 1 / (w + 2) of 0 and 1, w the sum of weights. */
drr_status curve_fit(curve *c, const double *x, const uint8_t *labels, const double *weights, size_t n, drr_error *err);
double curve_at(const curve *c, double x);

typedef enum calibration_kind {
    CALIBRATION_NONE, /* p = sigmoid(logit) */
    CALIBRATION_TEMPERATURE,
    CALIBRATION_PLATT,
    CALIBRATION_ISOTONIC,
    CALIBRATION_KINDS
} calibration_kind;
const char *calibration_name(calibration_kind kind);
typedef struct calibration { /* a curve where it has knots, else the line */
    platt line;
    curve steps;
} calibration;
calibration_kind calibration_kind_of(const calibration *c);
double calibration_apply(const calibration *c, double logit); /* P(correct) */
drr_status calibration_fit(calibration *c, calibration_kind kind, const double *logits, const uint8_t *labels,
                           const double *weights, size_t n, drr_error *err);
/* Fits one of the kinds from `first` on, by log loss on rows that it was not fitted on: each of n_folds folds (2 to 16)
 * is held out once; rows of one question must be in one fold. A kind is picked over a simpler one only where its loss
 * is lower by more than the standard error of the difference over the folds: else noise would bend the curve.
 * loss[CALIBRATION_KINDS] receives the losses in nats, means of the folds; NaN for kinds before `first`, and for all
 * where a fold holds no row or all rows: then it is `first`. */
drr_status calibration_choose(calibration *c, double *loss, calibration_kind first, const double *logits,
                              const uint8_t *labels, const double *weights, const uint8_t *folds, uint8_t n_folds,
                              size_t n, drr_error *err);

/* ---- critics of questions alone: their texts are all CRITIC_NO_TEXT, and meta.prompt says so */
#define CRITIC_NO_TEXT "?"
#define CRITIC_QUESTION_PROMPT "the question alone"

/* ---- one critic, one file (critic.c, gguf.c) */
bool critic_risk_test(drr_risk_test *test, const char *name); /* false: no such test (guarantee.c) */
#define CRITIC_MOST_PROBES 16
#define CRITIC_MOST_QUANTILES 64
typedef struct critic_probe { /* a text and the logit that the critic gave it when it was made; owned strings */
    char *question, *text;
    double logit;
} critic_probe;
typedef struct critic_meta { /* owned strings */
    char *name, *reasoner, *prompt, *encoder, *tasks, *created;
    double threshold;
    uint32_t max_length;
    uint64_t n_train_questions, n_train_traces, seed;
    uint64_t n_train_steps; /* of a token head */
    uint64_t n_train_beginnings;
    platt calibration; /* of the text logit alone, */
    curve text_curve;  /* where this has no knots */
    bool has_stack;
    stack_model stack;
    bool has_stack_calibration; /* else P(correct) is the stack's own */
    calibration stack_calibration;
    drr_guarantee guarantees[DRR_GUARANTEES]; /* found ones */
    uint32_t n_guarantees;
    probe_model probe; /* its reasoner is NULL where there is none */
    bool no_encoder;   /* the probe's log-odds stand for the text's logit: of a calibration, and of `logit` below */
    critic_probe probes[CRITIC_MOST_PROBES];
    uint32_t n_probes; /* 0: none are known, as in files of older versions of drr */
    /* How the logits of n_scores traces were distributed that it was not trained on: the smallest, as many equal steps
     * between, and the largest. n_quantiles 0: not known, as in older files. */
    double quantiles[CRITIC_MOST_QUANTILES];
    uint32_t n_quantiles;
    uint64_t n_scores;
} critic_meta;
drr_critic_kind critic_meta_kind(const critic_meta *meta);
/* P(correct) of a text logit with what else is known; features NULL: of the text alone. */
double critic_meta_p(const critic_meta *meta, double logit, const drr_features *features);
double critic_meta_p_text(const critic_meta *meta, double logit);
void critic_meta_clear(critic_meta *meta);
/* Replaces meta's probes by drr's own texts, scored in fp32 by e with meta->max_length (verify_texts.c). */
drr_status critic_probes_make(critic_meta *meta, const encoder *e, const wordpiece *tokenizer, drr_error *err);
/* Sets meta's quantiles to those of n logits, which are sorted for it; none of fewer than 20, or where one is no
 * number.
 */
void critic_quantiles_make(critic_meta *meta, double *logits, size_t n);
bool critic_quantiles_are_good(const critic_meta *meta);
/* Could these be written and read again? DRR_E_ARGUMENT, DRR_E_FORMAT or DRR_E_MISMATCH says what could not. */
drr_status critic_check(const encoder *e, const wordpiece *tokenizer, const critic_meta *meta, drr_error *err);
/* Writes a GGUF in llama.cpp's classifier layout with drr.* metadata, atomically. e and tokenizer are NULL for a critic
 * that is a probe alone, of which there are only keys. */
drr_status critic_write(const char *path, const encoder *e, const wordpiece *tokenizer, const critic_meta *meta,
                        drr_error *err);
/* The parts of an open critic, borrowed; of a probe alone the first two are NULL. */
const encoder *critic_encoder(const drr_critic *critic);
const wordpiece *critic_wordpiece(const drr_critic *critic);
const critic_meta *critic_get_meta(const drr_critic *critic);
drr_status critic_check_steps(const drr_critic *critic, drr_error *err); /* DRR_E_MISMATCH: it cannot score them */
/* drr_critic_score, and how many tokens it read of each item; n_tokens may be NULL. */
drr_status critic_score_counted(drr_critic *critic, drr_score *scores, uint32_t *n_tokens, const drr_score_item *items,
                                size_t n, drr_error *err);
/* Frees what scoring texts takes, which is nearly all of a critic's memory. What is left combines, and its meta and
 * what drr_critic_describe gave stay where they are; it scores no more. */
void critic_shed(drr_critic *critic);
/* A critic of these parts, which are its own from then on; after an error they are still the caller's, and as they
 * were. hex: the SHA-256 of its file, "" without one. */
drr_status critic_of_parts(drr_critic **critic, encoder *e, wordpiece *tokenizer, const critic_meta *meta,
                           const char hex[65], drr_error *err);
/* The critic that drr_critic_import would write. *foreign: without drr.json; `name` is then its name. */
drr_status critic_open_folder(drr_critic **critic, bool *foreign, const char *folder, const char *name, drr_error *err);
/* Hugging Face folder: config.json, model.safetensors, vocab.txt, tokenizer files. */
drr_status critic_export_hf(const drr_critic *critic, const char *folder, drr_error *err);

#endif
