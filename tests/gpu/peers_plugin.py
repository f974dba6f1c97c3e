# SPDX-License-Identifier: Apache-2.0
"""The library's entries in a benchmark of FlashInfer's operators: tests/gpu/
peers.sh says how it is run.

The benchmark makes torch tensors on the GPU and asks impls() for functions
f(i), which enqueue a call on input set i on torch's current stream; it times
them, eagerly or captured in a graph, in the rounds of the other
implementations.  Everything but the call is made before: structs, workspaces,
plans.  Needs torch alone, and build-gpu (FLI_BUILD names another folder).
"""
import atexit
import ctypes
import os
import pathlib
from ctypes import c_float, c_int32, c_int64, c_size_t, c_uint32, c_uint64
from ctypes import c_void_p

import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / os.environ.get("FLI_BUILD", "build-gpu")
CAUSAL, GRAPH, JOINT = 1, 1, 1
PAGE = 16
DTYPES = {torch.float32: 1, torch.float16: 2, torch.bfloat16: 3,
          torch.int32: 16, torch.int64: 17, torch.uint8: 18, torch.bool: 19}

# --- the structs of include/flashinfer ------------------------------------


def struct(name, *members):
    """members: (type, "names of that type")..."""
    fields = [(n, kind) for kind, names in members for n in names.split()]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


Device = struct("fli_device", (c_int32, "type index"))
Tensor = struct("fli_tensor", (c_void_p, "data"),
                (c_int64 * 6, "shape stride"), (c_int32, "dtype"),
                (Device, "device"), (c_int32, "ndim"))
Desc = struct("fli_attention_desc", (c_size_t, "size"),
              (c_int32, "n_qo_heads n_kv_heads head_dim_qk head_dim_vo "
                        "dtype_q dtype_kv dtype_out"),
              (c_uint32, "flags masks"),
              (c_int32, "max_requests max_rows reserved"))
Batch = struct("fli_attention_batch", (c_size_t, "size"),
               (c_int32, "n_requests mask"), (c_void_p, "q_indptr kv_len"),
               (c_int32, "window reserved"))
Kv = struct("fli_kv", (Tensor, "k v page_indptr page_indices kv_indptr"),
            (c_int32, "layout"), (c_int32 * 7, "reserved"))
AttentionArgs = struct("fli_attention_args", (c_size_t, "size"),
                       (Tensor, "q"), (Kv, "kv"), (Tensor, "out lse"),
                       (c_int32, "mask window"),
                       (c_float, "soft_cap sm_scale k_scale v_scale"))
RmsnormArgs = struct("fli_rmsnorm_args", (c_size_t, "size"),
                     (Tensor, "x weight out"), (c_float, "eps"),
                     (c_int32, "reserved"))
AddRmsnormArgs = struct("fli_fused_add_rmsnorm_args", (c_size_t, "size"),
                        (Tensor, "x residual weight"), (c_float, "eps"),
                        (c_int32, "reserved"))
ActArgs = struct("fli_act_and_mul_args", (c_size_t, "size"),
                 (Tensor, "x out"))
RopeArgs = struct("fli_rope_args", (c_size_t, "size"),
                  (Tensor, "q k q_out k_out positions cos_sin_cache"),
                  (c_int32, "rotary_dim interleaved"),
                  (c_float, "theta scale"), (c_int32, "llama31"),
                  (c_float, "low_freq_factor high_freq_factor "
                            "old_context_len"))
AppendArgs = struct("fli_append_args", (c_size_t, "size"),
                    (Tensor, "k v batch_indices positions"), (Kv, "cache"))
SoftmaxArgs = struct("fli_softmax_args", (c_size_t, "size"),
                     (Tensor, "logits probs temperatures valid"),
                     (c_float, "temperature"), (c_int32, "has_temperature"))
SampleArgs = struct("fli_sample_args", (c_size_t, "size"),
                    (Tensor, "x indices tokens valid temperatures top_ks "
                             "top_ps min_ps seeds offsets"),
                    (c_uint64, "seed offset"), (c_float, "temperature"),
                    (c_int32, "has_temperature top_k"),
                    (c_float, "top_p min_p"), (c_uint32, "flags"))
GemmArgs = struct("fli_gemm_args", (c_size_t, "size"),
                  (Tensor, "a b packed bias out"), (c_uint32, "flags"),
                  (c_int32, "add"))
