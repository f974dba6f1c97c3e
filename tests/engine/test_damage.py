# SPDX-License-Identifier: Apache-2.0
"""Damaged model folders: one sentence on stderr, exit code 1, never a crash."""

import json
import shutil
import struct

import numpy as np
import pytest

import harness

REQUEST = json.dumps({"id": 0, "tokens": [1, 2, 3], "max_new_tokens": 2}) + "\n"


def refused(folder, *words):
    done = harness.run("--json", text=REQUEST, model=folder)
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert done.stdout == ""
    assert done.stderr.startswith("engine: ") and done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.fixture
def model(small, tmp_path):
    return shutil.copytree(small, tmp_path / "m")


@pytest.fixture
def sharded(tmp_path):
    return harness.make_model(tmp_path / "s", shards=2)


def split(path):
    data = path.read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + n]), data[8 + n :]


def join(path, header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def edit(folder, change):
    path = folder / "model.safetensors"
    header, data = split(path)
    change(header)
    join(path, header, data)


NORM = "model.norm.weight"  # the last tensor but none of the file
Q = "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 100, 0.3, 0.9, -1])
def test_truncated(model, keep):
    path = model / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    refused(model, "model.safetensors")


@pytest.mark.parametrize("length", [0, 1, 2**20, 2**31, 2**40, 2**63, 2**64 - 1, 2**64 - 8])
def test_header_length(model, length):
    path = model / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    refused(model, "model.safetensors: ", "header")


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"17", b"null", b"\0" * 40, b"\xff" * 40, b"[" * 100_000, b'{"a": ' * 5000]
)
def test_header_text(model, text):
    join(model / "model.safetensors", text, b"")
    refused(model, "header is not a JSON object")


@pytest.mark.parametrize("dtype", ["I64", "F64", "F8_E4M3", "", 7, None, ["F32"]])
def test_wrong_dtype(model, dtype):
    edit(model, lambda h: h[Q].update(dtype=dtype))
    refused(model, f"the dtype of {Q} is not BF16, F16 or F32")


def test_other_dtype_than_the_bytes(model):
    edit(model, lambda h: h[Q].update(dtype="BF16"))
    refused(model, Q)


@pytest.mark.parametrize("name", [NORM, Q, "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight"])
def test_missing_tensor(model, name):
    edit(model, lambda h: h.pop(name))
    refused(model, f"tensor {name} is missing")


@pytest.mark.parametrize("entry", [None, 5, [], {}, "x", {"dtype": "F32"}])
def test_tensor_entry(model, entry):
    edit(model, lambda h: h.update({Q: entry}))
    refused(model, Q)


@pytest.mark.parametrize(
    "offsets",
    [
        [0, 0], [-64, 12224], [12288, 0], [1e300, 2e300], [0, 2**63], [2**62, 2**62 + 12288],
        [2**64 - 12288, 2**64], ["0", "12288"], [0], [], None, [0, 12288, 1], [0.5, 12288.5], [None, 1],
    ],
)  # fmt: skip
def test_offsets(model, offsets):
    edit(model, lambda h: h[Q].update(data_offsets=offsets))
    if offsets in ([0, 12288, 1], [0.5, 12288.5]):  # wrong, but inside of the file
        assert harness.run("--json", text=REQUEST, model=model).returncode in (0, 1)
        return
    refused(model, Q)


@pytest.mark.parametrize(
    "shape", [[], [64], [48, 64], [64, 48, 1], [-64, -48], [2**32, 2**32], [64, "48"], None, 3072, [1e300, 1]]
)
def test_shape(model, shape):
    edit(model, lambda h: h[Q].update(shape=shape))
    refused(model, Q)


def test_data_at_odd_offsets_is_read(model, small):
    """Alignment is not promised by the format."""
    path = model / "model.safetensors"
    header, data = split(path)
    text = json.dumps(header).encode()
    join(path, text + b" " * (1 + len(text) % 2), data)
    want, got = (harness.serve([REQUEST.strip()], model=m).answers[0]["tokens"] for m in (small, model))
    assert want == got


def test_no_files(model):
    (model / "model.safetensors").unlink()
    refused(model, f"{INDEX}: No such file or directory")
    (model / "config.json").unlink()
    refused(model, "config.json: No such file or directory")


def test_folders_for_files(model):
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").mkdir()
    refused(model, "not a file")
    (model / "config.json").unlink()
    (model / "config.json").mkdir()
    refused(model, "not a file")


# --- shards -------------------------------------------------------------------

INDEX = "model.safetensors.index.json"


def remap(folder, file):
    path = folder / INDEX
    index = json.loads(path.read_text())
    index["weight_map"][Q] = file
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    "file",
    [
        INDEX, "config.json", "..", "", ".safetensors", "../m/model.safetensors", "/etc/passwd",
        "/etc/x.safetensors", "sub/model.safetensors", "./model-00001-of-00002.safetensors",
        "..\\x.safetensors", "x" * 300 + ".safetensors", ".hidden.safetensors",
    ],
)  # fmt: skip
def test_shard_names(sharded, file):
    remap(sharded, file)
    refused(sharded, "weight_map names", "expected a .safetensors file of the same folder")


@pytest.mark.parametrize("file", [5, None, {}, ["a.safetensors"], {"weight_map": {}}])
def test_shard_types(sharded, file):
    remap(sharded, file)
    refused(sharded, Q)


