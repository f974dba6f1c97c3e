/* SPDX-License-Identifier: Apache-2.0 */
/* Launches of gemm on CUDA: which kernel, which tile. */
#include "gemm/gemm.h"

#include "core/check.h"
#include "jit/jit.h"

#define FLOATS_16 (FLI__DTYPE(FLI_F16) | FLI__DTYPE(FLI_BF16))

/* --- portable: tiles, or few rows ------------------------------------------ */

/* gemm.cu */
#define TILE_K         64
#define TILE_RESERVED  1024 /* shared memory that the driver takes of a CTA */
#define TILE_MIN_STAGE 2

typedef struct {
    int32_t m, n, warps_m, warps_n;
    int32_t ctas;   /* of an SM at once */
    int32_t stages; /* that still gain something */
    double speed;   /* of the greatest, by products a tile needs loads for */
    uint32_t outs;  /* dtypes of out, FLI__DTYPE: f32 keeps sums twice */
} tile_shape;

static const tile_shape shapes[] = {
    { 128, 256, 2, 4, 1, 4, 1.0, FLOATS_16 },
    { 128, 128, 2, 2, 2, 4, 0.85, FLOATS_16 },
    { 128, 128, 2, 4, 1, 4, 0.7, FLI__DTYPE(FLI_F32) },
    { 64, 64, 2, 2, 2, 6, 0.6, FLOATS_16 | FLI__DTYPE(FLI_F32) },
};

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Time of all tiles when every SM works on one of them at a time. */
static double cost_of(const fli_gemm_params *p, const tile_shape *shape,
                      int32_t n_sms)
{
    const int64_t n = ceil_div(p->m, shape->m) * ceil_div(p->n, shape->n);

    return (double)ceil_div(n, n_sms) * shape->m * shape->n / shape->speed;
}

static const tile_shape *choose_shape(const fli_gemm_params *p, int32_t n_sms)
{
    const tile_shape *best = NULL;

    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
        if ((shapes[i].outs & FLI__DTYPE(p->dtype_out))
            && (!best
                || cost_of(p, &shapes[i], n_sms) < cost_of(p, best, n_sms)))
            best = &shapes[i];
    return best;
}

static fli_status launch_tiles(const fli__call *call, fli_gemm_params *p)
{
    const fli__cuda_caps *caps = &call->ctx->cuda->caps;
    const tile_shape *shape = choose_shape(p, caps->n_sms);
    const int32_t stage_bytes = (shape->m + shape->n) * TILE_K * 2;
    const int32_t cta_bytes =
        (caps->shared_bytes + TILE_RESERVED) / shape->ctas - TILE_RESERVED;
    const int32_t stages =
        MAX(MIN(cta_bytes / stage_bytes, shape->stages), TILE_MIN_STAGE);
    const fli__kernel *kernel;
    fli__instance instance;

    fli__instance_init(&instance, "cuda/gemm.cu", "fli_gemm",
                       "gemm_%s_%s_%dx%d", fli_dtype_name(p->dtype_a),
                       fli_dtype_name(p->dtype_out), (int)shape->m,
                       (int)shape->n);
    fli__instance_define(&instance, "FLI_DTYPE", p->dtype_a);
    fli__instance_define(&instance, "FLI_OUT", p->dtype_out);
    fli__instance_define(&instance, "TILE_M", shape->m);
    fli__instance_define(&instance, "TILE_N", shape->n);
    fli__instance_define(&instance, "WARPS_M", shape->warps_m);
    fli__instance_define(&instance, "WARPS_N", shape->warps_n);
    fli__instance_define(&instance, "CTAS", shape->ctas);
    fli__instance_define(&instance, "STAGES", stages);
    instance.shared_bytes = (uint32_t)(stages * stage_bytes);
    TRY(fli__jit_kernel(call, &instance, &kernel));
    if (call->prepare)
        return FLI_OK;
    const fli__launch launch = {
        .grid = { (uint32_t)(ceil_div(p->m, shape->m)
                             * ceil_div(p->n, shape->n)),
                  1, 1 },
        .block = { (uint32_t)(shape->warps_m * shape->warps_n * 32), 1, 1 },
        .shared_bytes = instance.shared_bytes,
    };

    return fli__cuda_launch(call, kernel, &launch, p);
}

