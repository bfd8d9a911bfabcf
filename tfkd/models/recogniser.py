"""The recogniser: an encoder-decoder from waveform to token log-probabilities."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfkd.config import ModelConfig, from_dict, to_dict
from tfkd.layers.emission import emission_bias
from tfkd.layers.model_size import check_loadable
from tfkd.models.decoders import make_decoder
from tfkd.models.encoders import make_encoder
from tfkd.models.frontend import make_frontend
from tfkd.models.objective_model import ObjectiveModel
from tfkd.models.spec_augment import SpecAugment
from tfkd.text import SOS_ID


class RecogniserOutput(NamedTuple):
    """Output of teacher forcing for K hypotheses of U tokens for each utterance."""

    # [B, K, U, V]; below -1e8 for tokens that are never emitted; None without a decoder.
    logits: tf.Tensor | None
    ctc_logits: tf.Tensor | None  # [B, S, V], class 0 (pad) is the blank; None without CTC
    encoded_lengths: tf.Tensor  # [B]


@keras.saving.register_keras_serializable("tfkd")
class Recogniser(ObjectiveModel):
    """A speech recogniser: frontend, encoder, decoder and a CTC head.

    Frames and tokens beyond an utterance's length are masked everywhere, so its result does not
    depend on the padding of its batch.

    Args:
      config: a ModelConfig, or a mapping with its settings; `kind` names the family of each part.
      vocab_size: size of the tokenizer's vocabulary, special tokens included.
      precision: Keras dtype policy of encoder and decoder in training. Features, weights, logits,
        the search and saved files are always float32.

    >>> families = {"encoder": {"kind": "conformer"}, "decoder": {"kind": "transformer"}}
    >>> model = tfkd.Recogniser(families, vocab_size=32)
    >>> waveform, num_samples = np.zeros((1, 16000), "float32"), np.array([16000], "int32")
    >>> encoded, encoded_lengths = model.encode(waveform, num_samples)
    >>> encoded.shape.as_list(), encoded_lengths.numpy().tolist()
    ([1, 26, 144], [25])
    """

    def __init__(
        self,
        config: ModelConfig | dict,
        vocab_size: int,
        *,
        precision: str = "float32",
        **kwargs,
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.config = from_dict(ModelConfig, config) if isinstance(config, dict) else config
        self.vocab_size, self.precision = vocab_size, precision
        # Said of each layer, because Keras' global policy may be another.
        self.frontend = make_frontend(self.config, name="frontend", dtype="float32")
        self.spec_augment = SpecAugment(
            self.config.spec_augment, name="spec_augment", dtype="float32"
        )
        self.encoder = make_encoder(self.config, name="encoder", dtype=precision)
        self.decoder = make_decoder(
            self.config, vocab_size, self.ctc_logits, name="decoder", dtype=precision
        )
        self.ctc_head = None
        if self.config.ctc:
            self.ctc_head = keras.layers.Dense(vocab_size, name="ctc", dtype="float32")
        if not getattr(self, "built", False):
            self.build()

    def build(self, input_shape=None) -> None:
        """Creates every weight; their shapes follow from the config alone."""
        self.frontend.build()
        self.encoder.build((None, None, self.frontend.num_features))
        self.decoder.build(self.encoder.output_units)
        if self.ctc_head is not None:
            self.ctc_head.build((None, None, self.encoder.output_units))
        self.built = True

    @property
    def frame_seconds(self) -> float:
        """Seconds from one encoding to the next."""
        return self.frontend.hop_seconds * self.encoder.time_reduction

    def encode(
        self, waveform: tf.Tensor, num_samples: tf.Tensor, training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps waveform [B, N] and num_samples [B] to encoded [B, S, D] and its lengths [B]."""
        # Callers may pass int64, numpy's default.
        features, num_frames = self.frontend(waveform, tf.cast(num_samples, tf.int32))
        features = self.spec_augment(features, num_frames, training=training)
        encoded, encoded_lengths = self.encoder(features, num_frames, training=training)
        return tf.cast(encoded, tf.float32), encoded_lengths

    def initial_state(
        self, encoded: tf.Tensor, encoded_lengths: tf.Tensor, max_tokens: int | tf.Tensor
    ) -> tuple[Any, Any]:
        """Prepares a search over encoded [B, S, D] whose hypotheses have at most max_tokens.

        Returns:
          The decoder's memory, which all steps read, and the state of one empty hypothesis an
          utterance, a nest of tensors [B, ...].
        """
        memory = self.decoder.memory(encoded, encoded_lengths)
        return memory, self.decoder.initial_state(encoded, max_tokens)

    def step(self, token_ids: tf.Tensor, state: Any, memory: Any) -> tuple[tf.Tensor, Any]:
        """Computes one step of the search.

        Args:
          token_ids: [N] int32, the last token of each hypothesis; N is a multiple of B.
          state: of the hypotheses, a nest of tensors [N, ...].
          memory: from `initial_state`.
        Returns:
          log_probs [N, V] float32, below -1e8 for tokens that are never emitted; next state.
        """
        logits, state = self.decoder.step(token_ids, state, memory)
        return tf.nn.log_softmax(logits + emission_bias(self.vocab_size)), state

    def ctc_logits(self, encoded: tf.Tensor) -> tf.Tensor | None:
        """Computes CTC logits [B, S, V], whose class 0 (pad) is the blank; None without a head."""
        return self.ctc_head(encoded) if self.ctc_head is not None else None

    def call(self, inputs: dict[str, tf.Tensor], training: bool = False) -> RecogniserOutput:
        """Computes the logits of target sequences by teacher forcing.

        Args:
          inputs: waveform [B, N] float32, num_samples [B] int32, and the targets token_ids
            [B, K, U] int32, which end with eos and are padded with pad.
        """
        encoded, encoded_lengths = self.encode(inputs["waveform"], inputs["num_samples"], training)
        targets = inputs["token_ids"]
        previous = tf.concat([tf.fill(tf.shape(targets[:, :, :1]), SOS_ID), targets], -1)
        logits = self.decoder(previous[:, :, :-1], encoded, encoded_lengths, training=training)
        if logits is not None:
            logits += emission_bias(self.vocab_size)
        return RecogniserOutput(logits, self.ctc_logits(encoded), encoded_lengths)

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> Recogniser:
        """Builds the model of a saved file.

        Raises:
          ConfigError: if its weights exceed the memory of this machine.
        """
        check_loadable(lambda: cls(**config))
        return cls(**config)

    def get_config(self) -> dict:
        """Returns the arguments from which Keras rebuilds the model."""
        return {"config": to_dict(self.config), "vocab_size": self.vocab_size, "name": self.name}
