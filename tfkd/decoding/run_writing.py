"""Writes runs: folders with the config, tokenizer and weights of a trained recogniser."""

from __future__ import annotations

import logging
from pathlib import Path

from tfkd.config import (
    DecodingConfig,
    NoDecoderConfig,
    SystemConfig,
    TokenizerConfig,
    TrainingConfig,
    from_dict,
    to_dict,
    to_yaml,
)
from tfkd.data.audio_batches import spread_over_lengths
from tfkd.data.subsets import write_subset
from tfkd.decoding.runs import CONFIG, PARITY, Run, check_vocabulary, load_run
from tfkd.errors import CheckpointError
from tfkd.models.recogniser import Recogniser
from tfkd.records import Store
from tfkd.storage.files import check_writable, write_text
from tfkd.storage.keras_files import MODEL, write_model
from tfkd.storage.markers import IDENTITY
from tfkd.text import CharacterTokenizer, SentencePieceTokenizer, Tokenizer

# The methods of a recogniser that its weights alone do not determine.
_COMPUTING = {
    name: getattr(Recogniser, name)
    for name in ("build", "encode", "initial_state", "step", "ctc_logits", "call")
}
_PARITY_UTTERANCES = 50
_LOG = logging.getLogger("tfkd")


def save_model(model: Recogniser, path: Path) -> None:
    """Writes the weights and config of `model`, without its optimizer, as a `.keras` file."""
    write_model(_bare_copy(model, path), path)


def save_description(directory: Path, system: SystemConfig, tokenizer: Tokenizer) -> None:
    """Writes the config, with all defaults, and the tokenizer of a run."""
    write_text(directory / CONFIG, to_yaml(system))
    tokenizer.save(directory)


def save_run(
    model: Recogniser,
    tokenizer: Tokenizer,
    directory: str | Path,
    *,
    decoding: DecodingConfig | None = None,
) -> Run:
    """Saves a recogniser that `model.fit` trained as a run, which every command of tfkd reads.

    Args:
      model: compiled with the objective that it was trained with, which tells whether its CTC head
        was trained; a warning says so if it is not compiled.
      tokenizer: of the model.
      directory: folder of the run; files of an earlier one are overwritten.
      decoding: the search of the run; the defaults if it is None.
    Returns:
      The run, read back from the folder.
    Raises:
      CheckpointError: if the model is of a class that computes in its own way or has other layers
        than its config names, the tokenizer is of another class or size, or the folder holds a
        training; before anything is written.
      ConfigError: if a setting could not be read back, such as a `ctc_weight` of a model without
        CTC; also before anything is written.
      RecordError: if the folder cannot be written.

    >>> run = tfkd.load_run("work/teacher")
    >>> copy = tfkd.save_run(run.model, run.tokenizer, "work/copy")
    >>> copy.tokenizer.encode("se") == run.tokenizer.encode("se")
    True
    """
    directory = Path(directory)
    if (directory / IDENTITY).exists():
        raise CheckpointError(
            "holds a training, whose checkpoints would stay",
            path=directory,
            remedy="choose another folder",
        )
    bare = _bare_copy(model, directory)
    check_vocabulary(model, tokenizer, directory, remedy="give the tokenizer of the model")
    # The search uses the CTC head only if it was trained, so its weight is saved.
    is_ctc_alone = isinstance(model.config.decoder, NoDecoderConfig)
    ctc_weight = 1.0 if is_ctc_alone else getattr(model.objective, "ctc_weight", 0.0)
    if model.config.ctc and not is_ctc_alone and model.objective is None:
        _LOG.warning(
            "%s: the model is not compiled, so nothing tells whether its CTC head was trained: it "
            "will not join the search; compile it with its objective first",
            directory,
        )
    system = SystemConfig(
        tokenizer=_settings_of(tokenizer, directory),
        model=model.config,
        training=TrainingConfig(ctc_weight=ctc_weight),
        decoding=decoding or DecodingConfig(),
    )
    from_dict(SystemConfig, to_dict(system))  # refuses what could not be read back
    check_writable(directory / MODEL)
    save_description(directory, system, tokenizer)
    write_model(bare, directory / MODEL)
    return load_run(directory)


def _bare_copy(model: Recogniser, path: Path) -> Recogniser:
    """Copies a model without its optimizer.

    Raises:
      CheckpointError: if a Recogniser of the same config is another model.
    """
    own = [name for name in _COMPUTING if getattr(type(model), name) is not _COMPUTING[name]]
    if own:
        raise CheckpointError(
            f"cannot hold a model of class {type(model).__name__}, which computes {', '.join(own)} "
            "in its own way",
            path=path,
            remedy="train a tfkd.Recogniser, or keep yours with model.save",
        )
    bare = Recogniser(model.config, model.vocab_size)
    try:
        bare.set_weights(model.get_weights())
    except ValueError as error:
        raise CheckpointError(
            "cannot hold a model that has other layers than its config names",
            path=path,
            remedy="train a tfkd.Recogniser as it is built, or keep yours with model.save",
        ) from error
    return bare


def _settings_of(tokenizer: Tokenizer, path: Path) -> TokenizerConfig:
    """The settings of a tokenizer; one of SentencePiece does not tell its `model_type`."""
    match tokenizer:
        case CharacterTokenizer():
            return TokenizerConfig(alphabet=tokenizer.alphabet)
        case SentencePieceTokenizer():
            return TokenizerConfig(kind="sentencepiece", vocab_size=tokenizer.vocab_size)
    raise CheckpointError(
        f"cannot hold a tokenizer of class {type(tokenizer).__name__}",
        path=path,
        remedy="give a tokenizer of tfkd.text",
    )


def keep_parity_sample(directory: Path, valid_store: Store) -> None:
    """Copies validation utterances of many lengths into a run, to compare its exports with Keras.

    With them, a run can be exported on a machine that does not have the corpus.
    """
    sample = spread_over_lengths(valid_store.index, _PARITY_UTTERANCES)
    out = directory / PARITY
    write_subset(valid_store, sample, out, digest="parity sample", source="valid")
