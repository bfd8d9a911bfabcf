"""Combines a recogniser and the beam search in one tf.function, and decodes datasets with it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import tensorflow as tf

from tfkd.beam_search import BeamResult, Scorer, beam_search
from tfkd.config import DecodingConfig
from tfkd.decoding import best_path
from tfkd.decoding.audible import is_audible, without_inaudible
from tfkd.decoding.results import Decoded, decoded_batch
from tfkd.errors import ConfigError
from tfkd.language_models import load_language_model
from tfkd.models.decoders.ctc import CtcMemory, frames_of_tokens
from tfkd.models.decoders.ctc_prefix import ctc_prefix_scorer
from tfkd.models.recogniser import Recogniser
from tfkd.models.token_limits import token_limits
from tfkd.text import Tokenizer

_LOG = logging.getLogger("tfkd")


class FusionWeights(NamedTuple):
    """Weights of language model and CTC in the search; a Python 0 leaves a scorer out."""

    lm: float | tf.Tensor
    ctc: float | tf.Tensor


def _warn_of_fusion(config: DecodingConfig) -> None:
    """Warns if a language model has no weight, or one that nothing holds against.

    A weight of 0 is no error, because it may be what `tfkd tune-decoding` found best.
    """
    if config.fusion.lm is not None and not config.fusion.lm_weight:
        _LOG.warning(
            "fusion.lm: %s has no effect, because fusion.lm_weight is 0 (0.1 to 0.5 is usual)",
            config.fusion.lm,
        )
    weighs_length = config.normalisation == "mean" or config.length_penalty > 0
    if config.fusion.lm_weight > 0 and not weighs_length and not config.fusion.ctc_weight:
        _LOG.warning(
            "fusion.lm_weight: a language model of weight %g without a length penalty makes the "
            "search omit words: set length_penalty (0.5 to 1) or fusion.ctc_weight, and measure "
            "with tfkd tune-decoding",
            config.fusion.lm_weight,
        )


class Decoder:
    """Decodes batches of waveforms to their k best hypotheses.

    Args:
      model: the recogniser; its current weights are used at each call.
      tokenizer: of the model.
      config: settings of the search; the language model that it names is loaded here. Settings that
        are null are off here; `Run.decoder` replaces them by the run's defaults, which depend on
        whether its CTC head was trained.
      batch_size: static batch size, which TFLite needs; None allows any.
    Attributes:
      decode: tf.function from waveform [B, N] float32 in [-1, 1] and num_samples [B] int32 to a
        BeamResult.
    Raises:
      ConfigError: if `fusion.ctc_weight` is above 0 and the model has no CTC head, or
        `coverage_penalty` is and the model has no attention.
      LanguageModelError: if the language model cannot be read, or has other units.

    >>> run = tfkd.load_run("work/teacher")
    >>> decoder = tfkd.Decoder(run.model, run.tokenizer, tfkd.config.DecodingConfig(beam_width=2))
    >>> batch = next(iter(tfkd.audio_batches(tfkd.open_store("work/data/test"), 2)))
    >>> decoder.decode(batch["waveform"], batch["num_samples"]).log_prob.shape[0]
    2
    """

    def __init__(
        self,
        model: Recogniser,
        tokenizer: Tokenizer,
        config: DecodingConfig,
        *,
        batch_size: int | None = None,
    ) -> None:
        if model.vocab_size != tokenizer.vocab_size:
            raise ConfigError(
                f"the model has {model.vocab_size} tokens, the tokenizer {tokenizer.vocab_size}",
                remedy="give the tokenizer of the model",
            )
        self.model, self.tokenizer, self.config = model, tokenizer, config
        self._batch_size = batch_size
        fusion = config.fusion
        if fusion.ctc_weight and not model.config.ctc:
            raise ConfigError(
                "fusion.ctc_weight: the model has no CTC head",
                remedy="set it to 0, or train with ctc: true in the model's config",
            )
        if config.coverage_penalty and model.config.decoder.kind == "none":
            raise ConfigError(
                "coverage_penalty: the model has no attention, only CTC", remedy="set it to 0"
            )
        self.language_model = load_language_model(fusion.lm, tokenizer) if fusion.lm else None
        self._weights = FusionWeights(fusion.lm_weight, fusion.ctc_weight or 0.0)
        _warn_of_fusion(config)
        self.decode = tf.function(
            self._decode,
            input_signature=[
                tf.TensorSpec([batch_size, None], tf.float32, name="waveform"),
                tf.TensorSpec([batch_size], tf.int32, name="num_samples"),
            ],
            autograph=False,
        )

    def _decode(self, waveform: tf.Tensor, num_samples: tf.Tensor) -> BeamResult:
        if self._batch_size is not None:
            return self.search(waveform, num_samples, self._weights)
        # To an empty batch add a silent utterance, which the loops need.
        batch = tf.shape(waveform)[0]
        missing = tf.maximum(0, 1 - batch)
        waveform = tf.pad(waveform, [[0, missing], [0, 0]])
        result = self.search(waveform, tf.pad(num_samples, [[0, missing]]), self._weights)
        return BeamResult(*(field[:batch] for field in result))

    def search(
        self, waveform: tf.Tensor, num_samples: tf.Tensor, weights: FusionWeights
    ) -> BeamResult:
        """Decodes with other fusion weights than the config's.

        Args:
          waveform: [B, N] float32 in [-1, 1].
          num_samples: [B] int32, clipped to N.
          weights: of language model and CTC.
        Returns:
          The k best; utterances that cannot be speech have none (see `tfkd.decoding.audible`).
        """
        num_samples = tf.clip_by_value(num_samples, 0, tf.shape(waveform)[1])
        audible = is_audible(waveform, num_samples, self.model.config.frontend.sample_rate_hz)
        # A batch is searched until its last utterance ends, which NaN would delay to max_tokens.
        waveform = tf.where(tf.expand_dims(audible, 1), waveform, 0.0)
        encoded, encoded_lengths = self.model.encode(waveform, num_samples)
        memory, state = self.model.initial_state(encoded, encoded_lengths, self.config.max_tokens)
        limits = token_limits(
            num_samples,
            self.model.config.frontend.sample_rate_hz,
            self.config.max_tokens_per_second,
        )
        if isinstance(memory, CtcMemory) and best_path.is_enough(self.config):
            result = best_path.best_path(memory.log_probs, limits, self.config)
            return without_inaudible(result, audible, self.tokenizer.pad_id)
        batch_size = self._batch_size or tf.shape(waveform)[0]
        result = beam_search(
            lambda token_ids, state: self.model.step(token_ids, state, memory),
            state,
            batch_size=batch_size,
            beam_width=self.config.beam_width,
            num_hypotheses=self.config.num_hypotheses,
            max_tokens=self.config.max_tokens,
            sos_id=self.tokenizer.sos_id,
            eos_id=self.tokenizer.eos_id,
            pad_id=self.tokenizer.pad_id,
            token_limits=limits,
            controls=self.config,
            scorers=self._scorers(encoded, encoded_lengths, weights, batch_size),
            readout=lambda state: self.model.decoder.readout(state, encoded_lengths),
        )
        if isinstance(memory, CtcMemory):
            result = frames_of_tokens(result)
        return without_inaudible(result, audible, self.tokenizer.pad_id)

    def _scorers(
        self,
        encoded: tf.Tensor,
        encoded_lengths: tf.Tensor,
        weights: FusionWeights,
        batch_size: int | tf.Tensor,
    ) -> list[Scorer]:
        scorers = []
        if self.language_model is not None and _joins(weights.lm):
            scorers.append(self.language_model.scorer(weights.lm, batch_size))
        is_ctc_alone = self.model.config.decoder.kind == "none"
        if self.model.config.ctc and _joins(weights.ctc) and not is_ctc_alone:
            logits = self.model.ctc_logits(encoded)
            scorers.append(ctc_prefix_scorer(logits, encoded_lengths, weights.ctc))
        return scorers


def _joins(weight: float | tf.Tensor) -> bool:
    return tf.is_tensor(weight) or weight != 0


def decode_dataset(decoder: Decoder, batches: Iterable[dict]) -> Iterator[Decoded]:
    """Decodes batches of `tfkd.data.audio_batches.audio_batches`; yields utterance by utterance."""
    for batch in batches:
        result = decoder.decode(batch["waveform"], batch["num_samples"])
        yield from decoded_batch(result, decoder.tokenizer, batch)
