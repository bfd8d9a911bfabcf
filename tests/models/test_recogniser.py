"""The whole recogniser: its size by hand, its masks in training, and silence."""

import dataclasses

import numpy as np
import tensorflow as tf
from helpers import VOCAB_SIZE, random_batch, tiny_config, tiny_model

from tfkd.config import ModelConfig, SpecAugmentConfig
from tfkd.models.recogniser import Recogniser
from tfkd.text import EOS_ID


def test_the_size_by_hand():
    model = Recogniser(tiny_config(cell="lstm", attention="location", ctc=True), VOCAB_SIZE)
    mels, conv, units, vocab = 8, 7, 5, VOCAB_SIZE  # of tiny_config
    encoded, energies, hidden, embedding = 2 * units, 6, 9, 4

    def halving(inputs):
        return 3 * inputs * conv + conv + 2 * conv  # kernel, bias, norm

    def lstm(inputs, units):
        return 4 * units * (inputs + units + 1)

    encoder = halving(mels) + halving(conv)
    encoder += 2 * (lstm(conv, units) + lstm(encoded, units)) + 2 * 2 * encoded  # two norms
    attention = (encoded + hidden + 2) * energies + 5 * 3 + 3 * energies
    speller = vocab * embedding + lstm(embedding + encoded, hidden)
    speller += (hidden + encoded) * vocab + vocab
    head = encoded * vocab + vocab
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_variables)
    assert trainable == encoder + attention + speller + head
    assert model.count_params() == trainable + 2 * mels  # mean and scale


def test_the_default_configs_size_by_hand():
    """The sizes that a reader of ModelConfig would compute."""
    model = Recogniser(dataclasses.replace(ModelConfig(), ctc=False), 32)
    encoder = (3 * 80 * 128 + 3 * 128) + (3 * 128 * 128 + 3 * 128)
    encoder += 2 * 4 * 256 * (128 + 256 + 1) + 2 * (2 * 4 * 256 * (512 + 256 + 1)) + 3 * 2 * 512
    attention = 128 * (512 + 256 + 2)
    speller = 32 * 64 + 4 * 256 * (64 + 512 + 256 + 1) + 32 * (256 + 512 + 1)
    assert model.count_params() == encoder + attention + speller + 2 * 80


def test_spec_augment_acts_in_training_only():
    config = dataclasses.replace(
        tiny_config(), spec_augment=SpecAugmentConfig(time_masks=9, max_time_share=1.0)
    )
    model, batch = Recogniser(config, VOCAB_SIZE), random_batch()
    plain, _ = model.encode(batch.waveform, batch.num_samples)
    again, _ = model.encode(batch.waveform, batch.num_samples)
    masked, _ = model.encode(batch.waveform, batch.num_samples, training=True)
    np.testing.assert_array_equal(plain, again)
    assert np.abs(plain - masked).max() > 1e-3


def test_silence_and_next_to_nothing_give_finite_outputs():
    model = tiny_model(ctc=True)
    inputs = {
        "waveform": tf.zeros([3, 400]),
        "num_samples": tf.constant([400, 100, 0]),  # the last two have no whole frame
        "token_ids": tf.fill([3, 1, 2], EOS_ID),
    }
    output = model(inputs)
    np.testing.assert_array_equal(output.encoded_lengths, [1, 0, 0])
    assert np.isfinite(output.logits).all()
    assert np.isfinite(output.ctc_logits).all()
