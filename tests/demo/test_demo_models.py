"""The demo's two model files are what other people's readers of the formats take them for."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFValueType
from safetensors import safe_open
from safetensors.numpy import load

from modelcask_cli.demo.models import tiny_gguf, tiny_safetensors

GGUF_SHAPES = {
    "token_embd.weight": (286, 256),
    "blk.0.attn_norm.weight": (256,),
    "blk.0.attn_q.weight": (256, 256),
    "blk.0.attn_k.weight": (256, 256),
    "blk.0.attn_v.weight": (256, 256),
    "blk.0.attn_output.weight": (256, 256),
    "blk.0.ffn_norm.weight": (256,),
    "blk.0.ffn_gate.weight": (4096, 256),
    "blk.0.ffn_up.weight": (4096, 256),
    "blk.0.ffn_down.weight": (256, 4096),
    "output_norm.weight": (256,),
    "output.weight": (286, 256),
}


@pytest.fixture
def gguf(tmp_path: Path) -> GGUFReader:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny_gguf())
    return GGUFReader(path)


def test_the_gguf_reader_finds_every_tensor_with_its_shape_and_finite_weights(gguf: GGUFReader) -> None:
    """The gguf library reads all tensors that llama.cpp wants, norms of ones and small finite weights."""
    assert {tensor.name: tuple(tensor.data.shape) for tensor in gguf.tensors} == GGUF_SHAPES
    for tensor in gguf.tensors:
        weights = tensor.data.astype(np.float32)
        if tensor.name.endswith("norm.weight"):
            assert (weights == 1).all()
        else:
            assert np.abs(weights).max() < 2**-5
            assert np.abs(weights).min() >= 2**-6
            assert abs(float(weights.mean())) < 0.001


def test_the_gguf_ends_with_its_last_tensor(gguf: GGUFReader) -> None:
    """No byte is missing and none is left over after the last tensor."""
    last = max(gguf.tensors, key=lambda tensor: tensor.data_offset)
    assert last.data_offset + last.n_bytes == len(tiny_gguf())
    assert all(tensor.data_offset % gguf.alignment == 0 for tensor in gguf.tensors)


def test_the_gguf_says_that_it_is_a_llama_with_a_whole_vocabulary(gguf: GGUFReader) -> None:
    """The architecture and the vocabulary come back from the gguf library as they were meant."""
    values = {name: field.contents() for name, field in gguf.fields.items()}
    assert values["general.architecture"] == "llama"
    assert values["llama.block_count"] == 1
    assert values["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)
    tokens = values["tokenizer.ggml.tokens"]
    assert tokens[values["tokenizer.ggml.bos_token_id"]] == "<s>"
    assert tokens[values["tokenizer.ggml.eos_token_id"]] == "</s>"
    assert tokens[3:259] == [f"<0x{byte:02X}>" for byte in range(256)]
    assert len(tokens) == len(values["tokenizer.ggml.scores"]) == len(values["tokenizer.ggml.token_type"])
    assert gguf.fields["tokenizer.ggml.scores"].types == [GGUFValueType.ARRAY, GGUFValueType.FLOAT32]


def test_the_safetensors_library_reads_every_tensor_and_the_metadata(tmp_path: Path) -> None:
    """safetensors, which checks offsets and gaps itself, gives back all tensors in their types."""
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(tiny_safetensors())
    with safe_open(path, framework="numpy") as opened:
        assert opened.metadata() == {"format": "pt", "name": "modelcask demo"}
    tensors = load(path.read_bytes())
    assert {name: (array.dtype.name, array.shape) for name, array in tensors.items()} == {
        "embeddings.weight": ("float32", (768, 768)),
        "norm.weight": ("float32", (768,)),
        "projection.weight": ("float16", (768, 768)),
    }
    assert (tensors["norm.weight"] == 1).all()
    assert all(np.isfinite(array).all() and (np.abs(array) <= 1).all() for array in tensors.values())


def test_the_safetensors_header_is_padded_with_spaces_to_eight_bytes() -> None:
    """The data begins at a multiple of eight and fills the rest of the file, as the format asks."""
    data = tiny_safetensors()
    (length,) = struct.unpack_from("<Q", data)
    header = data[8 : 8 + length]
    assert length % 8 == 0
    assert header.endswith(b" ")
    assert header.rstrip(b" ").endswith(b"}")
    tensors = [entry for name, entry in json.loads(header).items() if name != "__metadata__"]
    assert 8 + length + max(entry["data_offsets"][1] for entry in tensors) == len(data)
    assert all(
        math.prod(entry["shape"]) * {"F32": 4, "F16": 2}[entry["dtype"]]
        == entry["data_offsets"][1] - entry["data_offsets"][0]
        for entry in tensors
    )


def test_equal_seeds_give_equal_bytes_for_ever() -> None:
    """The digests are the same on every machine and Python, and another seed is another model."""
    assert [hashlib.sha256(data).hexdigest() for data in (tiny_gguf(), tiny_safetensors())] == [
        "8cbb19bcd5e34ae1fa6074ab6f5fcd25cee296d7c58906473fbbc93fc19a7494",
        "f332eb84b104766846f1cf2936d801fa67189a74866edc7859c426bc67619dce",
    ]
    assert tiny_gguf(1) != tiny_gguf(2)
    assert tiny_safetensors(1) != tiny_safetensors(2)


def test_the_files_are_as_large_as_a_progress_bar_needs_and_no_larger() -> None:
    """About 7 MB and about 3.5 MB: seen on a bar, and done in a moment."""
    assert 6_000_000 < len(tiny_gguf()) < 8_000_000
    assert 3_000_000 < len(tiny_safetensors()) < 4_000_000
