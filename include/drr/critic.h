/* drr/critic.h: trained critics: opening, scoring, what one promises, its files. Part of drr.h. */
#ifndef DRR_CRITIC_PART_H
#define DRR_CRITIC_PART_H

#include "drr/trace.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct drr_critic drr_critic;

/* In what a critic's matrix products are computed. Parameters, sums, norms and softmax are fp32 in either. */
typedef enum drr_precision {
    DRR_PRECISION_AUTO, /* bf16 where this CPU multiplies it itself (AVX512_BF16 or AMX), else fp32 */
    DRR_PRECISION_FP32,
    DRR_PRECISION_BF16,
    DRR_PRECISION_INT8 /* for scoring alone: products of 8-bit integers, rounded row by row */
} drr_precision;
const char *drr_precision_name(drr_precision precision);
drr_status drr_precision_parse(drr_precision *precision, const char *name, drr_error *err);

/* What a critic reads its score from (docs/model.md, "Head"). */
typedef enum drr_head {
    DRR_HEAD_CLS,  /* [CLS], through BERT's pooler */
    DRR_HEAD_TOKEN /* every token says P; the text's score is that of the [SEP] behind it */
} drr_head;
const char *drr_head_name(drr_head head); /* "cls", "token" */

/* Does it judge questions alone, as drr_train_options.question_only makes it? Then it cannot judge answers. */
bool drr_critic_reads_questions(const drr_critic *critic);
drr_status drr_critic_open(drr_critic **critic, const char *path, drr_error *err);
void drr_critic_close(drr_critic *critic);
/* An open critic scores in fp32, as it was calibrated. bf16 and int8 are faster and move a logit by about 1 %
 * (docs/model.md, "Precision"). DRR_E_BACKEND: this CPU has none, or int8 does not suit the encoder; then, and after
 * success, nothing else of the critic has changed. */
drr_status drr_critic_set_precision(drr_critic *critic, drr_precision precision, drr_error *err);

/* What a turn offers beside its text. NaN marks what is not known; the stack was trained to cope. */
typedef struct drr_features {
    drr_token_stats stats;
    uint32_t n_tokens;
    uint32_t turn; /* 0 fresh, n after n rejections */
    bool parsed;
    uint32_t n_others; /* other samples or turns of the same question that are known */
    uint32_t n_agree;  /* of these, how many gave the same answer */
    double probe;      /* the probe's log-odds (drr_critic_probe); NaN: not known */
} drr_features;
void drr_features_defaults(drr_features *features); /* nothing known */

typedef struct drr_score_item {
    const char *question;         /* drr_trace.question */
    const char *text;             /* rationale and answer */
    const drr_features *features; /* NULL: text alone */
} drr_score_item;

typedef struct drr_score {
    double logit;     /* of the text encoder alone, as llama.cpp and Hugging Face compute it; without one the probe's */
    double p_correct; /* calibrated, with all features given */
} drr_score;

drr_status drr_critic_score(drr_critic *critic, drr_score *scores, const drr_score_item *items, size_t n,
                            drr_error *err);
/* A step of a text (drr_step_ends) as a critic with a token head sees it, the rest of the text known: NaN where the
 * step does not fit into what the critic reads. p is the sigmoid of the logit: it is not calibrated, and no threshold
 * is for it. */
typedef struct drr_step_score {
    uint32_t end; /* byte offset in the text just behind the step */
    double logit, p;
} drr_step_score;
/* The text's score, as drr_critic_score gives it, and n_steps steps' (the caller's slots), from one pass of the
 * encoder. ends: byte offsets that rise and lie within the text. DRR_E_MISMATCH: the critic has no token head. */
drr_status drr_critic_score_steps(drr_critic *critic, drr_score *score, drr_step_score *steps,
                                  const drr_score_item *item, const uint32_t *ends, size_t n_steps, drr_error *err);
/* P(correct) again for a known text logit and new features: no encoder pass. */
double drr_critic_combine(const drr_critic *critic, double logit, const drr_features *features);

/* What a critic decides by. */
typedef enum drr_critic_kind {
    DRR_CRITIC_ENCODER, /* the text, and a stack of what else a turn offers */
    DRR_CRITIC_PROBE,   /* the reasoner's hidden states instead of the text: no encoder, and next to no time */
    DRR_CRITIC_STACK    /* both */
} drr_critic_kind;
const char *drr_critic_kind_name(drr_critic_kind kind);
/* The probe's log-odds that an answer is right: of the hidden states of its turn (drr_trace.hidden) and
 * its tokens' statistics (NULL: none). NaN where the critic has no probe, or these are not of its layer and width. */
double drr_critic_probe(const drr_critic *critic, const void *hidden, size_t hidden_size, const drr_token_stats *stats);

/* How the p-value of a guarantee is computed: src/core/risk.h. */
typedef enum drr_risk_test { DRR_RISK_HOEFFDING_BENTKUS, DRR_RISK_BINOMIAL } drr_risk_test;
const char *drr_risk_test_name(drr_risk_test test);

/* "Of the answers that the critic accepts, at most `target_error` are wrong", said with confidence 1 - delta
 * (docs/model.md, "Guarantees": what it is about, and on what it rests). */
