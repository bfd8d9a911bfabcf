"""Exact k-best beam search over any step function, independent of audio, models and text.

`interface` defines arguments and results, `search` is the loop, `constraints` and `ranking` hold
the rules for the next token and the score, `hypotheses` the sets of alive and finished hypotheses,
and `backpointers` reads the tokens of a hypothesis back from its end.

Example:
    >>> import tensorflow as tf
    >>> log_probs = tf.math.log([[0.0, 0.0, 0.0, 0.4, 0.6], [0.0, 0.0, 0.0, 0.7, 0.3]])
    >>> result = beam_search(
    ...     lambda token_ids, state: (tf.gather(log_probs, state), tf.minimum(state + 1, 1)),
    ...     tf.zeros([1], tf.int32),
    ...     batch_size=1, beam_width=4, num_hypotheses=2, max_tokens=3,
    ...     sos_id=2, eos_id=3, pad_id=0,
    ... )
    >>> result.token_ids.numpy().tolist()
    [[[4, 3, 0], [3, 0, 0]]]
"""

from tfkd.beam_search.interface import BeamResult, Readout, Scorer, StepFn
from tfkd.beam_search.ranking import length_penalty
from tfkd.beam_search.search import beam_search

__all__ = ["BeamResult", "Readout", "Scorer", "StepFn", "beam_search", "length_penalty"]
