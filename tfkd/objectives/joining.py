"""The targets of utterances that are heard one after the other, and of audio without speech."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfkd.errors import TextError
from tfkd.objectives.objective import TOKEN_IDS, WEIGHTS, Arrays, Signature, most_tokens
from tfkd.text import PAD_ID, Tokenizer


def nothing_said(tokenizer: Tokenizer) -> Arrays:
    """The targets of an empty transcript: EOS alone."""
    return {
        TOKEN_IDS: np.array([[tokenizer.eos_id]], np.int32),
        WEIGHTS: np.ones(1, np.float32),
    }


def join_targets(parts: Sequence[Arrays], signature: Signature, tokenizer: Tokenizer) -> Arrays:
    """The targets of an example in which several utterances are said.

    The r-th hypothesis of the whole is made of the r-th of each part; where a part has none, its
    heaviest one stands in. The weights are geometric means of theirs over their sum, so that
    hypotheses weigh in a joined example as they do in its parts. The token ids are those of the
    texts with a space between them, because no piece of our tokenizers spans a space and the letter
    before it; whatever else a field holds for a token goes with it.

    Args:
      parts: at least one, each without a batch axis.
      signature: holds the fields of all parts.
    """
    if len(parts) == 1:
        return parts[0]
    separator = _separator(tokenizer)
    longest = most_tokens(signature, parts)
    # Parts of several objectives have several fields, and several numbers of hypotheses.
    parts = [
        {name: field.fill(part.get(name), longest) for name, field in signature.items()}
        for part in parts
    ]
    rows: list[Arrays] = []
    weights = np.zeros_like(parts[0][WEIGHTS])
    for rank in range(len(weights)):
        places = [_place(part[WEIGHTS], rank) for part in parts]
        row = _row(parts, places, signature, separator)
        if rank in places:
            weights[rank] = _geometric_mean([p[WEIGHTS][n] for p, n in zip(parts, places)])
        else:
            row = {name: values[:0] for name, values in row.items()}
        rows.append(row)
    joined = {name: _stacked(name, rows, signature) for name in rows[0]}
    return {**joined, WEIGHTS: weights / weights.sum()}


def _place(weights: np.ndarray, rank: int) -> int:
    """The hypothesis of a part that is heard in the whole's of this rank."""
    return rank if weights[rank] > 0 else int(weights.argmax())


def _geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def _row(
    parts: Sequence[Arrays], places: Sequence[int], signature: Signature, separator: np.ndarray
) -> Arrays:
    """One hypothesis of the whole: the fields that have an axis of tokens, without padding."""
    row = {}
    for name in (name for name, field in signature.items() if None in field.shape):
        pieces: list[np.ndarray] = []
        for part, place in zip(parts, places):
            num_tokens = np.count_nonzero(part[TOKEN_IDS][place] != PAD_ID)
            tokens = part[name][place, :num_tokens]
            if num_tokens > 1:
                pieces += [_between(name, separator, tokens, signature)] if pieces else []
                pieces.append(tokens[:-1])
        row[name] = np.concatenate([*pieces, tokens[-1:]])
    return row


def _between(
    name: str, separator: np.ndarray, like: np.ndarray, signature: Signature
) -> np.ndarray:
    """What a field holds for the separator: nothing is known of it but its ids."""
    if name == TOKEN_IDS:
        return separator
    return np.full((len(separator), *like.shape[1:]), signature[name].padding, like.dtype)


def _stacked(name: str, rows: Sequence[Arrays], signature: Signature) -> np.ndarray:
    field, longest = signature[name], max(len(row[name]) for row in rows)
    one = field._replace(shape=(1, *field.shape[1:]))
    return np.concatenate([one.fill(row[name][None], longest) for row in rows])


def _separator(tokenizer: Tokenizer) -> np.ndarray:
    """The ids between two texts: none where pieces begin with a space, or there are no spaces."""
    try:
        return np.array(tokenizer.encode(" "), np.int32)
    except TextError:
        return np.zeros(0, np.int32)
