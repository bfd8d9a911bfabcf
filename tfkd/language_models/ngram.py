"""Back-off n-gram models over the tokenizer's units, as tensors that a search reads in its graph.

The contexts form a trie. The children of all contexts share one array, in which they are shifted
so that none overlap (row displacement: Tarjan and Yao 1979, "Storing a sparse table"; the double
array of Aoe 1989): whether context c lists token v is one comparison, owner[start[c] + v] == c.
Nothing is approximated, and the memory grows with the n-grams, not with contexts times vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfkd.beam_search import Scorer
from tfkd.errors import LanguageModelError
from tfkd.language_models.arpa import ArpaModel, Entry, read_arpa
from tfkd.text import EOS_ID, FIRST_PIECE_ID, SOS_ID, UNK_ID, Tokenizer

_LOG = logging.getLogger("tfkd")

_SPACE_MARK = "\u2581"
# Other projects spell the space as one of these, in small letters or capitals.
_OTHER_SPACES = {"|", "<space>", "[space]", "<sp>", "<spc>", "_", "\u2423", "~", "#"}
# Reading and packing are plain Python, which takes minutes for this many.
_MOST_NGRAMS = 2_000_000
# The value of a unit that the model does not list, where it has no <unk> either, as in KenLM.
_UNLISTED = -100.0 * np.log(10.0)
_LEAST_KNOWN_SHARE = 0.5
_SHOWN_UNITS = 10
_ROOT = 0
# The children of a context are tried on so many places at once.
_WINDOW = 256

Ngram = tuple[int, ...]


class NgramTables(NamedTuple):
    """The trie; C contexts, of which 0 is the empty one, and P places for their children."""

    shorter: np.ndarray  # [C] int32: the context without its oldest token or tokens
    backoff: np.ndarray  # [C] float32
    start: np.ndarray  # [C] int32
    owner: np.ndarray  # [P] int32: the context that lists the token at this place; -1 for none
    log_prob: np.ndarray  # [P] float32
    longer: np.ndarray  # [P] int32: the context with the token appended; -1 where it is none


class NgramModel:
    """A language model for shallow fusion; a token id that it does not list counts as <unk>.

    Args:
      order: length of the longest n-gram.
      listed: [V] bool, ids that the model lists; the others are read as <unk>.
    """

    def __init__(self, tables: NgramTables, order: int, listed: np.ndarray) -> None:
        self.order = order
        self.vocab_size = len(listed)
        self._tables = NgramTables(*map(tf.constant, tables))
        self._read_as = tf.constant(np.where(listed, np.arange(len(listed)), UNK_ID), tf.int32)

    def scorer(self, weight: float | tf.Tensor, batch_size: int | tf.Tensor) -> Scorer:
        """Returns the scorer for a beam search over `batch_size` utterances."""
        return Scorer(weight, tf.fill([batch_size], _ROOT), self.step)

    def step(self, token_ids: tf.Tensor, contexts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads token_ids [N] int32 after contexts [N] int32.

        Returns:
          log_probs [N, V] float32 of the next token, and its contexts [N] int32.
        """
        contexts = self._append(tf.gather(self._read_as, token_ids), contexts)
        log_probs = tf.fill([1, self.vocab_size], tf.constant(_UNLISTED, tf.float32))
        for context in reversed(self._ever_shorter(contexts)):
            place = tf.expand_dims(tf.gather(self._tables.start, context), 1)
            place += tf.expand_dims(self._read_as, 0)
            log_probs = tf.where(
                self._is_listed(place, tf.expand_dims(context, 1)),
                tf.gather(self._tables.log_prob, place),
                log_probs + tf.expand_dims(tf.gather(self._tables.backoff, context), 1),
            )
        # Rounded logarithms can exceed one by a little, and the search relies on sums that fall.
        return tf.minimum(log_probs, 0.0), contexts

    def _append(self, token_ids: tf.Tensor, contexts: tf.Tensor) -> tf.Tensor:
        """Returns the longest listed context that ends in contexts + token_ids, [N] int32."""
        longest = tf.fill(tf.shape(token_ids), _ROOT)
        for context in reversed(self._ever_shorter(contexts)):
            place = tf.gather(self._tables.start, context) + token_ids
            longer = tf.gather(self._tables.longer, place)
            longest = tf.where(self._is_listed(place, context) & (longer >= 0), longer, longest)
        return longest

    def _ever_shorter(self, contexts: tf.Tensor) -> list[tf.Tensor]:
        """Returns the contexts and all that they back off to; the empty one may come again."""
        chain = [contexts]
        for _ in range(self.order - 1):
            chain.append(tf.gather(self._tables.shorter, chain[-1]))
        return chain

    def _is_listed(self, place: tf.Tensor, context: tf.Tensor) -> tf.Tensor:
        return tf.equal(tf.gather(self._tables.owner, place), context)


