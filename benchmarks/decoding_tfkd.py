"""tfkd's encoder and beam search over features, as in labelling: open shapes, one trace."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
import timed_process
from feature_recogniser import FeatureRecogniser
from sizes import BATCH, BEAM_WIDTH, EOS_ID, FRAMES, MELS, PAD_ID, SIZES, SOS_ID, TOKENS

from tfkd.beam_search import BeamResult, Readout, beam_search
from tfkd.malloc import share_one_heap


def never_ending(model: FeatureRecogniser) -> None:
    """Makes the end impossible, so that every run takes TOKENS steps."""
    bias = model.decoder.output_bias
    bias.assign(tf.where(tf.range(model.decoder.vocab_size) == EOS_ID, -1e9, bias))


def decoder(model: FeatureRecogniser) -> tf.types.experimental.PolymorphicFunction:
    """features [B, T, MELS] to the BEAM_WIDTH best sequences, with what `tfkd label` keeps."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, MELS])], autograph=False)
    def decode(features: tf.Tensor) -> BeamResult:
        encoded, lengths = model.encode(features)
        memory = model.decoder.memory(encoded, lengths)

        def step(token_ids, state):
            logits, state = model.decoder.step(token_ids, state, memory)
            return tf.nn.log_softmax(logits), state

        return beam_search(
            step,
            model.decoder.initial_state(encoded, TOKENS),
            batch_size=tf.shape(features)[0],
            beam_width=BEAM_WIDTH,
            num_hypotheses=BEAM_WIDTH,
            max_tokens=TOKENS,
            sos_id=SOS_ID,
            eos_id=EOS_ID,
            pad_id=PAD_ID,
            readout=lambda state: Readout(state.peak_frame, tf.reduce_sum(state.attention_sum, -1)),
        )

    return decode


def main() -> None:
    share_one_heap()  # as tfkd's commands do
    options, base_mb = timed_process.arguments(), timed_process.resident_mb()
    timed_process.limit_threads(options.threads)
    keras.utils.set_random_seed(0)
    model = FeatureRecogniser(SIZES[options.size], options.vocabulary, options.attention)
    never_ending(model)
    features = tf.random.normal([BATCH, FRAMES, MELS])
    decode = decoder(model)

    def run() -> None:
        if (decode(features).num_tokens.numpy() != TOKENS).any():
            raise RuntimeError("a hypothesis ended early")

    timed_process.report(run, options.repeats, base_mb)


if __name__ == "__main__":
    main()
