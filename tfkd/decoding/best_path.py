"""The best path of CTC: what its head finds most likely at each frame, without a search.

A path is the token or the blank of each frame; its transcript has equal neighbours once and no
blanks. There is no loop over tokens, so it is the fastest way to decode on a device.
"""

from __future__ import annotations

import tensorflow as tf

from tfkd.beam_search import BeamResult
from tfkd.beam_search.ranking import score_of
from tfkd.config import DecodingConfig
from tfkd.layers.static_shape import dimensions
from tfkd.text import EOS_ID, PAD_ID


def is_enough(config: DecodingConfig) -> bool:
    """Whether the best path is all that a search by CTC alone is asked for.

    A control that forbids tokens, a temperature, which changes what the blanks weigh, or a language
    model needs the search over prefixes.
    """
    return (
        config.beam_width == 1
        and config.min_tokens <= 1
        and config.eos_threshold is None
        and not config.no_repeat_ngram
        and config.temperature == 1
        and not config.fusion.lm_weight
    )


def best_path(log_probs: tf.Tensor, limits: tf.Tensor | None, config: DecodingConfig) -> BeamResult:
    """The transcript of the best path of each utterance, in the form of a search of width 1.

    `log_prob` is that of the path, which is the greatest of the transcript's alignments: not above
    what the search over prefixes gives, which sums all of them. A token's part reaches from its
    first frame to the next token; blanks before the first belong to it, or to the end where there
    is none.

    Args:
      log_probs: [B, S, V] float32, with pad as the blank; certain blanks beyond an utterance's end.
      limits: [B] int32: tokens, eos included, after which a transcript is cut off; None leaves it
        at `max_tokens` for all.
    References:
      Graves et al. 2006, "Connectionist temporal classification", section 3.2 (best path decoding).
    """
    most, batch = config.max_tokens, dimensions(log_probs)[0]
    limits = tf.fill([batch], most) if limits is None else tf.clip_by_value(limits, 1, most)
    # Add as many frames as tokens are asked for: they are blanks, and certain.
    frames_added = [[0, 0], [0, most]]
    path = tf.pad(tf.argmax(log_probs, -1, tf.int32), frames_added, constant_values=PAD_ID)
    path_log_probs = tf.pad(tf.reduce_max(log_probs, -1), frames_added)
    before = tf.pad(path[:, :-1], [[0, 0], [1, 0]], constant_values=PAD_ID)
    begins = tf.cast(tf.not_equal(path, PAD_ID) & tf.not_equal(path, before), tf.int32)
    count, size = tf.reduce_sum(begins, 1), dimensions(path)[1]
    is_finished = count < limits
    num_tokens = tf.where(is_finished, count + 1, limits)

    # The frames where tokens begin, first to last, are the greatest distances from the end.
    frames = size - tf.math.top_k(begins * (size - tf.range(size)), most).values
    place, last = tf.range(most), tf.expand_dims(num_tokens - 1, 1)
    is_end = tf.equal(place, last) & tf.expand_dims(is_finished, 1)
    is_token = (place <= last) & tf.logical_not(is_end)
    token_ids = tf.gather(path, tf.where(is_token, frames, 0), batch_dims=1)
    # The end is heard where the last token begins, as in the search over prefixes.
    frames = tf.where(is_token, frames, tf.reduce_max(tf.where(is_token, frames, 0), 1, True))

    # Sum the frames of each token by a product: differences of running sums would lose digits.
    owner = tf.maximum(tf.cumsum(begins, 1) - 1, 0)
    of_frames = tf.cast(tf.equal(tf.expand_dims(owner, 2), place), tf.float32)
    token_log_probs = tf.matmul(tf.expand_dims(path_log_probs, 1), of_frames)[:, 0]
    token_log_probs = tf.where(place <= last, token_log_probs, 0.0)
    log_prob = tf.reduce_sum(token_log_probs, 1)
    one = BeamResult(
        token_ids=tf.where(is_end, EOS_ID, tf.where(is_token, token_ids, PAD_ID)),
        num_tokens=num_tokens,
        log_prob=log_prob,
        total=log_prob,
        score=score_of(log_prob, num_tokens, config),
        token_log_probs=token_log_probs,
        is_finished=is_finished,
        frames=tf.where(place <= last, frames, 0),
        coverage=tf.ones([batch]),
    )
    return BeamResult(*(tf.expand_dims(value, 1) for value in one))