def unit_names(tokenizer: Tokenizer) -> list[str]:
    """Returns the spelling of units in text for n-gram toolkits: a space in a unit is U+2581."""
    names = [piece.replace(" ", _SPACE_MARK) for piece in tokenizer.pieces]
    names[UNK_ID], names[SOS_ID], names[EOS_ID] = "<unk>", "<s>", "</s>"
    return names


def load_ngram_model(path: str | Path, tokenizer: Tokenizer) -> NgramModel:
    """Reads an ARPA model whose words are the units of `tokenizer`, spelt as `unit_names` says.

    N-grams with other words are left out: the recogniser cannot say them. Units that the model
    does not list are named in a warning.

    Raises:
      LanguageModelError: if the file is no ARPA model, is too large, is of other units, spells the
        space in another way, or does not list the end of a sentence.
    """
    arpa = read_arpa(path, most_ngrams=_MOST_NGRAMS)
    names = unit_names(tokenizer)
    _check_spellings(arpa, names, path)
    listed = np.array([bool(name) and (name,) in arpa.entries for name in names])
    ids = {name: number for number, name in enumerate(names) if name}
    entries = {
        tuple(ids[word] for word in ngram): entry
        for ngram, entry in arpa.entries.items()
        if all(word in ids for word in ngram)
    }
    return NgramModel(build_tables(entries, len(names)), arpa.order, listed)


def _check_spellings(arpa: ArpaModel, names: Sequence[str], path: str | Path) -> None:
    """Refuses a model in which the end or the space would score as unknown; names other gaps."""
    units = names[FIRST_PIECE_ID:]
    unlisted = [name for name in units if (name,) not in arpa.entries]
    if len(unlisted) > (1 - _LEAST_KNOWN_SHARE) * len(units):
        raise LanguageModelError(
            f"lists {1 - len(unlisted) / len(units):.0%} of the tokenizer's units",
            path=path,
            remedy="train it on what tfkd lm-text writes",
        )
    if ("</s>",) not in arpa.entries:
        raise LanguageModelError(
            "does not list </s>, so it cannot say where a sentence ends",
            path=path,
            remedy="write it with sentence ends, as lmplz does",
        )
    words = {ngram[0] for ngram in arpa.entries if len(ngram) == 1} - set(units)
    foreign = sorted(word for word in words if word.lower() in _OTHER_SPACES)
    if _SPACE_MARK in unlisted and foreign:
        raise LanguageModelError(
            f"spells the space {foreign[0]!r}, not {_SPACE_MARK!r}",
            path=path,
            remedy="replace it in the file, or train it on what tfkd lm-text writes",
        )
    missing = [*unlisted, *(["<s>"] if ("<s>",) not in arpa.entries else [])]
    if missing:
        shown = " ".join(missing[:_SHOWN_UNITS])
        _LOG.warning(
            "%s: does not list %d of the units, which count as <unk>: %s", path, len(missing), shown
        )


