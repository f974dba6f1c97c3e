/* SPDX-License-Identifier: Apache-2.0 */
/* What the verbs of the flashinfer program share. */
#ifndef TOOLS_CLI_H
#define TOOLS_CLI_H

#include <flashinfer/flashinfer.h>

enum { OK = 0, FAILED = 1, USAGE = 2 };

/* One line on stderr each; they return USAGE and FAILED. */
int bad_usage(const char *what, const char *value);
int refused(void);
int no_memory(void);

/* One of text, dtype, number, flag is where the value goes. */
typedef struct {
    const char *name;
    const char **text;
    int32_t *dtype, *number, *flag;
} option;

/* argv holds options only; the table ends with a NULL name. */
int parse(char **argv, const option *options);

/* "cpu", "cuda", "cuda:1" */
int open_device(const char *name, fli_context **ctx);

/* The verbs; argv is what follows them. */
int cache(char **argv);
int prebuild(char **argv);

/* The lines of info on CUDA: devices, NVRTC, cache folder, pack. */
void print_cuda(void);

#endif