DEVICE = Device(2, 0)  # FLI_DEVICE_CUDA


def tensor(t):
    return Tensor(t.data_ptr(), (c_int64 * 6)(*t.shape),
                  (c_int64 * 6)(*t.stride()), DTYPES[t.dtype], DEVICE, t.dim())


def make(kind, **members):
    """A struct; it keeps the torch tensors that it points into."""
    made = kind(**{name: tensor(value) if torch.is_tensor(value) else value
                   for name, value in members.items()})
    if hasattr(kind, "size"):
        made.size = ctypes.sizeof(kind)
    made.keep = members
    return made


# --- the library ----------------------------------------------------------

lib = ctypes.CDLL(str(BUILD / "libflashinfer.so"))
lib.fli_last_error.restype = ctypes.c_char_p
lib.fli_context_describe.restype = ctypes.c_char_p
lib.fli_context_create.argtypes = [c_void_p, Device, c_void_p]
lib.fli_attention_workspace.restype = c_size_t
lib.fli_attention_plan.argtypes = [c_void_p, c_void_p, c_void_p, c_size_t,
                                   c_void_p]
for op in ("attention_run", "rmsnorm", "fused_add_rmsnorm", "silu_and_mul",
           "rope", "append", "softmax", "sample_from_logits",
           "sample_from_probs", "gemm"):
    getattr(lib, "fli_" + op).argtypes = [c_void_p] * 3  # first, args, stream


def must(status):
    if status:
        raise RuntimeError(lib.fli_last_error().decode())


def make_context():
    made = c_void_p()
    must(lib.fli_context_create(ctypes.byref(made), DEVICE, None))
    print("ours:", lib.fli_context_describe(made).decode(), flush=True)
    return made


context = make_context()


@atexit.register
def check():
    """What kernels could not report themselves."""
    must(lib.fli_context_check(context))


def stream():
    return torch.cuda.current_stream().cuda_stream


def calls(name, sets, first=context, result=None):
    """f(i) of one of the functions above on its args struct i."""
    function = getattr(lib, "fli_" + name)

    def f(i):
        must(function(first, ctypes.byref(sets[i % len(sets)]), stream()))
        return result
    return f


class Attention:
    """An op with a plan, for bf16 and the mask that is planned."""

    def __init__(self, heads, q_lens, kv_lens, mask, flags=0):
        n = len(kv_lens)
        rows = [sum(q_lens[:i]) for i in range(n + 1)]
        dtype = DTYPES[torch.bfloat16]
        desc = make(Desc, n_qo_heads=heads[0], n_kv_heads=heads[1],
                    head_dim_qk=128, head_dim_vo=128, dtype_q=dtype,
                    flags=flags, max_requests=n, max_rows=rows[n])
        indptr, lens = (c_int32 * (n + 1))(*rows), (c_int32 * n)(*kv_lens)
        batch = make(Batch, n_requests=n, mask=mask,
                     q_indptr=ctypes.addressof(indptr),
                     kv_len=ctypes.addressof(lens))
        self._as_parameter_ = c_void_p()
        must(lib.fli_attention_create(ctypes.byref(self._as_parameter_),
                                      context, ctypes.byref(desc)))
        size = lib.fli_attention_workspace(self)
        self.workspace = torch.empty(size, dtype=torch.uint8, device="cuda")
        must(lib.fli_attention_plan(self, ctypes.byref(batch),
                                    self.workspace.data_ptr(), size, stream()))

    def __del__(self):
        lib.fli_attention_destroy(self)


def indptr_of(lens):
    return torch.tensor([sum(lens[:i]) for i in range(len(lens) + 1)],
                        dtype=torch.int32, device="cuda")


# --- families: {name: f} of a case; c is the benchmark's ctx --------------

def decode(case, c):
    nset, q = c["nset"], c["q"]
    if q[0].dtype != c["K"].dtype:
        return {}  # fp8 K and V
    indptr = indptr_of(c["npg"])
    sets = [make(AttentionArgs, q=q[i % len(q)], out=c["out"], mask=CAUSAL,
                 kv=make(Kv, k=c["K"][i], v=c["V"][i], page_indptr=indptr,
                         page_indices=c["perm"])) for i in range(nset)]

    def planned(flags):
        return calls("attention_run", sets, Attention(
            (c["hq"], c["hk"]), [1] * len(c["lens"]), c["lens"], CAUSAL,
            flags))
    return {"ours": planned(0), "ours graph": planned(GRAPH)}


