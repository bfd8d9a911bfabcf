"""Compares an exported form with Keras; one that differs too much is not published."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tfkd.config import ExportConfig
from tfkd.device.hypothesis import DeviceHypothesis
from tfkd.errors import ExportError
from tfkd.exporting.interface import Decode, Form, OpenForm
from tfkd.exporting.parity_samples import Sample, ask
from tfkd.metrics import score, words_of

Hypotheses = Sequence[DeviceHypothesis]

# Correct float32 forms differ by up to 2e-5. The relative tolerance is for hypotheses that CTC
# cannot align: their scores are in the thousands, and float32 keeps seven digits.
_SCORES = ("log_prob", "score")
_TOLERANCE, _RELATIVE_TOLERANCE = 1e-3, 1e-5
# Gains that change the last digits of the audio. If Keras' own result changes with one of them, its
# hypotheses are tied up to rounding, and a form may give either.
_ROUNDING_GAINS = tuple(1 + sign * size for size in (1e-6, 1e-5, 1e-4) for sign in (1, -1))


# What no quantisation of weights was seen to do: other ids for the same words in half of the
# utterances, a third or three times of the words on noise, four of five later hypotheses lost,
# another fifth of the encodings attended to.
_LEAST_SAME_IDS, _MOST_WORDS, _LEAST_SHARED, _MOST_COVERAGE_DRIFT = 0.5, 3.0, 0.2, 0.2
# Of fewer words or hypotheses nothing is concluded.
_ENOUGH = 10


@dataclass(frozen=True)
class Parity:
    """Differences between a form and Keras.

    Attributes:
      identical: share of the real utterances whose best hypotheses have the same token ids.
      wer_change: WER of the form minus WER of Keras, on the real utterances; for an utterance
        without a transcript, Keras' hypothesis is the reference.
      wer_to_keras: WER of the form on the real utterances, with Keras' hypotheses as references.
      log_prob_drift: mean absolute difference, in nats, between the log_probs of best hypotheses
        with the same token ids, or between their scores, where that is more.
      utterances: number of real utterances.
      made: number of artificial waveforms: noise, silence, altered speech.
    """

    identical: float
    wer_change: float
    wer_to_keras: float
    log_prob_drift: float
    utterances: int
    made: int


def check(
    form: Form, opened: OpenForm, samples: Sequence[Sample], config: ExportConfig, keras: Decode
) -> Parity:
    """Decodes every sample with the form and compares it with Keras.

    Args:
      form: the row of the table.
      opened: the form, opened from its file.
      samples: waveforms with Keras' hypotheses.
      config: the limits for forms that are not exact.
      keras: decodes with Keras; used to find out whether a difference is mere rounding.
    Raises:
      ExportError: if the form gives another result when it is called again, if its hypotheses are
        not in order, or if it differs from Keras: exact forms in any hypothesis, others beyond the
        limits.
    """
    found = list(_decoded(opened, samples))
    once_more = list(_decoded(opened, samples[: opened.batch_size]))
    if once_more != found[: len(once_more)]:
        # A graph that keeps state between calls fails here.
        raise ExportError(f"{form.name}: the same waveform gives another result the second time")
    for sample, hypotheses in zip(samples, found, strict=True):
        _check_order(form.name, sample, hypotheses)
    if form.is_exact:
        _check_equal(form.name, samples, found, keras)
    parity = _measure(samples, found)
    if not form.is_exact:
        _check_limits(form.name, parity, config)
        _check_alike(form.name, samples, found)
    return parity


def _decoded(opened: OpenForm, samples: Sequence[Sample]) -> Iterator[Hypotheses]:
    """Decodes the samples in padded batches, as an evaluation does."""
    for start in range(0, len(samples), opened.batch_size):
        waveforms = [sample.waveform for sample in samples[start : start + opened.batch_size]]
        lengths = np.array([waveform.size for waveform in waveforms], np.int32)
        padded = [np.pad(each, (0, lengths.max() - each.size)) for each in waveforms]
        yield from opened.decode(np.stack(padded), lengths)


def _check_order(form: str, sample: Sample, hypotheses: Hypotheses) -> None:
    """Checks what holds for quantised forms, too: distinct hypotheses, best first."""
    if len({hypothesis.token_ids for hypothesis in hypotheses}) < len(hypotheses):
        raise ExportError(f"{form} gives a hypothesis twice", utterance_id=sample.name)
    for hypothesis in hypotheses:
        if not (hypothesis.log_prob <= 0 and hypothesis.score <= 0):
            found = f"log_prob {hypothesis.log_prob:g} and score {hypothesis.score:g}"
            raise ExportError(
                f"{form} gives {found}, which are no logarithms of probabilities",
                utterance_id=sample.name,
            )
    scores = [hypothesis.score for hypothesis in hypotheses]
    rises = sum(later > earlier for earlier, later in itertools.pairwise(scores))
    # Scores may rise once: unfinished hypotheses come after all finished ones.
    if rises > 1:
        raise ExportError(
            f"{form} does not give its best hypothesis first", utterance_id=sample.name
        )


def _check_equal(
    form: str, samples: Sequence[Sample], found: Sequence[Hypotheses], keras: Decode
) -> None:
    differing = [
        (sample, hypotheses)
        for sample, hypotheses in zip(samples, found, strict=True)
        if _difference(hypotheses, sample.keras)
    ]
    for sample, hypotheses in differing:
        answers = (ask(keras, np.float32(gain) * sample.waveform) for gain in _ROUNDING_GAINS)
        if all(_difference(hypotheses, answer) for answer in answers):
            raise ExportError(
                f"{form} differs from Keras on {len(differing)} of {len(samples)} utterances: "
                f"{_difference(hypotheses, sample.keras)}",
                utterance_id=sample.name,
            )


def _difference(found: Hypotheses, expected: Hypotheses) -> str | None:
    """Describes the first difference that is more than rounding; None if there is none."""
    if len(found) != len(expected):
        return f"{len(found)} hypotheses, not {len(expected)}"
    for rank, (ours, keras) in enumerate(zip(found, expected, strict=True), 1):
        if ours.token_ids != keras.token_ids or ours.text != keras.text:
            return f"hypothesis {rank} is {ours.text!r}, not {keras.text!r}"
        for name in ("log_prob", "score", "coverage"):
            own, theirs = getattr(ours, name), getattr(keras, name)
            limit = _TOLERANCE + _RELATIVE_TOLERANCE * abs(theirs or 0)
            if not _distance(own, theirs) <= limit:
                return f"{name} of hypothesis {rank} is {_shown(own)}, not {_shown(theirs)}"
    return None


def _check_alike(form: str, samples: Sequence[Sample], found: Sequence[Hypotheses]) -> None:
    """However far it may drift, a form speaks where Keras does, and of the same hypotheses."""
    pairs = list(zip(samples, found, strict=True))
    for sample, hypotheses in pairs:
        if hypotheses and not sample.keras:
            what = f"{form} says {hypotheses[0].text!r} where Keras says nothing"
            raise ExportError(what, utterance_id=sample.name)
    same_text = [
        _best_ids(hypotheses) == _best_ids(sample.keras)
        for sample, hypotheses in pairs
        if hypotheses and _best_text(hypotheses) == _best_text(sample.keras)
    ]
    if sum(same_text) < _LEAST_SAME_IDS * len(same_text):
        what = f"gives other token ids for the same words in {same_text.count(False)}"
        raise ExportError(f"{form} {what} of {len(same_text)} utterances")
    own, keras = (
        sum(len(words_of(_best_text(answer))) for answer in answers)
        for answers in (
            [hypotheses for sample, hypotheses in pairs if not sample.is_real],
            [sample.keras for sample in samples if not sample.is_real],
        )
    )
    if max(own, keras) >= _ENOUGH and not keras <= _MOST_WORDS * own <= _MOST_WORDS**2 * keras:
        raise ExportError(f"{form} says {own} words on noise and altered speech, Keras {keras}")
    later = [
        each.token_ids in {other.token_ids for other in hypotheses}
        for sample, hypotheses in pairs
        for each in sample.keras[1:]
    ]
    if len(later) >= _ENOUGH and sum(later) < _LEAST_SHARED * len(later):
        what = f"gives {sum(later)} of the {len(later)} hypotheses that Keras ranks after the first"
        raise ExportError(f"{form} {what}")
    drift = _drift(pairs, ("coverage",))
    if not drift <= _MOST_COVERAGE_DRIFT:
        raise ExportError(f"{form} changes coverage by {drift:.2f} in the mean")


def _measure(samples: Sequence[Sample], found: Sequence[Hypotheses]) -> Parity:
    pairs = list(zip(samples, found, strict=True))
    real = [(sample, hypotheses) for sample, hypotheses in pairs if sample.is_real]
    texts = [_best_text(hypotheses) for _, hypotheses in real]
    keras = [_best_text(sample.keras) for sample, _ in real]
    references = [
        text if sample.reference is None else sample.reference
        for (sample, _), text in zip(real, keras, strict=True)
    ]
    same = sum(_best_ids(hypotheses) == _best_ids(sample.keras) for sample, hypotheses in real)
    return Parity(
        identical=same / len(real),
        wer_change=_wer(references, texts) - _wer(references, keras),
        wer_to_keras=_wer(keras, texts),
        log_prob_drift=_drift(pairs, _SCORES),
        utterances=len(real),
        made=len(samples) - len(real),
    )


def _check_limits(form: str, parity: Parity, config: ExportConfig) -> None:
    """Raises ExportError beyond a limit; a lower WER counts, too: empty results may cause it."""
    limits = {
        "max_wer_to_keras": (parity.wer_to_keras, "changes {:.2%} of Keras' words", "{:.2%}"),
        "max_wer_change": (abs(parity.wer_change), "changes WER by {:.2%}", "{:.2%}"),
        "max_log_prob_drift": (
            parity.log_prob_drift,
            "changes log_prob or score by {:.3f} in the mean",
            "{:g}",
        ),
    }
    for setting, (value, what, unit) in limits.items():
        limit = getattr(config, setting)
        if value > limit:
            raise ExportError(
                f"{form} {what.format(value)}, more than {unit.format(limit)}",
                remedy=f"raise export.{setting}, or leave {form} out of export.formats",
            )


def _drift(pairs: Iterable[tuple[Sample, Hypotheses]], outputs: Sequence[str]) -> float:
    """Mean absolute difference of outputs of equal best hypotheses; the largest of the outputs."""
    drifts = [
        [_distance(getattr(found[0], name), getattr(sample.keras[0], name)) for name in outputs]
        for sample, found in pairs
        if found and _best_ids(found) == _best_ids(sample.keras)
    ]
    return float(np.mean(drifts, axis=0).max()) if drifts else 0.0


def _distance(own: float | None, keras: float | None) -> float:
    """Absolute difference; infinite if one of them alone is unknown."""
    if own is None or keras is None:
        return 0.0 if own is keras else math.inf
    return abs(own - keras)


def _shown(output: float | None) -> str:
    return "unknown" if output is None else f"{output:.4f}"


def _wer(references: Sequence[str], texts: Sequence[str]) -> float:
    return score(references, texts, samples=1).wer


def _best_text(hypotheses: Hypotheses) -> str:
    return hypotheses[0].text if hypotheses else ""


def _best_ids(hypotheses: Hypotheses) -> tuple[int, ...]:
    return hypotheses[0].token_ids if hypotheses else ()
