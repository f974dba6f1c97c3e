#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Times the library beside FlashInfer's own kernels on a machine with a GPU, nvcc
# and torch, where make gpu-build's folder was carried:
#
#   tests/gpu/peers.sh build FOLDER [MODULE...]   installs and compiles theirs
#   tests/gpu/peers.sh run FOLDER [FAMILY...]     the table, after build
#
# FOLDER has their wheels and bench_upstream.py, and may have the aot.tar.xz that
# an earlier build left in OUT: then nothing is compiled.  build takes about 100 s
# on 16 cores (7 with aot.tar.xz) and no GPU time, so it can go on beside
# tests; run takes about 45 s and wants the machine to itself.  Families:
# ceil gemm prefill decode plan host sampling elem.  What is not compiled is
# FAILED in the table.
set -e
step=$1 folder=$2
shift 2

export OUT=${OUT:-.} PYTHONUNBUFFERED=1
export PYTHONPATH=/tmp/site FLASHINFER_WORKSPACE_BASE=/tmp/fi
aot=/tmp/site/flashinfer/data/aot

build() {
    [ -d $aot ] || python3 -m pip install -q --no-index --no-deps --no-compile \
        --no-cache-dir --upgrade --target /tmp/site "$folder"/*.whl
    mkdir -p $aot
    if [ -e "$folder/aot.tar.xz" ]; then
        tar -C $aot -xJf "$folder/aot.tar.xz"
    else
        timeout 300 python3 "$folder/bench_upstream.py" jit "$@"
        tar -C $aot -cf - . | xz -T0 -3 >"$OUT/aot.tar.xz"
    fi
}

run() {
    FLI_NVRTC=$(python3 -c "import sys; sys.path.insert(0, 'tests'); \
        import run; print(run.nvrtc_folder())")
    export FLI_NVRTC FLASHINFER_DISABLE_JIT=1 PLUGIN=tests/gpu/peers_plugin.py
    timeout -k 9 150 python3 "$folder/bench_upstream.py" run "$@"
}

cd "$(dirname "$0")/../.."
case $step in
build)
    [ $# -gt 0 ] || set -- sampling decode prefill_fa2 norm rope page silu
    build "$@"
    ;;
run)
    [ $# -gt 0 ] || set -- ceil prefill decode sampling elem
    run "$@"
    ;;
esac
