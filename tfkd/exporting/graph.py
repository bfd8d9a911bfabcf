"""Makes the parts that all exported forms share: the search, the weights and the metadata."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import tensorflow as tf

from tfkd.beam_search import BeamResult
from tfkd.config import ExportConfig, validate
from tfkd.decoding.decoder import Decoder
from tfkd.decoding.results import Decoded, unbatch
from tfkd.decoding.runs import Run
from tfkd.device.hypothesis import DeviceHypothesis
from tfkd.device.metadata import DeviceMetadata
from tfkd.exporting.interface import Decode

_LOG = logging.getLogger("tfkd")


def decoder_for(run: Run, config: ExportConfig, batch_size: int | None = None) -> Decoder:
    """Makes the search of the exported forms: the run's, without a language model.

    Devices have no memory for a language model beside the student.

    Raises:
      ConfigError: if the forms would return more hypotheses than the search keeps.
    """
    decoding = config.decoding(run.system.decoding)
    validate(decoding)
    return run.decoder(
        replace(decoding, fusion=replace(decoding.fusion, lm=None, lm_weight=0.0)),
        batch_size=batch_size,
    )


def warn_of_language_model(run: Run) -> None:
    """Warns if the run's search has a language model, which the exported forms leave out."""
    fusion = run.system.decoding.fusion
    if fusion.lm_weight:
        _LOG.warning(
            "%s: exported forms decode without the language model %s, which is too large for "
            "devices; they are compared with Keras without it",
            run.directory,
            fusion.lm,
        )


def decode_with(decoder: Decoder) -> Decode:
    """Wraps a decoder of a Keras model as the `decode` function of an open form."""
    tokenizer = decoder.tokenizer

    def decode(waveform: np.ndarray, num_samples: np.ndarray) -> list[list[DeviceHypothesis]]:
        result = decoder.decode(waveform, num_samples)
        names = [b""] * len(waveform)
        decoded = unbatch(result, tokenizer, names, [None] * len(names), num_samples.tolist())
        return [_hypotheses(each) for each in decoded]

    return decode


def _hypotheses(decoded: Decoded) -> list[DeviceHypothesis]:
    result = decoded.result
    return [
        DeviceHypothesis(
            text=text,
            token_ids=tuple(result.token_ids[rank, : result.num_tokens[rank]].tolist()),
            log_prob=float(result.log_prob[rank]),
            score=float(result.score[rank]),
            coverage=float(result.coverage[rank]),
        )
        for rank, text in enumerate(decoded.texts)
    ]


def outputs_of(result: BeamResult) -> dict[str, tf.Tensor]:
    """Names the outputs of every form: K hypotheses of up to U tokens for each utterance."""
    return {
        "token_ids": result.token_ids,
        "num_tokens": result.num_tokens,
        "log_prob": result.log_prob,
        "score": result.score,
        "coverage": result.coverage,
    }


def tracked(run: Run) -> tf.Module:
    """Makes a module that tracks the weights; the exporter aborts on untracked variables."""
    module = tf.Module()
    module.weights = [variable.value for variable in run.model.variables]
    return module


def metadata_of(
    run: Run, config: ExportConfig, quantisation: str, usual_seconds: float
) -> DeviceMetadata:
    """Makes the metadata that is stored with a form.

    Args:
      usual_seconds: duration that most utterances do not exceed.
    """
    rate_hz, decoding = run.sample_rate_hz, config.decoding(run.system.decoding)
    max_samples = round(config.max_seconds * rate_hz)
    return DeviceMetadata(
        sample_rate_hz=rate_hz,
        min_samples=max_samples if config.fixed_length else 1,
        max_samples=max_samples,
        usual_samples=max(1, round(min(usual_seconds * rate_hz, max_samples))),
        pieces=run.tokenizer.pieces,
        eos_id=run.tokenizer.eos_id,
        pad_id=run.tokenizer.pad_id,
        beam_width=decoding.beam_width,
        num_hypotheses=decoding.num_hypotheses,
        parameters=run.model.count_params(),
        quantisation=quantisation,
        model_sha256=run.sha256,
    )
