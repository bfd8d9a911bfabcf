"""Attention of all hypotheses of an utterance to its encodings.

Encodings and keys are stored once for each utterance and never copied for its hypotheses: queries
[B * K, A] are reshaped to [B, K, 1, A] and combined with keys [B, 1, S, A].
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from tfkd.config import AttentionConfig, from_dict
from tfkd.layers import formulation
from tfkd.layers.matmul import project, rows_of
from tfkd.layers.static_shape import dimensions

_MASKED = -1e9
# A search computes energies for this many groups of utterances, one after another.
_GROUPS = 16
# Keys and queries are clipped to this size, so that their odds are finite: exp(2 (21.5 + 21.5))
# fits float32. Results change only where a clipped key is added to a query of the opposite sign.
LIMIT = 21.5


class AttentionWeights(NamedTuple):
    """Weights that compute energies from a query."""

    query: tf.Tensor  # [Q, A]
    energy: tf.Tensor  # [A]
    filters: tf.Tensor  # [F, A]; F is 0 without location filters


class AttentionMemory(NamedTuple):
    """Tensors that every step of attention reads, computed once an utterance."""

    encoded: tf.Tensor  # [B, S, D]
    keys: tf.Tensor  # [B, 1, S, A], clipped by `limited`
    mask_bias: tf.Tensor  # [B, 1, S] float32: zero inside, very negative beyond the utterance
    location: tf.Tensor  # [S, S * F]: the location filters as one matrix
    weights: AttentionWeights
    odds: tf.Tensor | None = None  # [B, A, 1, S]: `odds_of` the keys; None if steps compute tanh


class Attended(NamedTuple):
    """Result of one step of attention for N = B * K queries."""

    context: tf.Tensor  # [N, D]
    alignment: tf.Tensor  # [B, K, S], which sums to one over S
    located: tf.Tensor  # [N, S * F], the output of the location filters


def attend(
    query: tf.Tensor,
    attention_sum: tf.Tensor,
    memory: AttentionMemory,
    energies_of: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    located: tf.Tensor | None = None,
) -> Attended:
    """Computes one step of attention.

    Args:
      query: [N, Q], the decoder's hidden states.
      attention_sum: [N, S], the sum of the earlier alignments.
      memory: of the encodings.
      energies_of: maps projected queries [B, K, A] and the output of the location filters
        [N, S * F] to energies [B, K, S], up to a constant over S.
      located: this output, if it was computed otherwise than by the matrix of the memory.
    """
    encoded, weights = memory.encoded, memory.weights
    queries = tf.matmul(query, weights.query)
    if located is None:
        located = tf.matmul(attention_sum, memory.location)
    queries = limited(tf.reshape(queries, [dimensions(encoded)[0], -1, queries.shape[-1]]))
    # Energies are float32 at any precision, because float16 cannot hold the mask.
    energies = tf.cast(energies_of(queries, located), tf.float32)
    alignment = tf.cast(tf.nn.softmax(energies + memory.mask_bias), encoded.dtype)
    context = tf.reshape(tf.matmul(alignment, encoded), [-1, encoded.shape[-1]])
    return Attended(context, alignment, located)


def limited(values: tf.Tensor) -> tf.Tensor:
    """Clips keys or queries so that their odds are finite."""
    return tf.clip_by_value(values, -LIMIT, LIMIT)


def odds_of(values: tf.Tensor) -> tf.Tensor:
    """Computes exp(2 values) of clipped keys or queries, which replaces the tanh in a step.

    With x = exp(2 query) exp(2 key), tanh(query + key) = 2 x / (1 + x) - 1. The exponentials of
    keys are computed once an utterance, and the softmax over places cancels the constant.
    """
    return tf.exp(2.0 * values)


def hypothesis_terms(
    queries: tf.Tensor, located: tf.Tensor, weights: AttentionWeights
) -> tuple[tf.Tensor, ...]:
    """Makes the terms that hypotheses add to the keys: one tensor, or two factors of a product.

    Args:
      queries: [B, K, A], projected.
      located: output of the location filters, if there are any; S * F numbers for each query.
    Returns:
      Queries [B, K, 1, A]; with location filters, places [B, K, S, F + 1] and a kernel
      [B, K, F + 1, A] whose last row is the query.
    """
    queries = tf.expand_dims(queries, 2)
    filters = weights.filters.shape[0]
    if not filters:
        return (queries,)
    batch, hypotheses, _, units = dimensions(queries)
    places = tf.reshape(located, [batch, hypotheses, -1, filters])
    places = tf.pad(places, [[0, 0], [0, 0], [0, 0], [0, 1]], constant_values=1)
    kernel = tf.broadcast_to(weights.filters, [batch, hypotheses, filters, units])
    return places, tf.concat([kernel, queries], 2)


def tanh_activations(
    keys: tf.Tensor, values: tf.Tensor, kernel: tf.Tensor | None = None
) -> tf.Tensor:
    """Computes tanh [B, K, S, A] of keys [B, 1, S, A] plus `hypothesis_terms`."""
    return tf.tanh(keys + (values if kernel is None else tf.matmul(values, kernel)))


def _energies(
    queries: tf.Tensor, located: tf.Tensor, memory: AttentionMemory, groups: int
) -> tf.Tensor:
    """Computes the energies [B, K, S] of a step of a search; see `attend`."""
    weights = memory.weights
    batch, _, steps, units = dimensions(memory.keys)
    shape = [batch, dimensions(queries)[1], steps]

    def by_tanh(*arguments: tf.Tensor) -> tf.Tensor:
        return tf.linalg.matvec(rows_of(tanh_activations(*arguments)), weights.energy)

    def by_odds(queries: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        # A matrix product is faster here than broadcasting.
        shares = tf.nn.softsign(tf.matmul(queries, keys))  # x / (1 + x), [B, A, K, S]
        kernel = 2.0 * weights.energy[None, None]
        return tf.matmul(kernel, tf.reshape(shares, [-1, units, shape[1] * steps]))

    if memory.odds is None:
        values = hypothesis_terms(queries, located, weights)
        return tf.reshape(_grouped(by_tanh, groups, memory.keys, *values), shape)
    of_queries = tf.expand_dims(tf.transpose(odds_of(queries), [0, 2, 1]), -1)
    return tf.reshape(_grouped(by_odds, groups, of_queries, memory.odds), shape)


def _grouped(of_group: Callable[..., tf.Tensor], groups: int, *arguments: tf.Tensor) -> tf.Tensor:
    """Computes of_group(*arguments) for one group of utterances after another.

    The activations [B, K, S, A] are the largest tensor of a step; those of a few utterances stay in
    the cache (docs/decisions/0014-decoding-speed.md).

    Args:
      arguments: tensors [B, *], which are split by utterance.
    """
    if groups == 1:
        return of_group(*arguments)
    sizes = (dimensions(arguments[0])[0] + tf.range(groups)) // groups
    made: list[tf.Tensor] = []
    for group in zip(*(tf.split(each, sizes, num=groups) for each in arguments), strict=True):
        with tf.control_dependencies(made[-1:]):
            made.append(of_group(*group))
    return tf.concat(made, 0)


def recomputed_energies(memory: AttentionMemory) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Makes an `energies_of` for `attend` whose gradient recomputes the activations [B, K, S, A].

    A loop that TensorFlow differentiates would keep those of all steps, by far the largest part of
    a training's memory.
    """
    weights = memory.weights

    def energies_of(*tensors: tf.Tensor) -> tf.Tensor:
        queries, located, keys, filters, energy = tensors
        own = AttentionWeights(weights.query, energy, filters)
        activations = tanh_activations(keys, *hypothesis_terms(queries, located, own))
        energies = tf.linalg.matvec(rows_of(activations), energy)
        return tf.reshape(energies, dimensions(activations)[:3])

    @tf.custom_gradient
    def recomputed(*tensors: tf.Tensor):
        def gradient(upstream: tf.Tensor):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                energies = energies_of(*tensors)
            zero = tf.UnconnectedGradients.ZERO
            return tape.gradient(energies, tensors, upstream, unconnected_gradients=zero)

        return energies_of(*tensors), gradient

    return lambda queries, located: recomputed(
        queries, located, memory.keys, weights.filters, weights.energy
    )