typedef struct drr_guarantee {
    bool found;     /* is there a threshold of which it can be said? */
    uint32_t turns; /* it is about drr of so many fresh turns; 1: about a single verdict. 0: none was asked for */
    double target_error, delta;
    double threshold; /* accept at or above; where none was found, the first one tested */
    drr_risk_test test;
    double temperature;              /* that the answers were drawn at; NaN: not known */
    uint64_t n, n_accepted, n_wrong; /* questions; of these accepted at the threshold; of these wrong */
    double p_value;                  /* of "more than target_error are wrong" at the threshold */
    double bound;      /* the error that can be promised there with this delta: above target_error where not found */
    uint64_t n_needed; /* not found: questions that would do, with errors and acceptance as seen; 0: none would */
} drr_guarantee;
#define DRR_GUARANTEES 2 /* of one verdict, and of the loop */

typedef struct drr_critic_info {
    const char *name, *sha256, *reasoner, *prompt, *encoder, *tasks, *created;
    double threshold;
    const char *calibration;       /* of the text's logit: "temperature", "platt" or "isotonic" */
    const char *stack_calibration; /* of the stack: these, or "none" */
    drr_guarantee guarantees[DRR_GUARANTEES];
    uint32_t n_guarantees; /* all of them found */
    uint32_t max_length, n_layers, n_embd, n_vocab;
    uint64_t n_parameters, n_train_questions, n_train_traces;
    bool has_stack;
    drr_head head;
    uint64_t n_train_steps;      /* labels of steps that it was trained on; 0: it was not */
    uint64_t n_train_beginnings; /* beginnings of answers, likewise */
    drr_critic_kind kind;
    /* Of a probe, else "": the one reasoner whose hidden states it knows, and the layer, as drr_reasoner_options.hidden
     * names it, and the pools, "answer", "mean" or both, that it reads. */
    const char *probe_reasoner, *probe_layer, *probe_pools;
} drr_critic_info;
void drr_critic_describe(const drr_critic *critic, drr_critic_info *info);
/* Writes a folder that Hugging Face transformers loads with the same logits: as a sequence classifier, or one of tokens
 * where the critic has a token head. */
drr_status drr_critic_export(const drr_critic *critic, const char *folder, drr_error *err);
/* The way back: a critic file from such a folder, or from one of a BertForSequenceClassification with one label that
 * another program trained. *foreign tells that: then P(correct) is the sigmoid of its logit, the threshold 0.5, and its
 * reasoner is not known; token type 0 is taken for both segments. DRR_E_FORMAT: the folder is no such model. */
drr_status drr_critic_import(const char *folder, const char *out, bool *foreign, drr_error *err);

/* One thing that drr_critic_verify looked at. */
typedef enum drr_finding_outcome { DRR_FINDING_GOOD, DRR_FINDING_WRONG, DRR_FINDING_ABSENT } drr_finding_outcome;
const char *drr_finding_name(drr_finding_outcome outcome); /* "good", "wrong", "not there": static */
typedef struct drr_finding {
    const char *what; /* "file", "card", "probes", "against": static */
    drr_finding_outcome outcome;
    double difference; /* largest between two logits of one text; NaN where none were compared */
    char words[1024];  /* what was found, or what is wrong, where, and what to do */
} drr_finding;
typedef struct drr_verification {
    char sha256[65]; /* of the file */
    drr_finding findings[4];
    uint32_t n_findings, n_wrong;
} drr_verification;
/* Is a critic's file what it was when it was made? Reads all of it as for scoring; compares its SHA-256 with the one in
 * the model card beside it, and its logits of the texts that it has stored with those stored beside them. against: an
 * exported folder, or another critic's file, that must hold the same weights, tokens, calibration and threshold, and
 * give the same logits; NULL: none. What is wrong is a finding; an error is a file that cannot be read at all, or is
 * not there. A file that cannot be opened as a critic has no findings of probes and of `against`. */
drr_status drr_critic_verify(drr_verification *verification, const char *path, const char *against, drr_error *err);
/* Scores lines of {"question", "text"}: each comes back with `logit` and `p_correct` added, in order. "-" is the
 * standard input or output; a file is written through a temporary name. An error names the line; on standard output
 * the lines before it have been written. */
drr_status drr_critic_score_file(drr_critic *critic, const char *in, const char *out, drr_error *err);
/* The same with `step_scores` beside them, a list of {"end", "logit", "p"}: of the steps whose "end" the line's own
 * list "steps" names, as a trace has it, else of those that drr_step_ends finds, by the line's "kind" ("text" without
 * one). */
drr_status drr_critic_score_steps_file(drr_critic *critic, const char *in, const char *out, drr_error *err);

/* Within-question discrimination: of the pairs of a right and a wrong answer to one question by one reasoner, the share
 * in which the right one is scored higher, a tie counting one half. NaN where there is no pair. */
typedef struct drr_within {
    double share, low, high;       /* low, high: 95 % bootstrap interval over questions */
    uint64_t n_pairs, n_questions; /* questions that have such a pair */
} drr_within;

#ifdef __cplusplus
}
#endif
#endif
