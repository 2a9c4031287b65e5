"""Two small model files that other programs really load, made of nothing but a seed.

The weights mean nothing, but every header, name, shape and type is what a reader of the format wants: the GGUF
is a llama-architecture model of one block that llama.cpp loads and runs. Formats followed:

* GGUF version 3: ``docs/gguf.md`` in the ggml repository.
* safetensors: the "Format" section of the safetensors repository's README.

The weights come from SHAKE-256, not from :mod:`random`: equal seeds give equal bytes on every Python, so that
the digests shown by two people are the same.
"""

from __future__ import annotations

import hashlib
import json
import math
import string
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# A wide feed-forward layer makes up most of the size: large enough for a progress bar to be seen.
_EMBEDDING: Final = 256
_FEED_FORWARD: Final = 4096
_HEADS: Final = 8
_CONTEXT: Final = 512

_TOKENS: Final = ("<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *string.ascii_lowercase)

_ALIGNMENT: Final = 32

# The numbers that GGUF gives to its types of values, tensors and tokens.
_UINT32, _INT32, _FLOAT32, _STRING, _ARRAY = 4, 5, 6, 8, 9
_F32, _F16 = 0, 1
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6

# A float's top byte holds its sign and its magnitude. These tables keep the sign (and F16's two top bits of the
# fraction) and set the exponent, so that any bytes become small finite weights: below 2**-5, never NaN.
_SMALL_F16: Final = bytes(byte & 0x83 | 0x24 for byte in range(256))
_SMALL_F32: Final = bytes(byte & 0x80 | 0x3C for byte in range(256))


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    """The fastest-running axis last, as NumPy and safetensors write it; GGUF turns it round."""
    kind: int
    data: bytes


def tiny_gguf(seed: int = 0) -> bytes:
    """Return a GGUF version 3 file of about 7 MB: a llama model of one block in F16 with a byte-level vocabulary.

    Equal seeds give equal bytes. The model loads and runs in llama.cpp; what it says is noise.
    """
    types = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256, *[_NORMAL] * 27]
    metadata = [
        _pair("general.architecture", _STRING, "llama"),
        _pair("general.name", _STRING, "modelcask demo"),
        _pair("general.file_type", _UINT32, 1),  # mostly F16
        _pair("general.alignment", _UINT32, _ALIGNMENT),
        _pair("llama.context_length", _UINT32, _CONTEXT),
        _pair("llama.embedding_length", _UINT32, _EMBEDDING),
        _pair("llama.block_count", _UINT32, 1),
        _pair("llama.feed_forward_length", _UINT32, _FEED_FORWARD),
        _pair("llama.rope.dimension_count", _UINT32, _EMBEDDING // _HEADS),
        _pair("llama.attention.head_count", _UINT32, _HEADS),
        _pair("llama.attention.layer_norm_rms_epsilon", _FLOAT32, 1e-5),
        _pair("tokenizer.ggml.model", _STRING, "llama"),
        _array("tokenizer.ggml.tokens", _STRING, _TOKENS),
        _array("tokenizer.ggml.scores", _FLOAT32, [-float(rank) for rank in range(len(_TOKENS))]),
        _array("tokenizer.ggml.token_type", _INT32, types),
        _pair("tokenizer.ggml.unknown_token_id", _UINT32, 0),
        _pair("tokenizer.ggml.bos_token_id", _UINT32, 1),
        _pair("tokenizer.ggml.eos_token_id", _UINT32, 2),
    ]
    square, wide, vocabulary = (_EMBEDDING, _EMBEDDING), (_FEED_FORWARD, _EMBEDDING), (len(_TOKENS), _EMBEDDING)
    tensors = [
        _noise(seed, "token_embd.weight", vocabulary, _F16),
        _ones("blk.0.attn_norm.weight", _EMBEDDING),
        *(_noise(seed, f"blk.0.attn_{part}.weight", square, _F16) for part in ("q", "k", "v", "output")),
        _ones("blk.0.ffn_norm.weight", _EMBEDDING),
        _noise(seed, "blk.0.ffn_gate.weight", wide, _F16),
        _noise(seed, "blk.0.ffn_up.weight", wide, _F16),
        _noise(seed, "blk.0.ffn_down.weight", wide[::-1], _F16),
        _ones("output_norm.weight", _EMBEDDING),
        _noise(seed, "output.weight", vocabulary, _F16),
    ]
    infos, body = b"", b""
    for tensor in tensors:
        infos += _string(tensor.name) + struct.pack("<I", len(tensor.shape))
        infos += struct.pack(f"<{len(tensor.shape)}Q", *reversed(tensor.shape))
        infos += struct.pack("<IQ", tensor.kind, len(body))
        body += _aligned(tensor.data)
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
    return _aligned(head + b"".join(metadata) + infos) + body


def tiny_safetensors(seed: int = 0) -> bytes:
    """Return a safetensors file of about 3.5 MB: an embedding in F32, a norm in F32 and a projection in F16.

    Equal seeds give equal bytes.
    """
    width = 768
    tensors = [
        _noise(seed, "embeddings.weight", (width, width), _F32),
        _ones("norm.weight", width),
        _noise(seed, "projection.weight", (width, width), _F16),
    ]
    header: dict[str, object] = {"__metadata__": {"format": "pt", "name": "modelcask demo"}}
    end = 0
    for tensor in tensors:
        start, end = end, end + len(tensor.data)
        kind = "F32" if tensor.kind == _F32 else "F16"
        header[tensor.name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(tensor.data for tensor in tensors)


def small_files() -> dict[str, bytes]:
    """Return the texts that lie beside the weights in a repository, by name: they describe :func:`tiny_gguf`."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": _EMBEDDING,
        "intermediate_size": _FEED_FORWARD,
        "max_position_embeddings": _CONTEXT,
        "num_attention_heads": _HEADS,
        "num_hidden_layers": 1,
        "rms_norm_eps": 1e-5,
        "vocab_size": len(_TOKENS),
    }
    vocabulary = {token: number for number, token in enumerate(_TOKENS)}
    tokenizer = {"version": "1.0", "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}}
    return {
        "README.md": b"# tiny-llama\n\nWeights of noise, made by `modelcask demo`. They load, and mean nothing.\n",
        "config.json": json.dumps(config, indent=2).encode(),
        "tokenizer.json": json.dumps(tokenizer, indent=2).encode(),
    }


def _noise(seed: int, name: str, shape: tuple[int, ...], kind: int) -> _Tensor:
    width, small = (2, _SMALL_F16) if kind == _F16 else (4, _SMALL_F32)
    weights = bytearray(hashlib.shake_256(f"{seed}/{name}".encode()).digest(width * math.prod(shape)))
    top = slice(width - 1, None, width)
    weights[top] = weights[top].translate(small)
    return _Tensor(name, shape, kind, bytes(weights))


def _ones(name: str, length: int) -> _Tensor:
    return _Tensor(name, (length,), _F32, struct.pack("<f", 1.0) * length)


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _value(kind: int, value: str | float) -> bytes:
    return _string(value) if isinstance(value, str) else struct.pack("<f" if kind == _FLOAT32 else "<i", value)


def _pair(key: str, kind: int, value: str | float) -> bytes:
    return _string(key) + struct.pack("<I", kind) + _value(kind, value)


def _array(key: str, kind: int, values: Sequence[str | float]) -> bytes:
    head = _string(key) + struct.pack("<IIQ", _ARRAY, kind, len(values))
    return head + b"".join(_value(kind, value) for value in values)


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT)