def test_index_in_the_place_of_a_shard(sharded):
    """A cycle: the shard is the index itself under a shard's name."""
    shard = sharded / "model-00002-of-00002.safetensors"
    shard.unlink()
    shard.symlink_to(INDEX)
    refused(sharded, shard.name)


def test_shard_that_is_a_loop(sharded):
    shard = sharded / "model-00002-of-00002.safetensors"
    shard.unlink()
    shard.symlink_to(shard.name)
    refused(sharded, shard.name)


def test_missing_shard(sharded):
    (sharded / "model-00002-of-00002.safetensors").unlink()
    refused(sharded, "model-00002-of-00002.safetensors: No such file or directory")


def test_tensor_in_the_other_shard(sharded):
    files = sorted(p.name for p in sharded.glob("*.safetensors"))
    header, _ = split(sharded / files[0])
    remap(sharded, files[1] if Q in header else files[0])
    refused(sharded, f"tensor {Q} is missing")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 5}', '{"weight_map": []}', "{" * 9999])
def test_index_text(sharded, text):
    (sharded / INDEX).write_text(text)
    refused(sharded, INDEX)


# --- config.json --------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "[" * 100_000, '{"a":' * 5000, "\0" * 9])
def test_config_text(model, text):
    (model / "config.json").write_text(text)
    refused(model, "config.json")


SIZES = "hidden_size intermediate_size num_hidden_layers num_attention_heads vocab_size max_position_embeddings"


@pytest.mark.parametrize("name", SIZES.split())
@pytest.mark.parametrize("value", ["absent", None, 0, -1, 1e18, 1e300, 2.5, "64", [64]], ids=str)
def test_config_sizes(tmp_path, model, name, value):
    config = json.loads((model / "config.json").read_text())
    config.pop(name) if value == "absent" else config.update({name: value})
    (model / "config.json").write_text(json.dumps(config))
    refused(model, "config.json: " + name)


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "architectures is GPT2LMHeadModel"),
        ({"architectures": []}, "architectures is missing"),
        ({"architectures": "LlamaForCausalLM"}, "architectures is missing"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2}}, "rope_type is yarn"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2}}, "rope_type is dynamic"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "rope_type is longrope"),
        ({"rope_scaling": {"rope_type": 5}}, "rope_type is not a string"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2}}, "rope_type is linear"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "factor is missing"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 0}}, "factor is 0"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "low_freq_factor is missing"),
        ({"rope_theta": -1}, "rope_theta is -1"),
        ({"rope_theta": "big"}, "rope_theta is not a number"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ({"hidden_act": "gelu"}, "hidden_act is gelu, expected silu"),
        ({"torch_dtype": "float64"}, "dtype is float64"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is given"),
        ({"num_key_value_heads": 3}, "expected a multiple of num_key_value_heads (3)"),
        ({"num_key_value_heads": -2}, "num_key_value_heads is -2"),
        ({"rms_norm_eps": -1}, "rms_norm_eps is -1"),
        ({"eos_token_id": 101}, "eos_token_id[0] is not a token id of 0 to 100"),
        ({"eos_token_id": "x"}, "eos_token_id[0] is not a token id"),
        ({"eos_token_id": [1, -1]}, "eos_token_id[1] is not a token id"),
        ({"bos_token_id": 4000}, "bos_token_id is 4000"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is not true or false"),
        ({"architectures": ["MistralForCausalLM"]}, "architectures is MistralForCausalLM"),
        ({"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True}, "use_sliding_window is true"),
    ],
)  # fmt: skip
def test_config_values(model, changes, sentence):
    config = {**harness.SMALL, **changes}
    (model / "config.json").write_text(json.dumps(config))
    refused(model, "config.json: ", sentence)


@pytest.mark.parametrize("changes", [{"hidden_size": 64}, {"vocab_size": 102}, {"num_hidden_layers": 3}, {"head_dim": 24}])
def test_config_of_another_model(model, changes):
    (model / "config.json").write_text(json.dumps({**harness.SMALL, **changes}))
    refused(model, "model.safetensors: ")


def test_head_dim_that_no_kernel_takes(tmp_path):
    folder = harness.make_model(tmp_path / "m", head_dim=20)
    refused(folder, "attention create: ", "20")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_weights_that_are_no_numbers(model, value):
    """The model loads; the request is answered with an error."""
    path = model / "model.safetensors"
    header, data = split(path)
    begin, end = header[NORM]["data_offsets"]
    bad = np.full((end - begin) // 4, float(value), np.float32).tobytes()
    join(path, header, data[:begin] + bad + data[end:])
    got = harness.serve([REQUEST.strip(), REQUEST.strip()], model=model)
    assert got.answers[0]["finish"] == "error"
    assert got.answers[0]["error"] == "the logits after token 2 are not numbers"


def test_random_damage(model):
    """Bytes of the header changed at random: any answer but a crash."""
    path, rng = model / "model.safetensors", np.random.default_rng(5)
    whole = path.read_bytes()
    (n,) = struct.unpack("<Q", whole[:8])
    for _ in range(60):
        data = bytearray(whole)
        for at in rng.integers(0, 8 + n, rng.integers(1, 5)):
            data[at] = rng.choice(list(b'0123456789-{}[]",:eE. \x00\xff'))
        path.write_bytes(data)
        done = harness.run("--json", text=REQUEST, model=model)
        assert done.returncode in (0, 1), (done.returncode, bytes(data[: 8 + n]))
