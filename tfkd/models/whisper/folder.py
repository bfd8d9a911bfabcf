"""Reads a Whisper from a folder in the layout of Hugging Face or of CTranslate2."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models

from tfkd.errors import CheckpointError, advising
from tfkd.models.frontend.whisper_mel import NUM_FRAMES, WINDOW_SECONDS
from tfkd.models.whisper import ctranslate2, huggingface
from tfkd.models.whisper.huggingface import read_json
from tfkd.models.whisper.model import Whisper
from tfkd.models.whisper.sizes import WhisperSizes
from tfkd.models.whisper.tokens import (
    END,
    NO_TIMESTAMPS,
    START,
    TASKS,
    WhisperTokens,
    language_tokens,
    special_tokens,
)
from tfkd.models.whisper.weights import fill
from tfkd.storage.files import sha256
from tfkd.storage.json_files import parse_json

_LOG = logging.getLogger("tfkd")
# OpenAI's vocabularies are multilingual from this size on.
_MULTILINGUAL_SIZE = 51865
_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "vocabulary.json",
    "vocabulary.txt",
)


@dataclass(frozen=True)
class WhisperFolder:
    """A Whisper with its weights and its vocabulary.

    Attributes:
      directory: the folder that it was read from.
      model: the Keras model, filled with the folder's weights.
      tokens: its vocabulary.
      identity: one sha256 over the names and contents of every file that was read.
    """

    directory: Path
    model: Whisper
    tokens: WhisperTokens
    identity: str


@advising("copy the whole folder again, or take another Whisper")
def load_whisper(directory: str | Path) -> WhisperFolder:
    """Reads a Whisper of any size, English-only or multilingual.

    Args:
      directory: as Hugging Face saves it (config.json, model.safetensors in one or several files,
        tokenizer.json or vocab.json and merges.txt, generation_config.json) or as CTranslate2
        converts it (config.json, model.bin, tokenizer.json or vocabulary.json).
    Raises:
      CheckpointError: if it is neither, or a file in it is missing or damaged.
    """
    folder = Path(directory)
    files = huggingface.weight_files(folder)
    if files:
        sizes, tensors = huggingface.read_sizes(folder), huggingface.read_tensors(files)
        tokens = _tokens(folder, sizes, huggingface.read_generation(folder))
        files += [folder / huggingface.CONFIG, folder / huggingface.GENERATION]
    elif (folder / ctranslate2.WEIGHTS).is_file():
        files = [folder / ctranslate2.WEIGHTS, folder / ctranslate2.CONFIG]
        sizes, tensors = ctranslate2.read_model(files[0])
        tokens = _tokens(folder, sizes, _as_generation(read_json(files[1])))
    else:
        raise _not_a_whisper(folder)
    _check_sizes(sizes, folder)
    tensors.check_shapes(sizes)
    model = Whisper(sizes)
    fill(model, tensors)
    files += [folder / name for name in _TOKENIZER_FILES]
    return WhisperFolder(folder, model, tokens, _identity(files))


def _not_a_whisper(folder: Path) -> CheckpointError:
    if list(folder.glob("*.bin")) or list(folder.glob("*.pt")):
        return CheckpointError(
            "keeps its weights as a pickle, which could run any program",
            path=folder,
            remedy="save it with safetensors: model.save_pretrained(folder)",
        )
    return CheckpointError(
        f"is no Whisper: neither {huggingface.WEIGHTS} nor {ctranslate2.WEIGHTS} is in it",
        path=folder,
        remedy="give a folder as Hugging Face saves it or as CTranslate2 converts it",
    )


def _check_sizes(sizes: WhisperSizes, folder: Path) -> None:
    if sizes.num_encodings != NUM_FRAMES // 2:
        seconds = sizes.num_encodings * WINDOW_SECONDS / (NUM_FRAMES // 2)
        raise CheckpointError(
            f"its windows are {seconds:g} s long, but tfkd runs Whispers of {WINDOW_SECONDS} s",
            path=folder,
        )
    for side, heads in (("encoder", sizes.encoder_heads), ("decoder", sizes.decoder_heads)):
        if heads < 1 or sizes.units % heads:
            raise CheckpointError(
                f"the {sizes.units} units of its {side} cannot be divided among {heads} attention "
                "heads",
                path=folder,
            )


def _as_generation(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of CTranslate2's config.json under the names of Hugging Face."""
    return {
        "suppress_tokens": config.get("suppress_ids"),
        "begin_suppress_tokens": config.get("suppress_ids_begin"),
    }


