"""Tokenizers of characters and of subwords (SentencePiece), with the same interface."""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tfkd.errors import CheckpointError, TextError
from tfkd.storage.files import atomic_write, write_json
from tfkd.storage.json_files import parse_json

if TYPE_CHECKING:  # The device side imports this module and has no YAML reader.
    from tfkd.config import TokenizerConfig

# The special ids are the same in every tokenizer. PAD_ID is also the blank of CTC.
PAD_ID, UNK_ID, SOS_ID, EOS_ID = range(4)
FIRST_PIECE_ID = 4
_SPECIAL_PIECES = ("",) * FIRST_PIECE_ID

_DESCRIPTION_NAME = "tokenizer.json"
_MODEL_NAME = "sentencepiece.model"
_SPACE_MARK = "\u2581"


def join_pieces(pieces: Sequence[str], ids: Iterable[int]) -> str:
    """Joins the pieces of token ids to a text, with single spaces between words.

    Args:
      pieces: the text of each id; "" for special tokens.
      ids: the token ids.
    Raises:
      TextError: if an id is outside the vocabulary.
    """
    ids = list(ids)
    outside = [number for number in ids if not 0 <= number < len(pieces)]
    if outside:
        raise TextError(
            f"token id {outside[0]} is outside the vocabulary of {len(pieces)}",
            remedy="use the tokenizer that made the ids",
        )
    return " ".join("".join(pieces[number] for number in ids).split())


class Tokenizer(Protocol):
    """Converts text to token ids and back.

    Attributes:
      kind: "characters" or "sentencepiece".
      pieces: the text of each id, in which spaces separate words; "" for special tokens.
      vocab_size: number of ids, special tokens included.
      pad_id, unk_id, sos_id, eos_id: the special tokens.
    """

    @property
    def kind(self) -> str: ...
    @property
    def pieces(self) -> tuple[str, ...]: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def pad_id(self) -> int: ...
    @property
    def unk_id(self) -> int: ...
    @property
    def sos_id(self) -> int: ...
    @property
    def eos_id(self) -> int: ...

    def encode(self, text: str) -> list[int]:
        """Converts normalised text to token ids, without sos and eos.

        Raises:
          TextError: if characters are not in the vocabulary; it names them.
        """
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Converts token ids to text; special tokens are left out.

        Raises:
          TextError: if an id is outside the vocabulary.
        """
        ...

    def save(self, directory: str | Path) -> None:
        """Writes the files that `load_tokenizer` reads.

        Raises:
          RecordError: if a file cannot be written.
        """
        ...


class _PieceTokenizer:
    """The base of both kinds, with the special ids and decoding."""

    pad_id, unk_id, sos_id, eos_id = PAD_ID, UNK_ID, SOS_ID, EOS_ID

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = (*_SPECIAL_PIECES, *pieces)
        self._characters = frozenset("".join(pieces))

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self.pieces)

    def decode(self, ids: Iterable[int]) -> str:
        """See `Tokenizer.decode`."""
        return join_pieces(self.pieces, ids)

    def _check_characters(self, text: str) -> None:
        unknown = sorted(set(text) - self._characters)
        if unknown:
            named = " ".join(map(repr, unknown))
            raise TextError(
                f"characters not in the vocabulary: {named} in {text[:60]!r}",
                remedy="normalise the text, or add them to tokenizer.alphabet or the training text",
            )


class CharacterTokenizer(_PieceTokenizer):
    """One token a character, in the order of `alphabet`.

    Raises:
      TextError: if the alphabet is empty or names a character twice.
    """

    kind = "characters"

    def __init__(self, alphabet: str) -> None:
        counts = Counter(alphabet)
        twice = " ".join(repr(character) for character in counts if counts[character] > 1)
        if twice or not alphabet:
            fault = f"holds {twice} twice" if twice else "is empty"
            raise TextError(f"the alphabet {fault}", remedy="correct tokenizer.alphabet")
        super().__init__(alphabet)
        self.alphabet = alphabet
        self._ids = {character: number for number, character in enumerate(alphabet, FIRST_PIECE_ID)}

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer.encode`."""
        self._check_characters(text)
        return [self._ids[character] for character in text]

    def save(self, directory: str | Path) -> None:
        """See `Tokenizer.save`."""
        description = {"kind": self.kind, "alphabet": self.alphabet}
        write_json(Path(directory) / _DESCRIPTION_NAME, description)


