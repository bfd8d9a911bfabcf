"""Begins a training from the weights of another run: its teacher's, or those of an earlier one."""

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

# One of several layers of a kind, such as recurrent_2: its kind and its number.
_NUMBERED = re.compile(r"(.+)_(\d+)")
# What has an axis of tokens, by the beginning of a part of its path.
_OF_TOKENS = ("embedding", "output", "ctc")


@dataclass(frozen=True)
class Taken:
    """What a model took from another.

    Attributes:
      share: of its trainable weights that were taken.
      anew: paths of the variables of which nothing, or not every token, was taken.
    """

    share: float
    anew: tuple[str, ...]


def begin_from(
    model: Recogniser,
    tokenizer: Tokenizer,
    run: Run,
    layers: Literal["spread", "average"] = "spread",
) -> Taken:
    """Gives a model the weights of a run wherever their shapes allow; others stay as they are.

    A shallower stack of layers takes layers of a deeper one: evenly spread ones, the first and the
    last among them ("spread"; Gandhi et al. 2023, arXiv:2311.00430, section 3), or the means of
    neighbours ("average"). Weights of tokens follow their pieces, so the tokenizers may differ. The
    statistics of the features are taken if the frontends are alike.

    Raises:
      TrainingError: if nothing fits.

    >>> run = tfkd.load_run("work/teacher")
    >>> model = tfkd.Recogniser(run.system.model, run.tokenizer.vocab_size)
    >>> begin_from(model, run.tokenizer, run).share
    1.0
    """
    theirs = _by_path(run.model.trainable_variables)
    depths, own_depths = _depths(theirs), _depths(_by_path(model.trainable_variables))
    tokens = _Tokens(tokenizer, run.tokenizer)
    taken = total = 0
    anew = []
    for path, variable in _by_path(model.trainable_variables).items():
        total += variable.shape.num_elements()
        sources = [theirs[p] for p in _sources(path, own_depths, depths, layers) if p in theirs]
        count = tokens.copy(path, variable, [np.asarray(source) for source in sources])
        taken += count
        if count < variable.shape.num_elements():
            anew.append(path)
    if not taken:
        raise TrainingError(
            "no weight of it fits this model",
            path=run.directory,
            remedy="choose a model with the same kinds of layers and as many units",
        )
    if shares_frontend(model, run):
        for ours, other in zip(model.frontend.weights, run.model.frontend.weights, strict=True):
            ours.assign(other)
    return Taken(taken / total, tuple(anew))


def shares_frontend(model: Recogniser, run: Run) -> bool:
    """Whether both hear the same features, so that the run's statistics of them fit."""
    return model.config.frontend == run.model.config.frontend


def _by_path(variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    """Variables by their path below the model, whose own name may differ.

    Keras numbers layers without a name, such as conv1d_40, through the whole process; such numbers
    are left out. Layers of a stack are numbered from 0, which Keras never gives.
    """
    paths = [variable.path.split("/")[1:] for variable in variables]
    stacks = {
        (*parts[:place], match[1])
        for parts in paths
        for place, part in enumerate(parts)
        if (match := _NUMBERED.fullmatch(part)) and match[2] == "0"
    }
    found: dict[str, keras.Variable] = {}
    for parts, variable in zip(paths, variables):
        path = "/".join(
            match[1]
            if (match := _NUMBERED.fullmatch(part)) and (*parts[:place], match[1]) not in stacks
            else part
            for place, part in enumerate(parts)
        )
        while path in found:  # Layers of one name keep their order.
            path += "'"
        found[path] = variable
    return found


def _stacks(path: str) -> Iterator[tuple[str, int]]:
    """The stacks that a path leads through, each with the number of its layer there."""
    parts = path.split("/")
    for place, part in enumerate(parts):
        if match := _NUMBERED.fullmatch(part):
            yield "/".join([*parts[:place], match[1]]), int(match[2])


def _depths(paths: dict[str, keras.Variable]) -> dict[str, int]:
    """How many layers each stack has."""
    depths: dict[str, int] = {}
    for path in paths:
        for stack, number in _stacks(path):
            depths[stack] = max(depths.get(stack, 0), number + 1)
    return depths


def _sources(
    path: str, own: dict[str, int], theirs: dict[str, int], layers: Literal["spread", "average"]
) -> list[str]:
    """The paths from which a variable is taken; several of them are averaged."""
    stack = next(iter(_stacks(path)), None)
    if stack is None or stack[0] not in theirs:
        return [path]
    name, number = stack
    numbers = _layers_for(number, own[name], theirs[name], layers)
    rest = path.removeprefix(f"{name}_{number}")
    return [f"{name}_{each}{rest}" for each in numbers]


def _layers_for(
    number: int, own_depth: int, depth: int, layers: Literal["spread", "average"]
) -> list[int]:
    """Which layers of a stack of `depth` become layer `number` of one of `own_depth`."""
    if own_depth >= depth:
        return [number]
    if layers == "average":
        return np.array_split(np.arange(depth), own_depth)[number].tolist()
    return [round(number * (depth - 1) / max(own_depth - 1, 1))]


class _Tokens:
    """Copies values, whose axis of tokens, if they have one, follows the pieces."""

    def __init__(self, own: Tokenizer, other: Tokenizer) -> None:
        self._sizes = own.vocab_size, other.vocab_size
        self._is_same = own.pieces == other.pieces
        places = {piece: number for number, piece in enumerate(other.pieces)}
        shared = [
            (number, number if number < FIRST_PIECE_ID else places[piece])
            for number, piece in enumerate(own.pieces)
            if number < FIRST_PIECE_ID or piece in places
        ]
        self._to, self._from = np.transpose(shared)

    def copy(self, path: str, variable: keras.Variable, sources: Sequence[np.ndarray]) -> int:
        """Assigns the mean of what fits of `sources`; returns how many weights were taken."""
        axis = self._axis(path, variable.shape)
        values = np.array(variable)
        if axis is None or self._is_same:
            fitting = [source for source in sources if source.shape == values.shape]
            if not fitting:
                return 0
            variable.assign(np.mean(fitting, 0))
            return values.size
        expected = list(values.shape)
        expected[axis] = self._sizes[1]
        fitting = [source for source in sources if source.shape == tuple(expected)]
        if not fitting:
            return 0
        rows = np.moveaxis(values, axis, 0)
        rows[self._to] = np.moveaxis(np.mean(fitting, 0), axis, 0)[self._from]
        variable.assign(values)
        return rows[self._to].size

    def _axis(self, path: str, shape: Sequence[int]) -> int | None:
        """The axis of tokens: the first one of an embedding, the last one of an output."""
        parts = [part for part in path.split("/") if part.startswith(_OF_TOKENS)]
        if not parts:
            return None
        axis = 0 if parts[0].startswith("embedding") else len(shape) - 1
        return axis if shape[axis] == self._sizes[0] else None
