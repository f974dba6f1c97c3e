/* SPDX-License-Identifier: Apache-2.0 */
/* softmax: validate, fill the launch, dispatch; what all of sampling checks. */
#include <inttypes.h>
#include <math.h>

#include "abi/kernels.h"
#include "sampling/sampling.h"

static const fli__impl impls[] = FLI__IMPLS(
    softmax, NULL, FLI__CUDA("portable", NULL, fli__softmax_cuda, 0));
static const fli__impl_list softmax_list = FLI__IMPL_LIST(softmax, impls);

fli_status fli__check_per_row(const fli_context *ctx, const char *where,
                              const char *name, const fli_tensor *tensor,
                              fli_dtype dtype, int64_t n, uint32_t flags)
{
    const fli__spec spec = {
        .dtypes = FLI__DTYPE(dtype),
        .flags = flags | FLI__OPTIONAL,
        .ndim = 1,
        .shape = { n },
    };

    return fli__check_tensor(ctx, where, name, tensor, &spec);
}

fli_status fli__check_temperature(const char *where, const fli_tensor *tensor,
                                  float given, int32_t has_temperature,
                                  float *out)
{
    const int is_used = has_temperature && !tensor->data;

    CHECK(!is_used || (given >= 0 && given < INFINITY), INVALID_ARGUMENT,
          "%s: temperature is %g, expected a finite number >= 0", where,
          (double)given);
    *out = is_used ? given : 1;
    return FLI_OK;
}

fli_status fli__check_vocab(const char *where, int64_t vocab)
{
    CHECK(vocab <= FLI__MAX_VOCAB, UNSUPPORTED,
          "%s: vocab is %" PRId64 ", expected at most %" PRId64, where, vocab,
          FLI__MAX_VOCAB);
    return FLI_OK;
}

static fli_status softmax_params(const fli_context *ctx, const char *where,
                                 const fli_softmax_args *args, uint32_t flags,
                                 fli_softmax_params *p)
{
    fli_softmax_args a;

    TRY(fli__copy_struct(where, "args", &a, sizeof(a), args, sizeof(a)));
    fli__spec spec = {
        .dtypes = FLI__FLOATS,
        .flags = flags,
        .ndim = 2,
        .shape = { FLI__ANY, FLI__ANY },
    };
    float temperature = 1;

    TRY(fli__check_tensor(ctx, where, "logits", &a.logits, &spec));
    const int64_t n_rows = a.logits.shape[0], vocab = a.logits.shape[1];

    TRY(fli__check_vocab(where, vocab));
    spec.dtypes = FLI__DTYPE(FLI_F32);
    spec.flags = flags | FLI__OUTPUT;
    spec.shape[0] = n_rows;
    spec.shape[1] = vocab;
    TRY(fli__check_tensor(ctx, where, "probs", &a.probs, &spec));
    TRY(fli__check_in_place(where, "probs", &a.probs, "logits", &a.logits));
    TRY(fli__check_per_row(ctx, where, "temperatures", &a.temperatures, FLI_F32,
                           n_rows, flags));
    TRY(fli__check_per_row(ctx, where, "valid", &a.valid, FLI_BOOL, n_rows,
                           flags | FLI__OUTPUT));
    TRY(fli__check_temperature(where, &a.temperatures, a.temperature,
                               a.has_temperature, &temperature));
    *p = (fli_softmax_params){
        .logits = a.logits.data,
        .probs = a.probs.data,
        .valid = a.valid.data,
        .temperatures = a.temperatures.data,
        .n_rows = n_rows,
        .vocab = vocab,
        .logits_stride = a.logits.stride[0],
        .probs_stride = a.probs.stride[0],
        .temperature = temperature,
        .dtype = a.logits.dtype,
    };
    return FLI_OK;
}

fli_status fli_softmax(fli_context *ctx, const fli_softmax_args *args,
                       fli_stream stream)
{
    static const char where[] = "softmax run";
    fli_softmax_params p;

    TRY(fli__check_call(ctx, where, stream));
    TRY(softmax_params(ctx, where, args, 0, &p));
    return fli__dispatch(&(fli__call){ ctx, where, stream, 0 }, &softmax_list,
                         &p, fli__rows_work(p.n_rows, p.vocab));
}

fli_status fli_softmax_prepare(fli_context *ctx, const fli_softmax_args *args)
{
    static const char where[] = "softmax prepare";
    fli_softmax_params p;

    TRY(fli__check_call(ctx, where, NULL));
    TRY(softmax_params(ctx, where, args, FLI__SHAPE_ONLY, &p));
    return fli__prepare(ctx, where, &softmax_list, &p);
}