class SentencePieceTokenizer(_PieceTokenizer):
    """Subwords of a SentencePiece model, given as the bytes of its file.

    Raises:
      TextError: if the bytes are no such model, or it numbers the special tokens otherwise.
    """

    kind = "sentencepiece"

    def __init__(self, model_bytes: bytes) -> None:
        from sentencepiece import SentencePieceProcessor  # Devices have pieces, not models.

        self._model_bytes = model_bytes
        try:
            self._processor = SentencePieceProcessor(model_proto=model_bytes)
            size = self._processor.vocab_size()
        except RuntimeError as error:
            raise TextError(
                "not a SentencePiece model", remedy="give the bytes of its .model file"
            ) from error
        model = self._processor
        special = (model.pad_id(), model.unk_id(), model.bos_id(), model.eos_id())
        if special != (PAD_ID, UNK_ID, SOS_ID, EOS_ID):
            raise TextError(
                f"the model's ids of pad, unk, bos and eos are {special}, not (0, 1, 2, 3)",
                remedy="train the tokenizer with tfkd",
            )
        pieces = [model.id_to_piece(number) for number in range(FIRST_PIECE_ID, size)]
        super().__init__([piece.replace(_SPACE_MARK, " ") for piece in pieces])

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer.encode`."""
        self._check_characters(text)
        return self._processor.encode(text)

    def save(self, directory: str | Path) -> None:
        """See `Tokenizer.save`."""
        with atomic_write(Path(directory) / _MODEL_NAME) as file:
            file.write(self._model_bytes)
        digest = hashlib.sha256(self._model_bytes).hexdigest()
        # Written last, because its digest shows whether the model beside it belongs to it.
        write_json(Path(directory) / _DESCRIPTION_NAME, {"kind": self.kind, "model_sha256": digest})


def vocab_size_of(config: TokenizerConfig) -> int | None:
    """Returns the size of the vocabulary; None if it depends on the training text."""
    if config.kind == "sentencepiece":
        return config.vocab_size
    return None if config.alphabet is None else FIRST_PIECE_ID + len(config.alphabet)


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Trains the tokenizer that `config` describes; equal texts and settings give the same one.

    Args:
      texts: normalised transcripts. A character tokenizer with a given alphabet ignores them.
      config: kind and size of the tokenizer.
    Raises:
      TextError: if the texts are too few for the vocabulary, or the alphabet is invalid.
    """
    if config.kind == "sentencepiece":
        return SentencePieceTokenizer(_train_sentencepiece(texts, config))
    if config.alphabet is not None:
        return CharacterTokenizer(config.alphabet)
    alphabet = "".join(sorted({character for text in texts for character in text}))
    if not alphabet:
        raise TextError(
            "no training text to learn the characters from",
            remedy="give the tokenizer an alphabet, or use a corpus with transcripts",
        )
    return CharacterTokenizer(alphabet)


def tokenizer_files(directory: Path) -> list[Path]:
    """Lists the files of a tokenizer that exist in a folder."""
    files = [directory / _DESCRIPTION_NAME, directory / _MODEL_NAME]
    return [file for file in files if file.is_file()]


def load_tokenizer(directory: str | Path) -> Tokenizer:
    """Reads what `Tokenizer.save` wrote.

    Raises:
      CheckpointError: if a file is missing, damaged, or belongs to another tokenizer.
    """
    path = Path(directory) / _DESCRIPTION_NAME
    try:
        description = parse_json(path.read_bytes())
        return _load_described(Path(directory), description)
    except OSError as error:
        reason: str = error.strerror or str(error)
        path = Path(error.filename or path)
        cause: Exception = error
    except TextError as error:
        reason, cause = error.message, error
    except (ValueError, KeyError, TypeError) as error:
        reason, cause = str(error), error
    raise CheckpointError(
        f"cannot read the tokenizer: {reason}",
        path=path,
        remedy="copy the folder again, or train the tokenizer again",
    ) from cause


def _load_described(directory: Path, description: dict[str, Any]) -> Tokenizer:
    if description["kind"] == CharacterTokenizer.kind:
        return CharacterTokenizer(description["alphabet"])
    if description["kind"] != SentencePieceTokenizer.kind:
        raise ValueError(f"unknown kind {description['kind']!r}")
    model_bytes = (directory / _MODEL_NAME).read_bytes()
    if hashlib.sha256(model_bytes).hexdigest() != description["model_sha256"]:
        raise ValueError(f"{_MODEL_NAME} is damaged, or of another tokenizer")
    return SentencePieceTokenizer(model_bytes)


def _train_sentencepiece(texts: Iterable[str], config: TokenizerConfig) -> bytes:
    from sentencepiece import SentencePieceTrainer

    texts = [text for text in texts if text]
    if not texts:
        raise TextError(
            "no training text for SentencePiece", remedy="use a corpus with transcripts"
        )
    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type=config.model_type,
            vocab_size=config.vocab_size,
            pad_id=PAD_ID,
            unk_id=UNK_ID,
            bos_id=SOS_ID,
            eos_id=EOS_ID,
            num_threads=1,  # With several threads the model would depend on their order.
            byte_fallback=False,
            character_coverage=1.0,
            normalization_rule_name="identity",
            # SentencePiece silently drops longer sentences.
            max_sentence_length=max(4192, 4 * max(map(len, texts))),
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _training_error(error, config, len(texts)) from error
    return model.getvalue()


def _training_error(error: RuntimeError, config: TokenizerConfig, num_texts: int) -> TextError:
    """Translates an error of SentencePiece's options to settings of the config."""
    message = str(error)
    size = config.vocab_size
    if at_most := re.search(r"set it to a value <= (\d+)", message):
        return TextError(
            f"{num_texts} texts are too few for a SentencePiece vocabulary of {size}",
            remedy=f"set tokenizer.vocab_size to at most {at_most[1]}, or use more text",
        )
    if at_least := re.search(r"smaller than required_chars. \d+ vs (\d+)", message):
        return TextError(
            f"a SentencePiece vocabulary of {size} is too small for the characters of the text",
            remedy=f"set tokenizer.vocab_size to at least {at_least[1]}",
        )
    return TextError(
        f"SentencePiece cannot be trained on {num_texts} texts: {message}",
        remedy="use more text, a smaller tokenizer.vocab_size, or kind: characters",
    )
