"""Makes the targets of joined utterances, and of audio without speech."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfkd.errors import TextError
from tfkd.objectives.objective import TOKEN_IDS, WEIGHTS, Arrays, Signature, most_tokens
from tfkd.text import EOS_ID, PAD_ID, Tokenizer


def empty_targets(tokenizer: Tokenizer) -> Arrays:
    """Makes the targets of an empty transcript: EOS alone."""
    return {
        TOKEN_IDS: np.array([[tokenizer.eos_id]], np.int32),
        WEIGHTS: np.ones(1, np.float32),
    }


def join_targets(parts: Sequence[Arrays], signature: Signature, tokenizer: Tokenizer) -> Arrays:
    """Makes the targets of an example that plays several utterances one after the other.

    The r-th hypothesis of the example joins the r-th hypotheses of its parts; a part with fewer
    hypotheses contributes its heaviest one. The weight is the geometric mean of their weights,
    divided by the sum over hypotheses. The token ids of the parts can be joined with a space
    between them, because no piece of our tokenizers holds a space after a letter. Other fields with
    an axis of tokens are joined in the same way.

    Args:
      parts: the targets of at least one utterance, without a batch axis.
      signature: the fields of all parts.
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
            weights[rank] = _geometric_mean(
                [p[WEIGHTS][n] for p, n in zip(parts, places, strict=True)]
            )
        else:
            row = {name: values[:0] for name, values in row.items()}
        rows.append(row)
    joined = {name: _stacked(name, rows, signature) for name in rows[0]}
    return {**joined, WEIGHTS: weights / weights.sum()}


def _place(weights: np.ndarray, rank: int) -> int:
    """The place of the hypothesis that a part contributes to the joined one of this rank."""
    return rank if weights[rank] > 0 else int(weights.argmax())


def _geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def _row(
    parts: Sequence[Arrays], places: Sequence[int], signature: Signature, separator: np.ndarray
) -> Arrays:
    """The fields with an axis of tokens of one joined hypothesis, without padding."""
    row = {}
    for name in (name for name, field in signature.items() if None in field.shape):
        pieces: list[np.ndarray] = []
        for part, place in zip(parts, places, strict=True):
            ids = part[TOKEN_IDS][place]
            num_tokens = np.count_nonzero(ids != PAD_ID)
            # A hypothesis that the limit cut off has no end token.
            num_words = num_tokens - int(EOS_ID in ids)
            tokens = part[name][place, :num_tokens]
            if num_words:
                pieces += [_between(name, separator, tokens, signature)] if pieces else []
                pieces.append(tokens[:num_words])
        row[name] = np.concatenate([*pieces, tokens[num_words:]])
    return row


def _between(
    name: str, separator: np.ndarray, like: np.ndarray, signature: Signature
) -> np.ndarray:
    """The values of a field for the separator: its token ids, and padding in all other fields."""
    if name == TOKEN_IDS:
        return separator
    return np.full((len(separator), *like.shape[1:]), signature[name].padding, like.dtype)


def _stacked(name: str, rows: Sequence[Arrays], signature: Signature) -> np.ndarray:
    field, longest = signature[name], max(len(row[name]) for row in rows)
    one = field._replace(shape=(1, *field.shape[1:]))
    return np.concatenate([one.fill(row[name][None], longest) for row in rows])


def _separator(tokenizer: Tokenizer) -> np.ndarray:
    """The token ids between two texts: none if pieces begin with a space, or no text has spaces."""
    try:
        return np.array(tokenizer.encode(" "), np.int32)
    except TextError:
        return np.zeros(0, np.int32)