def build_tables(entries: Mapping[Ngram, Entry], vocab_size: int) -> NgramTables:
    """Lays out n-grams of token ids as a trie.

    Contexts or suffixes of n-grams that are not listed themselves, as pruning leaves behind, are
    taken as what backing off makes of them.
    """
    contexts: dict[Ngram, int] = {(): _ROOT}
    for ngram, entry in entries.items():
        for length in range(1, len(ngram)):
            contexts.setdefault(ngram[:length], len(contexts))
        if entry.backoff:
            contexts.setdefault(ngram, len(contexts))
    children: list[list[int]] = [[] for _ in contexts]
    listed = {**dict.fromkeys(entries), **dict.fromkeys(contexts)}
    del listed[()]
    for ngram in listed:
        children[contexts[ngram[:-1]]].append(ngram[-1])
    start, places = _pack([np.array(row, np.int32) for row in children], vocab_size)
    owner, longer = np.full(places, -1, np.int32), np.full(places, -1, np.int32)
    log_prob = np.zeros(places, np.float32)
    for ngram in listed:
        context = contexts[ngram[:-1]]
        place = start[context] + ngram[-1]
        owner[place] = context
        log_prob[place] = _log_prob(ngram, entries)
        longer[place] = contexts.get(ngram, -1)
    return NgramTables(
        shorter=np.array([_shorter(ngram, contexts) for ngram in contexts], np.int32),
        backoff=np.array([_backoff(ngram, entries) for ngram in contexts], np.float32),
        start=start,
        owner=owner,
        log_prob=log_prob,
        longer=longer,
    )


def _shorter(ngram: Ngram, contexts: Mapping[Ngram, int]) -> int:
    ends = (ngram[cut:] for cut in range(1, len(ngram) + 1))
    return next((contexts[end] for end in ends if end in contexts), _ROOT)


def _backoff(ngram: Ngram, entries: Mapping[Ngram, Entry]) -> float:
    return entries[ngram].backoff if ngram in entries else 0.0


def _log_prob(ngram: Ngram, entries: Mapping[Ngram, Entry]) -> float:
    """Katz 1987's rule: the n-gram's own value, or that of a shorter one after backing off."""
    if ngram in entries:
        return entries[ngram].log_prob
    if len(ngram) == 1:
        return _UNLISTED
    return _backoff(ngram[:-1], entries) + _log_prob(ngram[1:], entries)


def _pack(rows: Sequence[np.ndarray], width: int) -> tuple[np.ndarray, int]:
    """Shifts rows of columns below `width` so that no two of them take the same place.

    Long rows come first, and short ones fill what they leave free.

    Returns:
      The shift of each row [C] int32, and the number of places, those of whole rows included.
    """
    counts = np.array([len(row) for row in rows])
    shifts = np.zeros(len(rows), np.int32)
    taken = np.zeros(width + _WINDOW, bool)
    search_from = end = 0
    longest = width
    for index in np.argsort(-counts, kind="stable")[: np.count_nonzero(counts > 1)]:
        columns = rows[index]
        if 2 * len(columns) <= longest:
            # Shorter rows may fit where longer ones did not, so search from the start again.
            search_from, longest = 0, len(columns)
        while (shift := _fit(columns, taken, search_from)) is None:
            search_from += _WINDOW
            if search_from + _WINDOW + width > len(taken):
                taken = np.pad(taken, (0, len(taken)))
        shifts[index] = shift
        taken[shift + columns] = True
        end = max(end, shift + width)
    single = np.flatnonzero(counts == 1)
    taken = np.pad(taken, (0, width + len(single)))
    # A single column fits on any free place that is not too near to the start.
    free = width + np.flatnonzero(~taken[width:])[: len(single)]
    if len(single):
        shifts[single] = free - np.concatenate([rows[index] for index in single.tolist()])
        end = max(end, int(shifts[single].max()) + width)
    return shifts, end


def _fit(columns: np.ndarray, taken: np.ndarray, start: int) -> int | None:
    """The least shift that puts the first column into a window and all on free places."""
    first = columns.min()
    free = start + np.flatnonzero(~taken[start : start + _WINDOW])
    shifts = free[free >= first] - first
    fits = ~taken[shifts[:, np.newaxis] + columns].any(1)
    return int(shifts[np.argmax(fits)]) if fits.any() else None