def prefill(case, c):
    n_rows, n_heads, _ = c["sets"][0][0].shape
    lens = [c["L"]] * (n_rows // c["L"])
    mask = CAUSAL if c["causal"] else 0
    tokens, pages = indptr_of(lens), indptr_of([n // PAGE for n in lens])
    out = torch.empty_like(c["sets"][0][0])

    def planned(caches):
        sets = [make(AttentionArgs, q=q, out=out, mask=mask, kv=kv)
                for (q, _, _), kv in zip(c["sets"], caches)]
        return calls("attention_run", sets, Attention(
            (n_heads, n_heads), lens, lens, mask), out)
    return {
        "ours": planned([make(Kv, k=k, v=v, kv_indptr=tokens)
                         for _, k, v in c["sets"]]),
        "ours paged": planned([make(Kv, k=k, v=v, page_indptr=pages,
                                    page_indices=c["perm"])
                               for k, v in c["paged"]]),
    }


def sampling(case, c):
    n, n_sets = c["B"], len(c["X"]) // c["B"]

    def full(value, dtype):
        return torch.full((n,), value, dtype=dtype, device="cuda")
    tokens, seeds = full(0, torch.int32), full(1234, torch.int64)
    offsets, probs = full(0, torch.int64), torch.empty_like(c["X"][:n])
    k, p = full(50, torch.int32), full(0.9, torch.float32)
    filters = {
        "none": {}, "k": {"top_ks": k}, "p": {"top_ps": p},
        "min_p": {"min_ps": full(0.05, torch.float32)},
        "k,p": {"top_ks": k, "top_ps": p},
        "k,p joint": {"top_ks": k, "top_ps": p, "flags": JOINT},
    }
    made = {"ours softmax": calls("softmax", [
        make(SoftmaxArgs, logits=c["X"][i * n:i * n + n], probs=probs)
        for i in range(n_sets)])}
    for kind, x in (("logits", c["X"]), ("probs", c["P"])):
        for name, given in filters.items():
            made[f"ours {kind} {name}"] = calls("sample_from_" + kind, [
                make(SampleArgs, x=x[i * n:i * n + n], tokens=tokens,
                     seeds=seeds, offsets=offsets, **given)
                for i in range(n_sets)])
    return made


def elem(case, c):
    def rope():
        q, k = (c[name].view(len(c[name]), -1, 128) for name in "qk")
        return calls("rope", [make(RopeArgs, q=q, k=k, q_out=q, k_out=k,
                                   positions=c["pos"],
                                   cos_sin_cache=c["cs"])])

    def append():
        cache = make(Kv, k=c["cache"][:, 0], v=c["cache"][:, 1],
                     page_indptr=c["pip"], page_indices=c["perm"])
        return calls("append", [make(AppendArgs, k=c["kv"][0], v=c["kv"][1],
                                     batch_indices=c["bi"],
                                     positions=c["ps"], cache=cache)])
    made = {
        "rmsnorm": lambda: calls("rmsnorm", [
            make(RmsnormArgs, x=c["x"], weight=c["w"], out=c["y"])]),
        "fused_add_rmsnorm": lambda: calls("fused_add_rmsnorm", [
            make(AddRmsnormArgs, x=c["x"], residual=c["r"], weight=c["w"])]),
        "silu_and_mul": lambda: calls("silu_and_mul", [
            make(ActArgs, x=c["xx"], out=c["y"])]),
        "rope": rope,
        "append_paged_kv_cache": append,
    }.get(case.split()[0])
    return {"ours": made()} if made else {}


def gemm(case, c):
    pairs = list(zip(c["a"], c["b"])) if "a" in c else \
        [(c["x"], w) for w in c["w"]]
    a, b = pairs[0]
    out = torch.empty(len(a), len(b), dtype=a.dtype, device="cuda")
    return {"ours": calls("gemm", [make(GemmArgs, a=a, b=b, out=out)
                                   for a, b in pairs])}


FAMILIES = {"decode": decode, "prefill": prefill, "sampling": sampling,
            "elem": elem, "gemm": gemm}


def impls(family, case, ctx):
    check()
    return FAMILIES[family](case, ctx) if family in FAMILIES else {}