/* gemm_rows.cu */
#define ROWS_TILE    16
#define ROWS_TILES   2
#define ROWS_GROUPS  4
#define ROWS_GROUP   8
#define ROWS_THREADS 256

static fli_status launch_rows(const fli__call *call, fli_gemm_params *p)
{
    const int32_t n_sms = call->ctx->cuda->caps.n_sms;
    const int32_t tiles = p->m <= ROWS_TILE ? 1 : 2;
    int32_t groups = ROWS_GROUPS;
    const fli__kernel *kernel;
    fli__instance instance;

    /* As many as leave (nearly) every SM something to do. */
    while (groups > 1 && p->n / (groups * ROWS_GROUP) < n_sms * 9 / 10)
        groups /= 2;
    fli__instance_init(&instance, "cuda/gemm_rows.cu", "fli_gemm_rows",
                       "gemm_rows_%s_%s_%dx%d", fli_dtype_name(p->dtype_a),
                       fli_dtype_name(p->dtype_out), (int)(tiles * ROWS_TILE),
                       (int)(groups * ROWS_GROUP));
    fli__instance_define(&instance, "FLI_DTYPE", p->dtype_a);
    fli__instance_define(&instance, "FLI_OUT", p->dtype_out);
    fli__instance_define(&instance, "TILES", tiles);
    fli__instance_define(&instance, "GROUPS", groups);
    TRY(fli__jit_kernel(call, &instance, &kernel));
    if (call->prepare)
        return FLI_OK;
    const fli__launch launch = {
        .grid = { (uint32_t)ceil_div(p->n, groups * ROWS_GROUP), 1, 1 },
        .block = { ROWS_THREADS, 1, 1 },
    };

    return fli__cuda_launch(call, kernel, &launch, p);
}

/* Alignment is no reason: kernels see to it, so that it changes no bit. */
const char *fli__gemm_reject_portable(const void *params)
{
    const fli_gemm_params *p = params;

    if (p->dtype_a != p->dtype_b)
        return "a and b differ in dtype";
    if (p->dtype_a == FLI_F32)
        return "a and b are f32";
    return NULL;
}

/* Few rows split k over warps, tiles do not: with invariant it is tiles, whose
 * shapes agree on every bit. */
fli_status fli__gemm_portable(const fli__call *call, const void *params)
{
    fli_gemm_params p = *(const fli_gemm_params *)params;

    if (p.m <= FLI__GEMM_FEW_ROWS && !p.invariant)
        return launch_rows(call, &p);
    return launch_tiles(call, &p);
}

/* --- generic ----------------------------------------------------------------- */

/* gemm_generic.cu */
#define GENERIC_TILE    64
#define GENERIC_THREADS 256

fli_status fli__gemm_generic(const fli__call *call, const void *params)
{
    fli_gemm_params p = *(const fli_gemm_params *)params;
    const fli__launch launch = {
        .grid = { (uint32_t)(ceil_div(p.m, GENERIC_TILE)
                             * ceil_div(p.n, GENERIC_TILE)),
                  1, 1 },
        .block = { GENERIC_THREADS, 1, 1 },
    };
    const fli__kernel *kernel;
    fli__instance instance;

    fli__instance_init(&instance, "cuda/gemm_generic.cu", "fli_gemm_generic",
                       "gemm_generic");
    TRY(fli__jit_kernel(call, &instance, &kernel));
    return call->prepare ? FLI_OK : fli__cuda_launch(call, kernel, &launch, &p);
}
