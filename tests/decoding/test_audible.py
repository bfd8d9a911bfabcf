"""Waveforms without audible speech get empty transcripts, whatever else is in the batch."""

import numpy as np
import pytest
from helpers import random_batch, tiny_model, tokenizer

from tfkd.config import DecodingConfig
from tfkd.decoding.audible import is_audible
from tfkd.decoding.decoder import Decoder

RATE_HZ, SAMPLES = 8000, 1600


def speech(samples: int = SAMPLES) -> np.ndarray:
    return random_batch((samples / RATE_HZ,)).waveform[0]


def with_nan() -> np.ndarray:
    waveform = speech()
    waveform[700] = np.nan
    return waveform


INAUDIBLE = {
    "nan": with_nan(),
    "infinite": np.where(np.arange(SAMPLES) == 3, -np.inf, speech()),
    "unscaled int16": 32768 * speech(),
    "zeros": np.zeros(SAMPLES),
    "constant": np.full(SAMPLES, 0.5),
    "dither": np.where(np.arange(SAMPLES) % 2, 1, -1) / 32768,
}


@pytest.mark.parametrize("kind", INAUDIBLE)
def test_each_kind_is_told_from_speech_beside_it(kind):
    waveform = np.stack([speech(), INAUDIBLE[kind], 0.001 * speech()]).astype(np.float32)
    found = is_audible(waveform, np.full(3, SAMPLES, np.int32), RATE_HZ)
    assert found.numpy().tolist() == [True, False, True]


@pytest.mark.parametrize(("samples", "expected"), [(0, False), (399, False), (400, True)])
def test_less_than_50_ms_is_no_speech(samples, expected):
    waveform = np.tile(speech(), (1, 1))
    assert is_audible(waveform, np.array([samples], np.int32), RATE_HZ).numpy() == [expected]


def test_what_lies_beyond_an_utterance_does_not_count():
    waveform = np.concatenate([speech(), np.full(50, np.nan, np.float32)])[None]
    assert is_audible(waveform, np.array([SAMPLES], np.int32), RATE_HZ).numpy() == [True]
    silence = np.concatenate([np.zeros(SAMPLES, np.float32), speech()])[None]
    assert is_audible(silence, np.array([SAMPLES], np.int32), RATE_HZ).numpy() == [False]


@pytest.mark.parametrize("samples", [1023, 1024, 1025, 2047, 2048, 2100])
def test_each_utterance_of_a_batch_ends_at_its_own_sample(samples):
    waveform = np.zeros((2, 2101), np.float32)
    waveform[0, samples] = 0.5
    for heard, num_samples in enumerate((samples, samples + 1)):
        found = is_audible(waveform, np.array([num_samples, SAMPLES], np.int32), RATE_HZ)
        assert found.numpy().tolist() == [bool(heard), False]


def test_it_has_no_hypothesis_and_its_neighbour_keeps_its_own():
    decoder = Decoder(tiny_model(), tokenizer(), DecodingConfig(num_hypotheses=2, max_tokens=5))
    both = np.stack([speech(), with_nan()]).astype(np.float32)
    found = decoder.decode(both, np.full(2, SAMPLES, np.int32))
    alone = decoder.decode(both[:1], np.full(1, SAMPLES, np.int32))
    assert found.num_tokens[1].numpy().tolist() == [0, 0]
    assert (found.token_ids[1].numpy() == tokenizer().pad_id).all()
    assert (found.score[1].numpy() < -1e8).all()
    np.testing.assert_array_equal(found.token_ids[0], alone.token_ids[0])
    np.testing.assert_allclose(found.log_prob[0], alone.log_prob[0], atol=1e-4)


@pytest.mark.slow
def test_num_samples_beyond_the_waveform_is_clipped():
    decoder = Decoder(tiny_model(), tokenizer(), DecodingConfig(max_tokens=5))
    waveform = speech()[None]
    expected = decoder.decode(waveform, np.array([SAMPLES], np.int32))
    found = decoder.decode(waveform, np.array([10**6], np.int32))
    np.testing.assert_array_equal(found.token_ids, expected.token_ids)
    np.testing.assert_array_equal(found.log_prob, expected.log_prob)
