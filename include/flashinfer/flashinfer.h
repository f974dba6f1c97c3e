/* SPDX-License-Identifier: Apache-2.0 */
/* FlashInfer-C: operators for serving large language models.
 *
 *   context --+-- stateless op:  fli_rmsnorm(ctx, &args, stream)
 *             +-- planned op:    create, plan, run, run, ..., destroy
 *
 * Every struct that a function takes starts with its size and has an INIT
 * macro; zero is the default of every other member (where the default is
 * not a float, the float nearest to it).  A struct that is shorter
 * than the library's has zeros in the missing members; in a longer one the
 * members that the library does not know must be zero.
 *
 * Read base.h, tensor.h and context.h first, then the family you need. */
#ifndef FLASHINFER_FLASHINFER_H
#define FLASHINFER_FLASHINFER_H

#include "activation.h"
#include "attention.h"
#include "base.h"
#include "context.h"
#include "gemm.h"
#include "jit.h"
#include "norm.h"
#include "page.h"
#include "quant.h"
#include "rope.h"
#include "sampling.h"
#include "tensor.h"

#endif
