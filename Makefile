# SPDX-License-Identifier: Apache-2.0
# Thin: what each target does is in tools/ and tests/.

PYTHON = .venv/bin/python
PROMPT = What is the capital of France?

help:
	@sed -n 's/^## /  /p' Makefile

## make demo       a small model serves twelve prompts on this CPU
demo:
	@tools/setup demo
	@tools/build -Dtests=false build examples/engine
	@build/examples/engine --model models/tiny_llama --bytes \
	    --prompts models/tiny_llama/prompts.txt

## make chat       PROMPT="..."  a larger model answers
chat:
	@tools/setup chat
	@tools/build -Dtests=false build examples/engine
	@$(PYTHON) tools/get_smollm2.py
	@$(PYTHON) examples/chat.py "$(PROMPT)"

## make test       every test but the long ones, 12 minutes at most
test:
	@tools/setup test
	@$(PYTHON) tests/run.py test

## make test-full  the long ones, 50 minutes at most
test-full:
	@tools/setup full
	@$(PYTHON) tests/run.py full

## make bench      speed of every op beside this machine's ceilings
bench:
	@tools/setup bench
	@tools/build build -Dtests=true
	@build/tests/check/flicheck --bench

## make gpu-build  what the next two need: anywhere, then carry the folder
gpu-build:
	@tools/setup test
	@tools/build build-gpu -Dtests=true
	@cp -L $$(ls -d /usr/lib/*/libcjson.so.1 /usr/lib/*/libcmocka.so.0) build-gpu/
	@$(MAKE) -s build-gpu/flashinfer.pack

# Compiled here, so that what runs there can be told from its code later.
build-gpu/flashinfer.pack: build-gpu/libflashinfer.so
	@VIRTUAL_ENV=$(CURDIR)/.venv build-gpu/tools/flashinfer prebuild \
	    --arch sm_90a -o $@

## make gpu-test   the tests on a machine with a GPU, 6 minutes at most
gpu-test:
	@python3 tests/run.py gpu

## make gpu-bench  kernels beside what the GPU can do
gpu-bench:
	@FLI_NVRTC=$$(python3 -c "import sys; sys.path.insert(0, 'tests'); \
	    import run; print(run.nvrtc_folder())") build-gpu/tests/gpu/bench

## make mutants    do the tests notice one-line faults?  30 minutes
mutants:
	@tools/setup test
	@$(PYTHON) tools/mutants.py

## make lint       style rules and formatting
lint:
	@tools/setup test
	@$(PYTHON) tools/checksrc.py --report

## make clean      removes what was built; .venv stays
clean:
	@rm -rf build build-clang build-gcc build-asan build-tsan build-fuzz \
	    build-gpu build-mutants

.PHONY: help demo chat test test-full bench gpu-build gpu-test gpu-bench \
    mutants lint clean
