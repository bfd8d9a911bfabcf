"""Pairs the stores of a training with the objectives that they are learned with."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfkd.config import TokenizerConfig, TrainingConfig
from tfkd.decoding.runs import Run
from tfkd.errors import ConfigError, TextError, TfkdError, TrainingError
from tfkd.objectives import Objective, Survey, Truth, make_objective, survey
from tfkd.records import UTTERANCES, Store
from tfkd.storage.files import sha256_of_text
from tfkd.text import Tokenizer, train_tokenizer

_LOG = logging.getLogger("tfkd")


@dataclass(frozen=True)
class Source:
    """A store and the objective that its utterances are learned with.

    An utterance in several sources is learned once an epoch from each.

    Attributes:
      share: the share of this source in the loss, whatever its size; None: each utterance of all
        sources counts alike.
    """

    store: Store
    objective: Objective
    share: float | None = None

    def survey(self, tokenizer: Tokenizer) -> Survey:
        """Surveys the store with the objective; see `tfkd.objectives.survey`.

        Warns where the objective wants more hypotheses than any utterance has to give.
        """
        try:
            found = survey(self.store.records(), tokenizer, self.objective)
        except TfkdError as error:
            # The survey does not know the store's folder; name it in the error.
            error.path = error.path or self.store.directory
            raise
        if found.empty_places:
            _LOG.warning(
                "%s: no utterance fills %d of the places that %s has for target sequences: they "
                "have fewer hypotheses than num_hypotheses, or no transcript for a part of it",
                self.store.name,
                found.empty_places,
                self.objective.name,
            )
        return found


def sources_of(
    stores: Store | Sequence[Store],
    training: TrainingConfig,
    shares: Sequence[float] | None = None,
) -> list[Source]:
    """Pairs stores with the objective of `training`; see `paired_with`."""
    return paired_with(make_objective(training), stores, shares)


def paired_with(
    objective: Objective, stores: Store | Sequence[Store], shares: Sequence[float] | None = None
) -> list[Source]:
    """Chooses the objective of each store.

    A single store, and every store of pseudo labels, is learned with `objective`. Among several
    stores, those of utterances are learned from their transcripts (Truth).

    Args:
      shares: the share of each store in the loss, divided by their sum; by default each utterance
        counts alike.
    Raises:
      ConfigError: if `shares` do not match the stores.
      TrainingError: if there is no store, one is given twice, or none holds the pseudo labels that
        the objective learns from.
    """
    stores = [stores] if isinstance(stores, Store) else list(stores)
    _check(stores, shares)
    if objective.needs_hypotheses and all(store.kind == UTTERANCES for store in stores):
        raise TrainingError(
            f"holds no pseudo labels, from which {objective.name} learns",
            path=stores[-1].directory,
            remedy="make them with tfkd label, or learn transcripts: objective.kind: truth",
        )
    truth = Truth(label_smoothing=objective.label_smoothing, ctc_weight=objective.ctc_weight)
    parts: list[float | None] = [None] * len(stores)
    if shares is not None:
        parts = [share / sum(shares) for share in shares]
    return [
        Source(
            store,
            truth if len(stores) > 1 and store.kind == UTTERANCES else objective,
            share,
        )
        for store, share in zip(stores, parts, strict=True)
    ]


def _check(stores: Sequence[Store], shares: Sequence[float] | None) -> None:
    if not stores:
        raise TrainingError("there is no data to train on", remedy="name at least one store")
    for number, store in enumerate(stores):
        if store.sha256 in {other.sha256 for other in stores[:number]}:
            raise TrainingError("is given twice", path=store.directory, remedy="name it once")
    if shares is not None:
        if len(shares) != len(stores):
            raise ConfigError(
                f"there are {len(shares)} shares for {len(stores)} stores",
                remedy="give one share for each store, in the same order",
            )
        if not all(share > 0 and math.isfinite(share) for share in shares):
            raise ConfigError(
                f"the shares are {', '.join(f'{share:g}' for share in shares)}",
                remedy="give each a finite number above 0",
            )


def identity_of(sources: Sequence[Source]) -> str:
    """Computes the digest of the stores and their shares; a single store's is its own."""
    if len(sources) == 1:
        return sources[0].store.sha256
    # "factor": in earlier versions shares were weights, which counted less.
    rows = (
        f"{each.store.sha256} {each.share}" + " factor" * (each.share is not None)
        for each in sources
    )
    return sha256_of_text("\n".join(rows))


def tokenizer_of(
    sources: Sequence[Source],
    config: TokenizerConfig,
    *,
    initial: Run | None = None,
    given: Tokenizer | None = None,
    out: Path | None = None,
) -> Tokenizer:
    """Chooses the tokenizer of a training.

    An objective such as WordKD requires the tokenizer of its labels. Otherwise it is the given one.
    Without that, a training that begins from a run with the same tokenizer settings keeps its
    tokenizer, and another trains one on the texts to be learned.

    Args:
      out: the run that is to be trained, for errors.
    Raises:
      TextError: if the texts are too few for the vocabulary.
      TrainingError: if two objectives require different tokenizers.
    """
    dictated: Tokenizer | None = None
    for source in sources:
        own = source.objective.tokenizer(source.store)
        if own is not None and dictated is not None and own.pieces != dictated.pieces:
            raise TrainingError(
                "its labels have another tokenizer than those of another store",
                path=source.store.directory,
                remedy="label both with one teacher",
            )
        dictated = dictated or own
    if initial is not None and initial.system.tokenizer == config:
        given = given or initial.tokenizer
    try:
        return dictated or given or train_tokenizer(_texts(sources), config)
    except TextError as error:
        error.path = error.path or out
        raise


def _texts(sources: Iterable[Source]) -> Iterable[str]:
    for source in sources:
        for record in source.store.records():
            yield from source.objective.texts(record)
