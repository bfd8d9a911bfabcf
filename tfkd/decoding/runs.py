"""A trained recogniser on disk: its config, tokenizer and weights in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tfkd.config import SystemConfig, from_dict, to_yaml, with_overrides
from tfkd.config.strict_yaml import read_yaml
from tfkd.data.audio_batches import spread_over_lengths
from tfkd.data.subsets import write_subset
from tfkd.errors import CheckpointError
from tfkd.models.recogniser import Recogniser
from tfkd.records import Store
from tfkd.storage.files import sha256, write_text
from tfkd.storage.keras_files import MODEL, read_model, write_model
from tfkd.text import Tokenizer, load_tokenizer

CONFIG = "config.yaml"
# A few validation utterances, for exports to be checked with.
PARITY = "parity"
_PARITY_UTTERANCES = 50


@dataclass(frozen=True)
class Run:
    """A recogniser that can decode."""

    directory: Path
    system: SystemConfig
    tokenizer: Tokenizer
    model: Recogniser

    @property
    def sha256(self) -> str:
        """Identity of the weights."""
        return sha256(self.directory / MODEL)

    def with_decoding(self, overrides: Sequence[str]) -> Run:
        """The same recogniser with `key=value` settings of its decoding changed.

        Raises:
          ConfigError: for an unknown key, or a value that does not fit.
        """
        decoding = with_overrides(self.system.decoding, overrides)
        return replace(self, system=replace(self.system, decoding=decoding))


def save_model(model: Recogniser, path: Path) -> None:
    """Writes the weights and config of `model`, without its optimizer, as a `.keras` file."""
    bare = Recogniser(model.config, model.vocab_size)
    bare.set_weights(model.get_weights())
    write_model(bare, path)


def save_description(directory: Path, system: SystemConfig, tokenizer: Tokenizer) -> None:
    """Writes what the weights need beside them: the resolved config and the tokenizer."""
    write_text(directory / CONFIG, to_yaml(system))
    tokenizer.save(directory)


def keep_parity_sample(directory: Path, valid_store: Store) -> None:
    """Keeps some validation utterances of many lengths in a run, for its exports to be checked.

    They travel with the run, so that it can be exported where the corpus is not.
    """
    sample = spread_over_lengths(valid_store.index, _PARITY_UTTERANCES)
    out = directory / PARITY
    write_subset(valid_store, sample, out, digest="parity sample", source="valid")


def load_run(directory: str | Path) -> Run:
    """Reads a run folder.

    Raises:
      CheckpointError: if the folder is not a run, or a file in it is missing or damaged.
    """
    directory = Path(directory)
    for name in (CONFIG, MODEL):
        if not (directory / name).is_file():
            raise CheckpointError(
                f"is not a finished run: {name} is missing",
                path=directory,
                remedy="give the folder that tfkd train or tfkd distill wrote",
            )
    system = from_dict(SystemConfig, read_yaml(directory / CONFIG), path=directory / CONFIG)
    tokenizer = load_tokenizer(directory)
    model = load_model(directory / MODEL)
    if model.vocab_size != tokenizer.vocab_size:
        raise CheckpointError(
            f"the model has {model.vocab_size} tokens, the tokenizer {tokenizer.vocab_size}",
            path=directory,
        )
    return Run(directory, system, tokenizer, model)


def load_model(path: Path) -> Recogniser:
    """Reads a `.keras` file.

    Raises:
      CheckpointError: if it is not one, is damaged, or holds another kind of model.
    """
    return read_model(path, Recogniser)
