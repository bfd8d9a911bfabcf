"""A recogniser and beam search as one tf.function, and decoding of a dataset with it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import tensorflow as tf

from tfkd.beam_search import BeamResult, Scorer, beam_search
from tfkd.config import DecodingConfig
from tfkd.decoding.audible import is_audible, without_inaudible
from tfkd.decoding.results import Decoded, unbatch
from tfkd.errors import ConfigError
from tfkd.language_models import load_language_model
from tfkd.models.decoders.ctc_prefix import ctc_prefix_scorer
from tfkd.models.recogniser import Recogniser
from tfkd.text import Tokenizer

_LOG = logging.getLogger("tfkd")


class FusionWeights(NamedTuple):
    """Weights of the scorers that join the search; scalars, and a plain 0 leaves one out."""

    lm: float | tf.Tensor
    ctc: float | tf.Tensor


def _warn_of_short_hypotheses(config: DecodingConfig) -> None:
    """Each token costs a language model's log-probability, and nothing here makes up for it."""
    weighs_length = config.normalisation == "mean" or config.length_penalty > 0
    if config.fusion.lm_weight > 0 and not weighs_length and not config.fusion.ctc_weight:
        _LOG.warning(
            "a language model of weight %g without a length penalty leaves words out: set "
            "length_penalty (0.5 to 1) or fusion.ctc_weight, and measure with tfkd tune-decoding",
            config.fusion.lm_weight,
        )


class Decoder:
    """Batched k-best decoding from waveforms.

    Args:
      model: the recogniser; its current weights are used at each call.
      config: how the search goes; the language model that it names is read here. Settings that are
        null are off, since only a run knows whether its CTC head was trained: `Run.decoder` makes
        a decoder with them filled in.
      batch_size: static batch size, which TFLite needs; None leaves it open.
    Raises:
      ConfigError: if CTC is to join and the model has no CTC head.
      LanguageModelError: if the language model cannot be read, or is of other units.

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
        self.model, self.tokenizer, self.config = model, tokenizer, config
        self._batch_size = batch_size
        fusion = config.fusion
        if fusion.ctc_weight and not model.config.ctc:
            raise ConfigError("fusion.ctc_weight: the model has no CTC head")
        self.language_model = load_language_model(fusion.lm, tokenizer) if fusion.lm else None
        self._weights = FusionWeights(fusion.lm_weight, fusion.ctc_weight or 0.0)
        _warn_of_short_hypotheses(config)
        self.decode = tf.function(
            self._decode,
            input_signature=[
                tf.TensorSpec([batch_size, None], tf.float32, name="waveform"),
                tf.TensorSpec([batch_size], tf.int32, name="num_samples"),
            ],
            autograph=False,
        )

    def _decode(self, waveform: tf.Tensor, num_samples: tf.Tensor) -> BeamResult:
        return self.search(waveform, num_samples, self._weights)

    def search(
        self, waveform: tf.Tensor, num_samples: tf.Tensor, weights: FusionWeights
    ) -> BeamResult:
        """Decodes waveform [B, N] and num_samples [B] with other weights than the config's.

        num_samples is clipped to N. What cannot be speech has no hypothesis: see
        `tfkd.decoding.audible`.
        """
        num_samples = tf.clip_by_value(num_samples, 0, tf.shape(waveform)[1])
        audible = is_audible(waveform, num_samples, self.model.config.frontend.sample_rate_hz)
        # The search goes on until the last utterance ends; NaN would never let it.
        waveform = tf.where(tf.expand_dims(audible, 1), waveform, 0.0)
        encoded, encoded_lengths = self.model.encode(waveform, num_samples)
        memory, state = self.model.initial_state(encoded, encoded_lengths, self.config.max_tokens)
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
            token_limits=self._token_limits(num_samples),
            controls=self.config,
            scorers=self._scorers(encoded, encoded_lengths, weights, batch_size),
            readout=lambda state: self.model.decoder.readout(state, encoded_lengths),
        )
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

    def _token_limits(self, num_samples: tf.Tensor) -> tf.Tensor | None:
        if self.config.max_tokens_per_second is None:
            return None
        rate_hz = self.model.config.frontend.sample_rate_hz
        seconds = tf.cast(num_samples, tf.float32) / rate_hz
        return tf.cast(tf.math.ceil(seconds * self.config.max_tokens_per_second), tf.int32)


def _joins(weight: float | tf.Tensor) -> bool:
    return tf.is_tensor(weight) or weight != 0


def decode_dataset(decoder: Decoder, batches: Iterable[dict]) -> Iterator[Decoded]:
    """Decodes batches of `tfkd.data.audio_batches.audio_batches`, utterance by utterance."""
    for batch in batches:
        result = decoder.decode(batch["waveform"], batch["num_samples"])
        has_text = batch["has_text"].numpy()
        texts = [t.decode() for t in batch["text"].numpy()]
        yield from unbatch(
            result,
            decoder.tokenizer,
            batch["utterance_id"].numpy(),
            [text if known else None for text, known in zip(texts, has_text, strict=True)],
            batch["num_samples"].numpy(),
        )
