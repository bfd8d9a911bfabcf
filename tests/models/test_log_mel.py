"""Log-mel features against an independent computation, and masks that keep to their limits."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import FRONTEND, random_batch

from tfkd.config import FrontendConfig, SpecAugmentConfig
from tfkd.models.frontend.log_mel import LogMel, _deltas
from tfkd.models.frontend.standardised import _MAX_RELATIVE_SCALE
from tfkd.models.spec_augment import SpecAugment

WIDE = FrontendConfig()  # 16 kHz, 80 filters
# A low rate and many filters: some of the lowest lie between two bins and are empty.
DENSE = FrontendConfig(sample_rate_hz=8000, num_mels=64, max_hz=4000.0)
ODD = FrontendConfig(sample_rate_hz=11025, num_mels=13, window_ms=21.6, hop_ms=7.1, max_hz=5000.0)
CONFIGS = {"tiny": FRONTEND, "wide": WIDE, "dense": DENSE, "odd": ODD}


def frontend(config=FRONTEND):
    layer = LogMel(config)
    layer.build()
    return layer


def numpy_mel_matrix(config, bins):
    """[bins, M]: triangles that are straight on the mel scale (HTK's), from min_hz to max_hz."""

    def mel(hz):
        return 2595.0 * np.log10(1.0 + hz / 700.0)

    edges = np.linspace(mel(config.min_hz), mel(config.max_hz), config.num_mels + 2)
    centres = mel(np.linspace(0, config.sample_rate_hz / 2, bins))[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (centres - low) / (middle - low), (high - centres) / (high - middle)
    return np.maximum(0.0, np.minimum(rising, falling))


def numpy_log_mel(waveform, config):
    """[T, M] of one waveform, frame by frame in float64."""
    window = int(config.sample_rate_hz * config.window_ms / 1000 + 0.5)
    hop = int(config.sample_rate_hz * config.hop_ms / 1000 + 0.5)
    fft = 1
    while fft < window:
        fft *= 2
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    matrix = numpy_mel_matrix(config, fft // 2 + 1)
    frames = []
    for start in range(0, len(waveform) - window + 1, hop):
        spectrum = np.fft.rfft(waveform[start : start + window].astype(np.float64) * hann, fft)
        frames.append(np.log(np.abs(spectrum) ** 2 @ matrix + 1e-6))
    return np.array(frames)


@pytest.mark.parametrize(
    "config", [FRONTEND, WIDE, DENSE, ODD], ids=["tiny", "wide", "dense", "odd"]
)
def test_features_are_those_of_an_independent_computation(config):
    batch = random_batch()
    got, num_frames = frontend(config)(batch.waveform, batch.num_samples)
    for row, samples in enumerate(batch.num_samples):
        expected = numpy_log_mel(batch.waveform[row, :samples], config)
        assert num_frames[row] == len(expected) > 3
        np.testing.assert_allclose(got[row, : len(expected)], expected, atol=2e-3)
        assert not np.any(got[row, len(expected) :])


@pytest.mark.parametrize(
    "config", [FRONTEND, WIDE, DENSE, ODD], ids=["tiny", "wide", "dense", "odd"]
)
def test_bands_make_up_the_dense_matrix_and_none_is_quantised(config):
    layer = frontend(config)
    bins = layer.fft_samples // 2 + 1
    joined, start = np.zeros((bins, config.num_mels)), 0
    for low, high, weights in layer._bands:
        assert weights.size < 1024
        joined[low:high, start : start + weights.shape[1]] = weights
        start += weights.shape[1]
    assert start == config.num_mels
    np.testing.assert_allclose(joined, numpy_mel_matrix(config, bins), atol=2e-5)
    dense = tf.signal.linear_to_mel_weight_matrix(
        config.num_mels, bins, config.sample_rate_hz, config.min_hz, config.max_hz
    )
    np.testing.assert_array_equal(joined.astype(np.float32), dense)


def test_bands_of_the_default_are_few():
    """One group a filter would be right too, but slow."""
    assert len(frontend(WIDE)._bands) < WIDE.num_mels / 4


def test_number_of_frames():
    layer = frontend()  # windows of 200 samples every 80
    samples = tf.constant([0, 1, 199, 200, 279, 280, 360])
    np.testing.assert_array_equal(layer.num_frames(samples), [0, 0, 0, 1, 1, 2, 3])


def test_an_utterance_without_a_whole_frame_is_zero():
    features, num_frames = frontend()(np.ones((2, 150), np.float32), np.array([150, 0]))
    np.testing.assert_array_equal(num_frames, [0, 0])
    assert features.shape[1] >= 1
    assert not np.any(features)


@pytest.mark.parametrize("delta_orders", [0, 1, 2])
def test_padding_changes_nothing(delta_orders):
    config = FrontendConfig(
        sample_rate_hz=8000, num_mels=8, max_hz=4000.0, delta_orders=delta_orders
    )
    layer = frontend(config)
    layer.set_statistics(np.arange(layer.num_features), np.ones(layer.num_features))
    batch = random_batch((0.3, 0.12, 0.2))
    expected, num_frames = layer(batch.waveform, batch.num_samples)
    # Whatever the padding holds, too: a buffer that is reused is not silent beyond the end.
    waveform = batch.padded(700).waveform
    for row, samples in enumerate(batch.num_samples):
        waveform[row, samples:] = 0.7
    got, frames_of_padded = layer(waveform, batch.num_samples)
    np.testing.assert_array_equal(num_frames, frames_of_padded)
    for row, frames in enumerate(num_frames.numpy()):
        np.testing.assert_allclose(got[row, :frames], expected[row, :frames], atol=1e-5)
        assert not np.any(got[row, frames:])
        alone, _ = layer(batch.row(row).waveform, batch.num_samples[row : row + 1])
        np.testing.assert_allclose(alone[0, :frames], expected[row, :frames], atol=1e-5)


def test_deltas_by_hand():
    features = tf.constant([[[0.0], [1.0], [4.0], [9.0], [16.0], [99.0]]])
    # (1 (x[t+1] - x[t-1]) + 2 (x[t+2] - x[t-2])) / 10; edges repeat, the 99 is padding.
    expected = [
        (1 * (1 - 0) + 2 * (4 - 0)) / 10,
        (1 * (4 - 0) + 2 * (9 - 0)) / 10,
        (1 * (9 - 1) + 2 * (16 - 0)) / 10,
        (1 * (16 - 4) + 2 * (16 - 1)) / 10,
        (1 * (16 - 9) + 2 * (16 - 4)) / 10,
    ]
    got = _deltas(features, tf.constant([5]))
    np.testing.assert_allclose(got[0, :5, 0], expected, rtol=1e-6)


def test_deltas_follow_the_features_and_deltas_of_deltas_follow_those():
    config = FrontendConfig(sample_rate_hz=8000, num_mels=4, max_hz=4000.0, delta_orders=2)
    layer, batch = frontend(config), random_batch()
    features, num_frames = layer(batch.waveform, batch.num_samples)
    assert features.shape[-1] == layer.num_features == 12
    for row, frames in enumerate(num_frames.numpy()):
        static, delta, delta_of_delta = np.split(features[row, :frames].numpy(), 3, -1)
        for source, slope in ((static, delta), (delta, delta_of_delta)):
            edged = np.pad(source, [(2, 2), (0, 0)], mode="edge")
            expected = edged[3:-1] - edged[1:-3] + 2 * (edged[4:] - edged[:-4])
            np.testing.assert_allclose(slope, expected / 10, atol=1e-5)


def test_normalisation():
    layer, batch = frontend(), random_batch((0.3,))
    raw, _ = layer(batch.waveform, batch.num_samples)  # nothing is subtracted before `adapt`
    frames = int(layer.num_frames(batch.num_samples)[0])
    mean, std = np.arange(8.0), np.linspace(2.0, 4.0, 8)
    layer.set_statistics(mean, std)
    got, _ = layer(batch.waveform, batch.num_samples)
    expected = (raw[0, :frames] - mean) / std
    np.testing.assert_allclose(got[0, :frames], expected, atol=1e-5)
    assert not layer.trainable_variables


def test_a_band_without_deviation_is_scaled_little_more_than_the_others():
    config = FrontendConfig(sample_rate_hz=8000, num_mels=3, max_hz=4000.0, delta_orders=1)
    layer = frontend(config)
    # Deltas deviate less by nature, and are compared with one another alone.
    layer.set_statistics(np.zeros(6), np.array([2.0, 0.0, 1.0, 0.2, 0.1, 1e-9]))
    least, least_delta = 2.0 / _MAX_RELATIVE_SCALE, 0.2 / _MAX_RELATIVE_SCALE
    expected = [1 / 2.0, 1 / least, 1 / 1.0, 1 / 0.2, 1 / 0.1, 1 / least_delta]
    np.testing.assert_allclose(layer.scale, expected, rtol=1e-5)
    layer.set_statistics(np.zeros(6), np.zeros(6))
    assert np.isfinite(layer.scale).all()


def test_config_round_trip():
    layer = LogMel(ODD)
    copy = LogMel.from_config(layer.get_config())
    assert copy.config == ODD
    assert isinstance(copy.config, FrontendConfig)
    masks = SpecAugmentConfig(time_masks=5)
    assert SpecAugment.from_config(SpecAugment(masks).get_config()).config == masks


def masked(config, num_frames, bins=40, seed=0):
    """What SpecAugment leaves of ones: [B, T, M] of zeros and ones."""
    keras.utils.set_random_seed(seed)
    ones = tf.ones([len(num_frames), max(num_frames), bins])
    kept = SpecAugment(config)(ones, tf.constant(num_frames), training=True).numpy()
    assert set(np.unique(kept)) <= {0.0, 1.0}
    return kept


def spans(kept):
    """Number of runs of zeros."""
    return np.sum(np.diff(np.pad(kept, 1, constant_values=1.0)) < 0)


def test_spec_augment_does_nothing_outside_training():
    log_mel = tf.ones([2, 9, 5])
    layer = SpecAugment(SpecAugmentConfig(max_time_share=1.0))
    np.testing.assert_array_equal(layer(log_mel, tf.constant([9, 9])), log_mel)


def test_spec_augment_masks_whole_bands_and_spans_within_its_limits():
    config = SpecAugmentConfig(
        frequency_masks=2, max_frequency_width=6, time_masks=3, max_time_share=0.1
    )
    num_frames = [100] * 300 + [50] * 300
    kept = masked(config, num_frames)
    bins_kept, frames_kept = kept.max(1), kept.max(2)
    # Masks are rectangles over all of the other axis.
    np.testing.assert_array_equal(kept, frames_kept[:, :, None] * bins_kept[:, None, :])
    for row, frames in enumerate(num_frames):
        assert frames_kept[row, frames:].all(), "a mask lies in the padding"
        assert np.sum(frames_kept[row] == 0) <= 3 * 0.1 * frames
        assert spans(frames_kept[row]) <= 3
        assert np.sum(bins_kept[row] == 0) <= 2 * 6
        assert spans(bins_kept[row]) <= 2


def test_spec_augment_masks_as_much_as_configured_on_average():
    one_each = SpecAugmentConfig(
        frequency_masks=1, max_frequency_width=6, time_masks=1, max_time_share=0.2
    )
    kept = masked(one_each, [100] * 2000)
    bins_masked = np.sum(kept.max(1) == 0, -1)
    frames_masked = np.sum(kept.max(2) == 0, -1)
    # Widths are uniform from none to the greatest.
    assert bins_masked.mean() == pytest.approx(3, abs=0.2)
    assert set(bins_masked) == set(range(7))
    assert frames_masked.mean() == pytest.approx(10, abs=0.5)
    assert frames_masked.max() == 20
    # Every frame and bin can be hit, but for the last, as in the paper: start < length - width.
    assert (kept.max(2) == 0).any(0)[:-1].all()
    assert (kept.max(1) == 0).any(0)[:-1].all()


def test_spec_augment_draws_anew_for_each_utterance_and_call():
    config = SpecAugmentConfig(max_time_share=0.3)
    kept = masked(config, [60] * 8)
    assert len({row.tobytes() for row in kept}) == 8
    assert not np.array_equal(kept, masked(config, [60] * 8, seed=1))
    np.testing.assert_array_equal(kept, masked(config, [60] * 8))


def test_spec_augment_goes_on_where_its_saved_state_was():
    """So that a training which was killed draws what it would have drawn."""
    one, other = (SpecAugment(SpecAugmentConfig(max_time_share=0.3)) for _ in range(2))
    ones, num_frames = tf.ones([2, 60, 40]), tf.constant([60, 60])
    first = one(ones, num_frames, training=True)
    (state,) = one.variables
    other.variables[0].assign(state)
    second = one(ones, num_frames, training=True)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(other(ones, num_frames, training=True), second)


@pytest.mark.parametrize(
    ("config", "time_masked", "bins_masked"),
    [
        (SpecAugmentConfig(frequency_masks=0, max_time_share=0.5), True, False),
        (SpecAugmentConfig(time_masks=0), False, True),
        (SpecAugmentConfig(max_time_share=0.0), False, True),
        (SpecAugmentConfig(max_frequency_width=0, max_time_share=0.5), True, False),
        (SpecAugmentConfig(frequency_masks=0, time_masks=0), False, False),
    ],
)
def test_spec_augment_of_one_axis_leaves_the_other(config, time_masked, bins_masked):
    kept = masked(config, [60] * 10)
    assert (kept.max(2) == 0).any() == time_masked
    assert (kept.max(1) == 0).any() == bins_masked
