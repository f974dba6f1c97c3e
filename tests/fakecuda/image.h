/* SPDX-License-Identifier: Apache-2.0 */
/* What an image of kernels holds. */
#ifndef TESTS_FAKECUDA_IMAGE_H
#define TESTS_FAKECUDA_IMAGE_H

#include <stddef.h>

/* Cubin, PTX or "FAKECUDA ..."? */
int image_is_known(const void *image);

/* Bytes of a known image. */
size_t image_bytes(const void *image);

/* The bytes of the parameter of kernel name; -1 if image has no such kernel. */
int image_param_bytes(const void *image, const char *name);

#endif
