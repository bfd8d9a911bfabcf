"""Initialises a model with the weights of another run: its teacher, or an earlier student."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np

from tfkd.decoding.runs import Run
from tfkd.errors import TrainingError
from tfkd.models.recogniser import Recogniser
from tfkd.text import FIRST_PIECE_ID, Tokenizer

# The name of a numbered layer, such as recurrent_2: the name of its stack, and its number.
_NUMBERED = re.compile(r"(.+)_(\d+)")
# A kernel of low rank is held as two factors with these endings; see `tfkd.layers.low_rank`.
_LEFT, _RIGHT = "_left", "_right"
# The paths of variables with an axis of tokens begin with one of these. The place matters: every
# multi-head attention has an `output` too, and so has the frontend of raw waveforms.
_EMBEDDING = "decoder/embedding"
_OF_TOKENS = (_EMBEDDING, "decoder/output", "ctc/")


@dataclass(frozen=True)
class Taken:
    """The weights that a model took from another.

    Attributes:
      share: share of its trainable weights that were taken, 0 to 1.
      anew: paths of the variables that kept their new values, for all tokens or for some.
    """

    share: float
    anew: tuple[str, ...]


def begin_from(
    model: Recogniser,
    tokenizer: Tokenizer,
    run: Run,
    layers: Literal["spread", "average"] = "spread",
) -> Taken:
    """Copies the weights of a run into a model wherever their shapes match.

    If the model has fewer layers than the run, it takes evenly spaced layers, the first and the
    last among them ("spread"), or the means of neighbouring layers ("average"). A kernel that the
    model holds as two factors begins as the truncated singular value decomposition of the run's,
    which is the nearest matrix of its rank. Embeddings and outputs of tokens are matched by the
    text of the token, so the tokenizers may differ. The feature statistics are copied if both have
    the same frontend.

    Args:
      model: changed in place; weights that do not fit keep their values.
      tokenizer: of the model.
      run: the run to copy from.
      layers: how a shallower stack takes layers of a deeper one.
    Returns:
      The share of the weights that were copied, and the names of the others.
    Raises:
      TrainingError: if no weight fits.
    References:
      Gandhi et al. 2023, "Distil-Whisper", arXiv:2311.00430, section 3 ("spread").
      Prabhavalkar et al. 2016, arXiv:1603.08042, section 3 (factors of recurrent kernels).

    >>> run = tfkd.load_run("work/teacher")
    >>> model = tfkd.Recogniser(run.system.model, run.tokenizer.vocab_size)
    >>> begin_from(model, run.tokenizer, run).share
    1.0
    """
    theirs, ours = _matrices(run.model.trainable_variables), _by_path(model.trainable_variables)
    depths, own_depths = _depths(theirs), _depths(ours)
    tokens = _Tokens(tokenizer, run.tokenizer)
    taken = total = 0
    anew = []
    for path, variable in ours.items():
        total += variable.shape.num_elements()
        kernel = re.sub(f"({_LEFT}|{_RIGHT})$", "", path)
        sources = [theirs[p] for p in _sources(kernel, own_depths, depths, layers) if p in theirs]
        if kernel != path:
            pair = _factors_of(sources, ours[kernel + _LEFT].shape, ours[kernel + _RIGHT].shape)
            sources = [left if path.endswith(_LEFT) else right for left, right in pair]
        count = tokens.copy(path, variable, sources)
        taken += count
        if count < variable.shape.num_elements():
            anew.append(path)
    if not taken:
        raise TrainingError(
            "none of its weights fits this model",
            path=run.directory,
            remedy="choose a model with the same kinds of layers and the same number of units",
        )
    if shares_frontend(model, run):
        for weight, other in zip(model.frontend.weights, run.model.frontend.weights, strict=True):
            weight.assign(other)
    return Taken(taken / total, tuple(anew))


def shares_frontend(model: Recogniser, run: Run) -> bool:
    """Whether both compute the same features, so that the run's feature statistics apply."""
    return model.config.frontend == run.model.config.frontend


