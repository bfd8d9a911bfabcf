"""Learns several objectives at once."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np

from tfkd.distillation.filters import Fault
from tfkd.errors import ConfigError
from tfkd.objectives.objective import (
    WEIGHTS,
    Arrays,
    Dropped,
    Objective,
    Signature,
    Targets,
    most_tokens,
    widest,
)
from tfkd.records import Record, Store
from tfkd.text import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Mixture(Objective):
    """Learns several objectives of each utterance, each with a share of its weight.

    With `((1 - a, Truth()), (a, SequenceKD()))` the loss is that of Kim and Rush 2016, section 3.3,
    `(1 - a) * L_SEQ-NLL + a * L_SEQ-KD`. If a part has no target for an utterance, for example
    Truth where there is no transcript, the other parts take over its share. The encoder runs once
    for all parts. Label smoothing, CTC weight and the temperature of tokens are those of the
    mixture, for all of its parts.

    Attributes:
      parts: pairs of a share above zero and an objective; shares are divided by their sum.

    >>> truth, labels = tfkd.objectives.Truth(), tfkd.objectives.SequenceKD(num_hypotheses=4)
    >>> mixture = tfkd.objectives.Mixture(parts=((0.5, truth), (0.5, labels)))
    >>> mixture.signature["weights"].shape
    (5,)

    Raises:
      ConfigError: if there is no part, or a share is not above zero.

    References:
      Kim and Rush 2016, "Sequence-level knowledge distillation", arXiv:1606.07947.
    """

    name = "mixture"
    parts: tuple[tuple[float, Objective], ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ConfigError("a mixture needs parts", remedy="name at least one objective")
        for share, part in self.parts:
            if not (share > 0 and math.isfinite(share)):
                raise ConfigError(
                    f"the share of {part.name} in a mixture is {share}",
                    remedy="give a finite share above 0",
                )
        loss = {field.name: getattr(self, field.name) for field in dataclasses.fields(Objective)}
        parts = ((share, dataclasses.replace(part, **loss)) for share, part in self.parts)
        object.__setattr__(self, "parts", tuple(parts))

    @property
    def signature(self) -> Signature:
        fields = widest([part.signature for _, part in self.parts])
        return {
            name: field._replace(shape=(self._num_places, *field.shape[1:]))
            for name, field in fields.items()
        }

    @property
    def needs_transcript(self) -> bool:
        return all(part.needs_transcript for _, part in self.parts)

    def targets(self, record: Record, tokenizer: Tokenizer) -> Targets | Dropped:
        results = [part.targets(record, tokenizer) for _, part in self.parts]
        of_hypotheses = _each_once(result.hypothesis_faults for result in results)
        total = sum(share for share, each in self._given(results))
        if not total:
            faults = _each_once(each.faults for each in results if isinstance(each, Dropped))
            return Dropped(record.utterance_id, faults, of_hypotheses)
        given = [
            _weighted(each.arrays, share / total) if isinstance(each, Targets) else {}
            for (share, _), each in zip(self.parts, results, strict=True)
        ]
        return Targets(self._joined(given), of_hypotheses)

    def texts(self, record: Record) -> Iterable[str]:
        return list(chain.from_iterable(part.texts(record) for _, part in self.parts))

    def tokenizer(self, store: Store) -> Tokenizer | None:
        dictated = (part.tokenizer(store) for _, part in self.parts)
        return next((tokenizer for tokenizer in dictated if tokenizer is not None), None)

    @property
    def _num_places(self) -> int:
        return sum(_num_places(part) for _, part in self.parts)

    def _given(self, results: list[Targets | Dropped]) -> list[tuple[float, Targets]]:
        return [
            (share, each)
            for (share, _), each in zip(self.parts, results, strict=True)
            if isinstance(each, Targets)
        ]

    def _joined(self, given: list[Arrays]) -> Arrays:
        """Concatenates the arrays of all parts along the axis of target sequences."""
        signature = self.signature
        length = most_tokens(signature, given)
        places = [_num_places(part) for _, part in self.parts]
        return {
            name: np.concatenate(
                [
                    field._replace(shape=(count, *field.shape[1:])).fill(arrays.get(name), length)
                    for count, arrays in zip(places, given, strict=True)
                ]
            )
            for name, field in signature.items()
        }


def _num_places(part: Objective) -> int:
    (places,) = {field.shape[0] for field in part.signature.values()}
    return places or 0


def _weighted(arrays: Arrays, share: float) -> Arrays:
    return {**arrays, WEIGHTS: arrays[WEIGHTS] * np.float32(share)}


def _each_once(faults: Iterable[tuple[Fault, ...]]) -> tuple[Fault, ...]:
    """The faults that several parts found in the same hypotheses, each as often as one part did."""
    most: Counter[Fault] = Counter()
    for found in faults:
        most |= Counter(found)
    return tuple(most.elements())