def location_matrix(filters: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """Makes the matrix [S, S * F] of a "SAME" convolution over S with filters [W, 1, F].

    One product with it is many times faster than a convolution of one channel.
    """
    width, _, count = filters.shape
    place = tf.range(steps)
    offset = tf.expand_dims(place, 1) - tf.expand_dims(place, 0) + (width - 1) // 2
    is_inside = (offset >= 0) & (offset < width)
    rows = tf.concat([filters[:, 0], tf.zeros([1, count], filters.dtype)], 0)
    return tf.reshape(tf.gather(rows, tf.where(is_inside, offset, width)), [steps, steps * count])


def located_by_windows(attention_sum: tf.Tensor, filters: tf.Tensor) -> tf.Tensor:
    """Multiplies attention_sum [N, S] by the `location_matrix` of filters [W, 1, F], without it.

    It takes S * W * F products in place of S * S * F, which are far fewer for long audio; for a
    batch, gathering its windows costs more than this saves.
    """
    width, _, count = filters.shape
    queries, steps = dimensions(attention_sum)
    before = (width - 1) // 2
    padded = tf.pad(attention_sum, [[0, 0], [before, width - 1 - before]])
    places = tf.expand_dims(tf.range(steps), 1) + tf.range(width)
    windows = tf.gather(padded, tf.reshape(places, [-1]), axis=1)
    located = tf.matmul(tf.reshape(windows, [-1, width]), filters[:, 0])
    return tf.reshape(located, [queries, steps * count])


@keras.saving.register_keras_serializable("tfkd")
class AdditiveAttention(keras.layers.Layer):
    """Additive attention, with location filters if the config says so.

    References:
      Bahdanau et al. 2015, arXiv:1409.0473, appendix A.1.2; Chorowski et al. 2015,
      arXiv:1506.07503, eq. 9, with the sum of all earlier alignments as the location.
    """

    def __init__(self, config: AttentionConfig | dict, **kwargs) -> None:
        super().__init__(**kwargs)
        self.config = from_dict(AttentionConfig, config) if isinstance(config, dict) else config

    def build(self, encoded_units: int, query_units: int) -> None:
        units = self.config.units
        self.key_kernel = self.add_weight(name="key_kernel", shape=(encoded_units, units))
        self.query_kernel = self.add_weight(name="query_kernel", shape=(query_units, units))
        self.bias = self.add_weight(name="bias", shape=(units,), initializer="zeros")
        self.energy = self.add_weight(name="energy", shape=(units,), initializer="random_normal")
        if self.config.kind == "location":
            filters = self.config.location_filters
            width = self.config.location_width
            self.filters = self.add_weight(name="filters", shape=(width, 1, filters))
            self.filter_kernel = self.add_weight(name="filter_kernel", shape=(filters, units))
        self.built = True

    def memory(self, encoded: tf.Tensor, encoded_lengths: tf.Tensor) -> AttentionMemory:
        """Computes the tensors that depend on encoded [B, S, D] and its lengths [B] alone."""
        keys = project(encoded, tf.convert_to_tensor(self.key_kernel)) + self.bias
        keys = tf.expand_dims(limited(keys), 1)
        _, steps, _ = dimensions(encoded)
        inside = tf.sequence_mask(encoded_lengths, steps, dtype=tf.float32)
        location, filters = self._location(steps, encoded.dtype)
        query_kernel, energy = map(tf.convert_to_tensor, (self.query_kernel, self.energy))
        return AttentionMemory(
            encoded,
            keys,
            tf.expand_dims((1.0 - inside) * _MASKED, 1),
            location,
            AttentionWeights(query_kernel, energy, filters),
            self._odds(keys),
        )

    def _odds(self, keys: tf.Tensor) -> tf.Tensor | None:
        """Computes the odds of keys [B, 1, S, A], or returns None where they cannot be used.

        Location filters add to every key at every step, float16 has too small a range, and TFLite
        has no softsign.
        """
        if self.config.kind != "additive" or keys.dtype != tf.float32 or keys.shape[0] == 1:
            return None
        if not formulation.suits_cpu():
            return None
        return tf.transpose(odds_of(keys), [0, 3, 1, 2])

    def _location(self, steps: tf.Tensor, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
        if self.config.kind == "additive":
            return tf.zeros([steps, 0], dtype), tf.zeros([0, self.config.units], dtype)
        filters, kernel = self._filters()
        return location_matrix(filters, steps), kernel

    def _filters(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The filters [W, 1, F], and the kernel [F, A] of what they see."""
        filters, kernel = map(tf.convert_to_tensor, (self.filters, self.filter_kernel))
        width, _, count = filters.shape
        if count > width:
            # There is no nonlinearity between filters and kernel, so their product can be applied
            # to the window itself; a step then reads `width` numbers for each place, not `count`.
            kernel = tf.matmul(filters[:, 0], kernel)
            filters = tf.eye(width, dtype=filters.dtype)[:, None]
        return filters, kernel

    def call(
        self, query: tf.Tensor, attention_sum: tf.Tensor, memory: AttentionMemory
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes context [N, D] and alignment [N, S]; see `attend`."""
        # A device decodes one utterance, which cannot be split into groups.
        is_alone = memory.keys.shape[0] == 1
        groups = _GROUPS if formulation.suits_cpu() and not is_alone else 1
        energies_of = functools.partial(_energies, memory=memory, groups=groups)
        located = None
        if is_alone and self.config.kind == "location":
            located = located_by_windows(attention_sum, self._filters()[0])
        attended = attend(query, attention_sum, memory, energies_of, located)
        return attended.context, tf.reshape(attended.alignment, tf.shape(attention_sum))

    def in_training(
        self, memory: AttentionMemory
    ) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
        """Maps query and attention_sum as `call` does, and keeps no activations of its steps."""
        energies_of = recomputed_energies(memory)

        def step(query: tf.Tensor, attention_sum: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            attended = attend(query, attention_sum, memory, energies_of)
            return attended.context, tf.reshape(attended.alignment, tf.shape(attention_sum))

        return step

    def get_config(self) -> dict:
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}
