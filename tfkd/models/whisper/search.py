"""Finds the k best hypotheses of a Whisper by the beam search that all recognisers share."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfkd.beam_search import BeamResult, beam_search
from tfkd.config import DecodingConfig, WhisperConfig
from tfkd.errors import ConfigError
from tfkd.models.frontend.whisper_mel import SAMPLE_RATE_HZ
from tfkd.models.token_limits import token_limits
from tfkd.models.whisper.decoder import DecoderCache, DecoderMemory, KeysValues
from tfkd.models.whisper.model import Whisper
from tfkd.models.whisper.tokens import WhisperTokens

# The limit of OpenAI's own decoding: half of the decoder's positions.
MAX_TOKENS = 224
# Added to the logits of suppressed tokens; the search takes what is below -1e8 as impossible.
_NEVER = -1e9


class WhisperSearch:
    """Batched k-best decoding from waveforms of at most 30 s.

    Suppressed tokens get no probability: the softmax is over the others, as in OpenAI's decoder and
    in CTranslate2.

    Args:
      model: the Whisper.
      tokens: its vocabulary.
      config: settings of the search.
      options: language and task.
    Raises:
      ConfigError: for what this model, or any Whisper, cannot do.
    """

    def __init__(
        self,
        model: Whisper,
        tokens: WhisperTokens,
        config: DecodingConfig,
        options: WhisperConfig,
    ) -> None:
        check_search(model, tokens, config, options)
        self.model, self.tokens, self.config = model, tokens, config
        language = options.language or tokens.default_language
        self._detects_language = tokens.is_multilingual and language is None
        self._prompt = tokens.prompt_after_start(language, options.task)
        self._bias = _bias(tokens.never_said(model.sizes.vocab_size), model)
        self._first_bias = _bias(tokens.suppressed_first, model)
        self.decode = tf.function(
            self._decode,
            input_signature=[
                tf.TensorSpec([None, None], tf.float32, name="waveform"),
                tf.TensorSpec([None], tf.int32, name="num_samples"),
            ],
            autograph=False,
        )

    def _decode(self, waveform: tf.Tensor, num_samples: tf.Tensor) -> BeamResult:
        """Finds the k best of waveform [B, N], which is zero from num_samples [B] on."""
        across = self.model.decoder.across(self.model.encode(waveform))
        batch, width = tf.shape(waveform)[0], self.config.beam_width
        prompt = self.prompt(across, batch)
        memory = self.model.decoder.memory(across, prompt[:, :-1])
        return beam_search(
            lambda token_ids, cache: self._step(token_ids, cache, memory),
            self.model.decoder.initial_cache(batch, self.config.max_tokens),
            batch_size=batch,
            beam_width=width,
            num_hypotheses=self.config.num_hypotheses,
            max_tokens=self.config.max_tokens,
            sos_id=self._prompt[-1],
            eos_id=self.tokens.end_id,
            pad_id=self.tokens.end_id,
            token_limits=token_limits(
                num_samples, SAMPLE_RATE_HZ, self.config.max_tokens_per_second
            ),
            controls=self.config,
        )

    def prompt(self, across: tuple[KeysValues, ...], batch: tf.Tensor) -> tf.Tensor:
        """Returns the prompts [B, P] int32, with the detected language if none is set."""
        start = tf.fill([batch, 1], self.tokens.start_id)
        rest = tf.repeat(tf.constant([self._prompt], tf.int32), batch, 0)
        if not self._detects_language:
            return tf.concat([start, rest], 1)
        logits = self.model.decoder(start, across)[:, 0]
        languages = tf.constant(sorted(self.tokens.languages.values()), tf.int32)
        best = tf.argmax(tf.gather(logits, languages, axis=1), 1)
        return tf.concat([start, tf.expand_dims(tf.gather(languages, best), 1), rest], 1)

    def allowed_log_probs(self, logits: tf.Tensor, is_first: tf.Tensor) -> tf.Tensor:
        """Returns log_probs [..., V] over the tokens that are not suppressed.

        Args:
          logits: [..., V].
          is_first: whether the token is the first of its transcript; a scalar or [..., 1].
        """
        first = tf.where(is_first, self._first_bias, 0.0)
        return tf.nn.log_softmax(logits + (self._bias + first))

    def _step(
        self, token_ids: tf.Tensor, cache: DecoderCache, memory: DecoderMemory
    ) -> tuple[tf.Tensor, DecoderCache]:
        is_first = tf.equal(tf.reduce_max(cache.step), 0)
        width = self.config.beam_width
        logits, cache = self.model.decoder.step(token_ids, cache, memory, width)
        return self.allowed_log_probs(logits, is_first), cache


def check_search(
    model: Whisper, tokens: WhisperTokens, config: DecodingConfig, options: WhisperConfig
) -> None:
    """Raises ConfigError for what this model, or any Whisper, cannot do."""
    if config.fusion.lm:
        raise ConfigError(
            "fusion.lm: a Whisper has units of its own, which no language model knows",
            remedy="leave it out",
        )
    if config.fusion.ctc_weight:
        raise ConfigError("fusion.ctc_weight: a Whisper has no CTC head", remedy="leave it out")
    if config.coverage_penalty:
        raise ConfigError(
            "coverage_penalty: is not known for a Whisper", remedy="leave it out, or set it to 0"
        )
    prompt = tokens.prompt_after_start(options.language or tokens.default_language, options.task)
    room = model.sizes.max_positions - len(prompt) - 1 - tokens.is_multilingual
    if config.max_tokens > room:
        raise ConfigError(
            f"max_tokens: {config.max_tokens} is above {room}, this Whisper's limit",
            remedy="leave it out, or lower it",
        )


def _bias(ids, model: Whisper) -> np.ndarray:
    bias = np.zeros(model.sizes.vocab_size, np.float32)
    bias[list(ids)] = _NEVER
    return bias
