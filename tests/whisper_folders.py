"""Tiny Whispers of random weights, in the layouts of Hugging Face and of CTranslate2."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models

UNITS, HEADS, LAYERS, INNER = 16, 2, 2, 24
MELS, ENCODINGS, POSITIONS = 80, 1500, 24
# A byte-level vocabulary: Ġ stands for a space.
PIECES = ("a", "b", "Ġa", "Ġb", "Ġ")
END, START = "<|endoftext|>", "<|startoftranscript|>"
SPECIAL = (
    *(END, START, "<|en|>", "<|de|>", "<|cs|>", "<|translate|>", "<|transcribe|>"),
    *("<|notimestamps|>", "<|0.00|>"),
)
ENGLISH_SPECIAL = (END, START, "<|notimestamps|>")
SUPPRESSED, SUPPRESSED_FIRST = ["b"], ["Ġ", END]


def ids_of(special: Sequence[str] = SPECIAL) -> dict[str, int]:
    return {text: i for i, text in enumerate((*PIECES, *special))}


def tensors(
    seed: int = 0, *, vocab_size: int = len(PIECES) + len(SPECIAL)
) -> dict[str, np.ndarray]:
    """Random weights under Hugging Face's names."""
    generator = np.random.default_rng(seed)
    made: dict[str, np.ndarray] = {}

    def put(name: str, *shape: int, size: float = 1.0) -> None:
        values = generator.normal(size=shape) * size
        made[f"model.{name}"] = values.astype(np.float32)

    def norm(at: str) -> None:
        put(f"{at}.weight", UNITS, size=0.2)
        made[f"model.{at}.weight"] += 1
        put(f"{at}.bias", UNITS, size=0.2)

    def linear(at: str, outputs: int, inputs: int, *, has_bias: bool = True) -> None:
        put(f"{at}.weight", outputs, inputs, size=1.5 / np.sqrt(inputs))
        if has_bias:
            put(f"{at}.bias", outputs, size=0.3)

    def attention(at: str) -> None:
        norm(f"{at}_layer_norm")
        for part in "qkv":
            linear(f"{at}.{part}_proj", UNITS, UNITS, has_bias=part != "k")
        linear(f"{at}.out_proj", UNITS, UNITS)

    put("encoder.conv1.weight", UNITS, MELS, 3, size=0.3)
    put("encoder.conv1.bias", UNITS)
    put("encoder.conv2.weight", UNITS, UNITS, 3, size=0.3)
    put("encoder.conv2.bias", UNITS)
    put("encoder.embed_positions.weight", ENCODINGS, UNITS, size=0.3)
    put("decoder.embed_tokens.weight", vocab_size, UNITS, size=0.7)
    put("decoder.embed_positions.weight", POSITIONS, UNITS, size=0.7)
    for side in ("encoder", "decoder"):
        norm(f"{side}.layer_norm")
        for number in range(LAYERS):
            at = f"{side}.layers.{number}"
            attention(f"{at}.self_attn")
            if side == "decoder":
                attention(f"{at}.encoder_attn")
            norm(f"{at}.final_layer_norm")
            linear(f"{at}.fc1", INNER, UNITS)
            linear(f"{at}.fc2", UNITS, INNER)
    return made


def write_tokenizer(folder: Path, special: Sequence[str] = SPECIAL) -> None:
    vocabulary = {piece: i for i, piece in enumerate(PIECES)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in special])
    tokenizer.save(str(folder / "tokenizer.json"))


def write_huggingface(
    folder: Path,
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    files: int = 1,
    generation: Mapping[str, object] | None = None,
) -> Path:
    """A multilingual folder as `save_pretrained` writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = tensors() if weights is None else weights
    ids = ids_of()
    config = {
        "model_type": "whisper",
        "activation_function": "gelu",
        "d_model": UNITS,
        "vocab_size": len(weights["model.decoder.embed_tokens.weight"]),
        "num_mel_bins": MELS,
        "max_source_positions": ENCODINGS,
        "max_target_positions": POSITIONS,
    }
    for side in ("encoder", "decoder"):
        config |= {
            f"{side}_layers": LAYERS,
            f"{side}_attention_heads": HEADS,
            f"{side}_ffn_dim": INNER,
        }
    (folder / "config.json").write_text(json.dumps(config))
    said = {
        "is_multilingual": True,
        "suppress_tokens": [ids[text] for text in SUPPRESSED],
        "begin_suppress_tokens": [ids[text] for text in SUPPRESSED_FIRST],
    }
    (folder / "generation_config.json").write_text(json.dumps(said | dict(generation or {})))
    write_tokenizer(folder)
    if files == 1:
        save_file(dict(weights), folder / "model.safetensors")
        return folder
    names, weight_map = sorted(weights), {}
    for number in range(files):
        own, file = names[number::files], f"model-{number + 1:05d}-of-{files:05d}.safetensors"
        save_file({name: weights[name] for name in own}, folder / file)
        weight_map |= dict.fromkeys(own, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def write_ctranslate2(
    folder: Path, weights: Mapping[str, np.ndarray] | None = None, *, dtype: str = "float32"
) -> Path:
    """An English-only folder as ct2-transformers-converter writes it; its vocabulary is so small.

    Args:
      dtype: float32, float16, or int8 (rows of whole numbers with a scale each).
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = len(PIECES) + len(ENGLISH_SPECIAL)
    weights = tensors(vocab_size=size) if weights is None else weights
    variables = _variables({name.removeprefix("model."): v for name, v in weights.items()})
    (folder / "model.bin").write_bytes(_binary(_in_format(variables, dtype)))
    ids = ids_of(ENGLISH_SPECIAL)
    config = {
        "suppress_ids": [ids[text] for text in SUPPRESSED],
        "suppress_ids_begin": [ids[text] for text in SUPPRESSED_FIRST],
        "alignment_heads": [[0, 0]],
        "lang_ids": [],
    }
    (folder / "config.json").write_text(json.dumps(config))
    vocabulary = [*PIECES, *ENGLISH_SPECIAL]
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary))
    return folder