def _by_path(variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    """Maps the path of each variable, without the name of the model, to the variable.

    Keras numbers unnamed layers, such as conv1d_40, across the whole process; these numbers are
    removed. The layers of a stack are told apart by having a layer 0, a number that Keras never
    gives.
    """
    paths = [variable.path.split("/")[1:] for variable in variables]
    stacks = {
        (*parts[:place], match[1])
        for parts in paths
        for place, part in enumerate(parts)
        if (match := _NUMBERED.fullmatch(part)) and match[2] == "0"
    }
    found: dict[str, keras.Variable] = {}
    for parts, variable in zip(paths, variables, strict=True):
        path = "/".join(
            match[1]
            if (match := _NUMBERED.fullmatch(part)) and (*parts[:place], match[1]) not in stacks
            else part
            for place, part in enumerate(parts)
        )
        while path in found:  # Layers of equal name are told apart by their order.
            path += "'"
        found[path] = variable
    return found


def _matrices(variables: Sequence[keras.Variable]) -> dict[str, np.ndarray]:
    """The values of variables by their path; of two factors their product, by the kernel's path."""
    found = {path: np.asarray(variable) for path, variable in _by_path(variables).items()}
    for path in [path for path in found if path.endswith(_LEFT)]:
        kernel = path.removesuffix(_LEFT)
        found[kernel] = found.pop(path) @ found.pop(kernel + _RIGHT)
    return found


def _factors_of(
    sources: Sequence[np.ndarray], left: tuple[int, int], right: tuple[int, int]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The factors, of shapes `left` and `right`, of the mean of those `sources` that fit."""
    fitting = [source for source in sources if source.shape == (left[0], right[1])]
    return [factors(np.mean(fitting, 0), left[1])] if fitting else []


def factors(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The matrices [F, R] and [R, G] whose product is nearest to matrix [F, G].

    Both have singular values of the same size, so that they learn at the same speed.

    References:
      Eckart and Young 1936, The approximation of one matrix by another of lower rank.

    >>> left, right = factors(np.array([[3.0, 0.0], [0.0, 1.0]]), rank=1)
    >>> np.round(left @ right, 6) + 0.0
    array([[3., 0.],
           [0., 0.]])
    """
    left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    roots = np.sqrt(sizes[:rank])
    return left[:, :rank] * roots, roots[:, None] * right[:rank]


def _stacks(path: str) -> Iterator[tuple[str, int]]:
    """Yields the stacks that a path passes through, each with the number of the layer."""
    parts = path.split("/")
    for place, part in enumerate(parts):
        if match := _NUMBERED.fullmatch(part):
            yield "/".join([*parts[:place], match[1]]), int(match[2])


def _depths(paths: dict[str, keras.Variable]) -> dict[str, int]:
    """The number of layers of each stack."""
    depths: dict[str, int] = {}
    for path in paths:
        for stack, number in _stacks(path):
            depths[stack] = max(depths.get(stack, 0), number + 1)
    return depths


def _sources(
    path: str, own: dict[str, int], theirs: dict[str, int], layers: Literal["spread", "average"]
) -> list[str]:
    """The paths of the variables whose mean initialises the one at `path`."""
    stack = next(iter(_stacks(path)), None)
    if stack is None or stack[0] not in theirs:
        return [path]
    name, number = stack
    own_depth, depth = own[name], theirs[name]
    blocks = name.removesuffix("norm") + "block"
    if (own.get(blocks), theirs.get(blocks)) == (own_depth - 1, depth - 1):
        # One norm precedes each block and goes with it; one more follows the last block.
        own_depth, depth = own_depth - 1, depth - 1
    numbers = [depth] if number == own_depth else _layers_for(number, own_depth, depth, layers)
    rest = path.removeprefix(f"{name}_{number}")
    return [f"{name}_{each}{rest}" for each in numbers]


def _layers_for(
    number: int, own_depth: int, depth: int, layers: Literal["spread", "average"]
) -> list[int]:
    """The layers of a stack of `depth` layers that initialise layer `number` of `own_depth`."""
    if own_depth >= depth:
        return [number] if number < depth else []
    if layers == "average":
        return np.array_split(np.arange(depth), own_depth)[number].tolist()
    return [round(number * (depth - 1) / max(own_depth - 1, 1))]


class _Tokens:
    """Copies values; along an axis of tokens, each token takes the values of the same piece."""

    def __init__(self, own: Tokenizer, other: Tokenizer) -> None:
        self._other_size = other.vocab_size
        self._is_same = own.pieces == other.pieces
        places = {piece: number for number, piece in enumerate(other.pieces)}
        shared = [
            (number, number if number < FIRST_PIECE_ID else places[piece])
            for number, piece in enumerate(own.pieces)
            if number < FIRST_PIECE_ID or piece in places
        ]
        self._to, self._from = np.transpose(shared)

    def copy(self, path: str, variable: keras.Variable, sources: Sequence[np.ndarray]) -> int:
        """Assigns the mean of the sources whose shape fits; returns how many weights it set."""
        axis = _token_axis(path, len(variable.shape))
        values = np.array(variable)
        if axis is None or self._is_same:
            fitting = [source for source in sources if source.shape == values.shape]
            if not fitting:
                return 0
            variable.assign(np.mean(fitting, 0))
            return values.size
        expected = list(values.shape)
        expected[axis] = self._other_size
        fitting = [source for source in sources if source.shape == tuple(expected)]
        if not fitting:
            return 0
        rows = np.moveaxis(values, axis, 0)
        rows[self._to] = np.moveaxis(np.mean(fitting, 0), axis, 0)[self._from]
        variable.assign(values)
        return rows[self._to].size


def _token_axis(path: str, rank: int) -> int | None:
    """The axis of tokens: the first one of an embedding, the last one of an output."""
    if not path.startswith(_OF_TOKENS):
        return None
    return 0 if path.startswith(_EMBEDDING) else rank - 1
