"""Finds out when each token is said: the likeliest CTC path that spells a text.

Attention of a recogniser that also learned CTC may look far ahead or behind, and its largest weight
is then no time. CTC reads each encoding where it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def token_frames(
    log_probs: np.ndarray, token_ids: Sequence[int], *, blank: int
) -> list[int] | None:
    """Finds the encoding at which each token begins on the likeliest path that spells them all.

    Args:
      log_probs: [S, V] of each encoding.
      token_ids: [U], without the end token.
      blank: id of the blank.
    Returns:
      U numbers of encodings, each greater than the one before; None if the tokens need more
      encodings than there are.
    References:
      Graves et al. 2006, "Connectionist temporal classification", section 4.1, with the greatest
      path in place of the sum.

    >>> import numpy as np
    >>> said = np.log([[0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.7, 0.3]])
    >>> token_frames(said, [1], blank=0)
    [1]
    """
    if len(log_probs) == 0:
        return None if token_ids else []
    labels = np.full(2 * len(token_ids) + 1, blank)
    labels[1::2] = token_ids
    emitted = log_probs[:, labels]
    # A path may leave out the blank between two different tokens.
    may_skip = np.zeros(len(labels), bool)
    may_skip[3::2] = labels[3::2] != labels[1:-2:2]
    best = np.full(len(labels), -np.inf)
    best[:2] = emitted[0, :2]
    steps = np.zeros(emitted.shape, int)
    for frame in range(1, len(emitted)):
        one = np.concatenate([[-np.inf], best[:-1]])
        two = np.where(
            may_skip, np.concatenate([[-np.inf, -np.inf], best[:-2]])[: len(best)], -np.inf
        )
        choices = np.stack([best, one, two])
        steps[frame] = choices.argmax(0)
        best = choices.max(0) + emitted[frame]
    place = len(labels) - 1
    if len(labels) > 1 and best[-2] > best[-1]:
        place -= 1
    if not np.isfinite(best[place]):
        return None
    path = [place]
    for frame in range(len(emitted) - 1, 0, -1):
        place -= steps[frame, place]
        path.append(int(place))
    path.reverse()
    return [path.index(2 * number + 1) for number in range(len(token_ids))]