def _tokens(folder: Path, sizes: WhisperSizes, generation: Mapping[str, Any]) -> WhisperTokens:
    tokenizer = _read_tokenizer(folder)
    special = special_tokens(tokenizer)
    is_multilingual = generation.get("is_multilingual", sizes.vocab_size >= _MULTILINGUAL_SIZE)
    for name in (START, END, NO_TIMESTAMPS, *(TASKS.values() if is_multilingual else ())):
        if name not in special:
            raise CheckpointError(
                f"its vocabulary has no token {name}",
                path=folder,
                remedy="copy the vocabulary of the same model into the folder",
            )
    languages = language_tokens(special) if is_multilingual else {}
    tokens = WhisperTokens(
        tokenizer,
        special,
        languages,
        _ids(generation, "suppress_tokens", folder),
        _ids(generation, "begin_suppress_tokens", folder),
        default_language=_default_language(generation, languages, folder),
    )
    _check_ids(tokens, sizes, folder)
    return tokens


def _default_language(
    generation: Mapping[str, Any], languages: Mapping[str, int], folder: Path
) -> str | None:
    """The code of the language that the folder names, in words or as a forced token."""
    language = generation.get("language")
    if language is None:
        pairs = generation.get("forced_decoder_ids") or []
        if not isinstance(pairs, list) or not all(isinstance(pair, list) for pair in pairs):
            raise CheckpointError("forced_decoder_ids is no list of pairs", path=folder)
        forced = {pair[-1] for pair in pairs if pair}
        return next((code for code, i in languages.items() if i in forced), None)
    code = str(language).strip("<|>")
    if code in languages:
        return code
    _LOG.warning(
        "%s: its language %r is not the code of a language that it knows, and is not used; set "
        "labels.whisper.language",
        folder,
        language,
    )
    return None


def _ids(generation: Mapping[str, Any], name: str, folder: Path) -> tuple[int, ...]:
    ids = generation.get(name) or ()
    if not isinstance(ids, (list, tuple)) or not all(isinstance(i, int) for i in ids):
        raise CheckpointError(f"{name} is no list of token ids", path=folder)
    return tuple(
        i for i in ids if i >= 0
    )  # In OpenAI's own program, -1 stands for marks of sounds.


def _check_ids(tokens: WhisperTokens, sizes: WhisperSizes, folder: Path) -> None:
    named = [*tokens.special.values(), *tokens.suppressed, *tokens.suppressed_first]
    if max(named) >= sizes.vocab_size:
        raise CheckpointError(
            f"its vocabulary has a token {max(named)}, but its weights are of {sizes.vocab_size} "
            "tokens",
            path=folder,
            remedy="copy the vocabulary and the weights of the same model into the folder",
        )


def _read_tokenizer(folder: Path) -> Tokenizer:
    try:
        if (folder / "tokenizer.json").is_file():
            return Tokenizer.from_file(str(folder / "tokenizer.json"))
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            added = folder / "added_tokens.json"
            vocabulary = {
                **read_json(folder / "vocab.json"),
                **(read_json(added) if added.is_file() else {}),
            }
            return _byte_level(vocabulary)
        if (folder / "vocabulary.json").is_file():
            names = parse_json((folder / "vocabulary.json").read_bytes())
            return _byte_level({name: i for i, name in enumerate(names)})
        if (folder / "vocabulary.txt").is_file():
            text = (folder / "vocabulary.txt").read_text(encoding="utf-8")
            return _byte_level({name: i for i, name in enumerate(text.split("\n")[:-1])})
    except CheckpointError:
        raise
    except Exception as error:  # `tokenizers` raises Exception itself.
        raise CheckpointError(f"its vocabulary is damaged ({error})", path=folder) from error
    raise CheckpointError(
        "has no vocabulary", path=folder, remedy="put the model's tokenizer.json beside its weights"
    )


def _byte_level(vocabulary: Mapping[str, int]) -> Tokenizer:
    """A tokenizer that turns ids into text; how text becomes ids is not needed."""
    tokenizer = Tokenizer(models.BPE(vocab=dict(vocabulary), merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _identity(files: Iterable[Path]) -> str:
    """sha256 over the names and contents of those files that are there."""
    rows = [f"{path.name} {sha256(path)}\n" for path in sorted(files) if path.is_file()]
    return hashlib.sha256("".join(rows).encode()).hexdigest()