def _variables(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """CTranslate2's variables: names of its own, and joined projections."""
    made: dict[str, np.ndarray] = {
        "encoder/conv1/weight": weights["encoder.conv1.weight"],
        "encoder/conv1/bias": weights["encoder.conv1.bias"],
        "encoder/conv2/weight": weights["encoder.conv2.weight"],
        "encoder/conv2/bias": weights["encoder.conv2.bias"],
        "decoder/embeddings/weight": weights["decoder.embed_tokens.weight"],
        "decoder/activation": np.int8(3),
        "decoder/alibi": np.int8(0),
        "decoder/alignment_heads": np.int16(1),
        "decoder/alignment_layer": np.int16(-1),
        "decoder/pre_norm": np.int8(1),
        "decoder/scale_embeddings": np.int8(0),
        "decoder/start_from_zero_embedding": np.int8(0),
    }

    def linear(into: str, *sources: str) -> None:
        made[f"{into}/weight"] = np.concatenate([weights[f"{s}.weight"] for s in sources])
        none = np.zeros(UNITS, np.float32)
        made[f"{into}/bias"] = np.concatenate([weights.get(f"{s}.bias", none) for s in sources])

    def norm(into: str, source: str) -> None:
        made[f"{into}/gamma"] = weights[f"{source}.weight"]
        made[f"{into}/beta"] = weights[f"{source}.bias"]

    for side in ("encoder", "decoder"):
        made[f"{side}/num_heads"] = np.int16(HEADS)
        positions = weights[f"{side}.embed_positions.weight"]
        made[f"{side}/position_encodings/encodings"] = positions
        norm(f"{side}/layer_norm", f"{side}.layer_norm")
        for number in range(LAYERS):
            into, at = f"{side}/layer_{number}", f"{side}.layers.{number}"
            own = f"{at}.self_attn"
            norm(f"{into}/self_attention/layer_norm", f"{own}_layer_norm")
            linear(f"{into}/self_attention/linear_0", *(f"{own}.{p}_proj" for p in "qkv"))
            linear(f"{into}/self_attention/linear_1", f"{own}.out_proj")
            if side == "decoder":
                across = f"{at}.encoder_attn"
                norm(f"{into}/attention/layer_norm", f"{across}_layer_norm")
                linear(f"{into}/attention/linear_0", f"{across}.q_proj")
                linear(f"{into}/attention/linear_1", *(f"{across}.{p}_proj" for p in "kv"))
                linear(f"{into}/attention/linear_2", f"{across}.out_proj")
            norm(f"{into}/ffn/layer_norm", f"{at}.final_layer_norm")
            linear(f"{into}/ffn/linear_0", f"{at}.fc1")
            linear(f"{into}/ffn/linear_1", f"{at}.fc2")
    return made


def _in_format(variables: Mapping[str, np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    """The variables as a converter with --quantization writes them."""
    made: dict[str, np.ndarray] = {}
    for name, values in sorted(variables.items()):
        is_kernel = name.endswith("/weight") and values.ndim == 2
        if dtype == "int8" and is_kernel:
            scale = (127 / np.abs(values).max(1)).astype(np.float32)
            made[name] = np.rint(values * scale[:, None]).astype(np.int8)
            made[f"{name}_scale"] = scale
        elif dtype == "float16" and values.dtype == np.float32:
            made[name] = values.astype(np.float16)
        else:
            made[name] = values
    return made


def _binary(variables: Mapping[str, np.ndarray]) -> bytes:
    """Format 6: little-endian numbers, names with a zero at the end, one alias."""
    types = ["float32", "int8", "int16", "int32", "float16"]

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    parts = [struct.pack("<I", 6), text("WhisperSpec"), struct.pack("<II", 3, len(variables))]
    for name, values in variables.items():
        data = values.tobytes()
        parts += [text(name), struct.pack("<B", values.ndim)]
        parts += [struct.pack("<I", size) for size in values.shape]
        parts += [struct.pack("<BI", types.index(str(values.dtype)), len(data)), data]
    alias = {"decoder/projection/weight": "decoder/embeddings/weight"}
    if "decoder/embeddings/weight_scale" in variables:
        alias["decoder/projection/weight_scale"] = "decoder/embeddings/weight_scale"
    parts.append(struct.pack("<I", len(alias)))
    parts += [text(name) + text(of) for name, of in alias.items()]
    return b"".join(parts)
