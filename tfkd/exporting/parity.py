"""Compares an exported form with Keras; one that differs too much is not published."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tfkd.config import ExportConfig
from tfkd.device.recogniser import DeviceHypothesis
from tfkd.errors import ExportError
from tfkd.exporting.interface import Decode, Form, OpenForm
from tfkd.exporting.parity_samples import Sample, ask
from tfkd.metrics import score

Hypotheses = Sequence[DeviceHypothesis]

# Correct float32 forms differ by up to 2e-5. The relative tolerance is for hypotheses that CTC
# cannot align: their scores are in the thousands, and float32 keeps seven digits.
_TOLERANCE, _RELATIVE_TOLERANCE = 1e-3, 1e-5
# Gains that change the last digits of the audio. If Keras' own result changes with one of them, its
# hypotheses are tied up to rounding, and a form may give either.
_ROUNDING_GAINS = tuple(1 + sign * size for size in (1e-6, 1e-5, 1e-4) for sign in (1, -1))


@dataclass(frozen=True)
class Parity:
    """Differences between a form and Keras.

    Attributes:
      identical: share of the real utterances whose best hypotheses have the same token ids.
      wer_change: WER of the form minus WER of Keras, on the real utterances; for an utterance
        without a transcript, Keras' hypothesis is the reference.
      wer_to_keras: WER of the form on the real utterances, with Keras' hypotheses as references.
      log_prob_drift: mean absolute difference, in nats, between the log_probs of best hypotheses
        with the same token ids.
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
            if not np.isclose(own, theirs, atol=_TOLERANCE, rtol=_RELATIVE_TOLERANCE):
                return f"{name} of hypothesis {rank} is {own:.4f}, not {theirs:.4f}"
    return None


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
        log_prob_drift=_drift(pairs),
        utterances=len(real),
        made=len(samples) - len(real),
    )


def _check_limits(form: str, parity: Parity, config: ExportConfig) -> None:
    """Raises ExportError beyond a limit; a lower WER counts, too: empty results may cause it."""
    limits = {
        "max_wer_to_keras": (parity.wer_to_keras, "changes {:.2%} of Keras' words"),
        "max_wer_change": (abs(parity.wer_change), "changes WER by {:.2%}"),
        "max_log_prob_drift": (parity.log_prob_drift, "changes log_prob by {:.3f} in the mean"),
    }
    for setting, (value, what) in limits.items():
        limit = getattr(config, setting)
        if value > limit:
            raise ExportError(
                f"{form} {what.format(value)}, more than {limit:g}",
                remedy=f"raise export.{setting}, or leave the form out",
            )


def _drift(pairs: Iterable[tuple[Sample, Hypotheses]]) -> float:
    drifts = [
        abs(hypotheses[0].log_prob - sample.keras[0].log_prob)
        for sample, hypotheses in pairs
        if hypotheses and _best_ids(hypotheses) == _best_ids(sample.keras)
    ]
    return float(np.mean(drifts)) if drifts else 0.0


def _wer(references: Sequence[str], texts: Sequence[str]) -> float:
    return score(references, texts, samples=1).wer


def _best_text(hypotheses: Hypotheses) -> str:
    return hypotheses[0].text if hypotheses else ""


def _best_ids(hypotheses: Hypotheses) -> tuple[int, ...]:
    return hypotheses[0].token_ids if hypotheses else ()
