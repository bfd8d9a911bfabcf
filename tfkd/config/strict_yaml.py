"""Reads YAML, and refuses it where it is ambiguous or could exhaust the memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tfkd.errors import ConfigError

_MAX_BYTES = 256 * 1024
# An alias costs a few bytes and stands for a whole section: ten of them, nested, for 10^10 values.
_MAX_VALUES = 10_000
# PyYAML takes n steps for each character of sequences that are nested n deep.
_MAX_DEPTH = 50
_MAX_DIGITS = 100
# Dates, sets and other values that YAML tells by their looks cannot be written as JSON.
_SCALARS = {"str", "int", "float", "bool", "null", "merge"}
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_OCTAL = re.compile("[-+]?0[0-7_]+")
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Reads a YAML mapping.

    Raises:
      ConfigError: if the file is missing, is not YAML, is not a mapping, names a key twice, or is
        far larger than a config can be.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot read the config: {error}", path=path, remedy="check its path and permissions"
        ) from error
    if len(data) > _MAX_BYTES:
        raise ConfigError(
            f"is no config: it has more than {_MAX_BYTES} bytes",
            path=path,
            remedy="name a YAML file of settings",
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"cannot read the config: {error}", path=path, remedy="save it as UTF-8"
        ) from error
    try:
        content = parse_yaml(text)
    except ConfigError as error:
        raise ConfigError(error.message, path=path, remedy=error.remedy) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            "a config is a mapping of keys to values", path=path, remedy="write it as key: value"
        )
    return content


def parse_yaml(text: str) -> Any:
    """Reads the value of a YAML document; None if it is empty.

    Raises:
      ConfigError: if it is not YAML, names a key twice, holds what UTF-8 cannot express, or stands
        for more values than a config can have.
    """
    try:
        node = yaml.compose(text, _ShallowLoader)
        if node is None:
            return None
        _count_values(node, {})
        return _construct(node)
    except ConfigError:
        raise
    except Exception as error:  # PyYAML raises whatever a bad date, number or tag happens to break.
        raise ConfigError(
            f"not valid YAML: {error}", remedy="correct it, or quote what is text"
        ) from error


class _ShallowLoader(yaml.SafeLoader):
    """A YAML loader that refuses documents that are nested more deeply than any config."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise ConfigError(
                "not valid YAML: nested too deeply", remedy="name a YAML file of settings"
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _construct(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _count_values(node: yaml.Node, counts: dict[yaml.Node, int]) -> int:
    """Counts the values of `node`, aliases followed; `counts` holds the nodes counted before."""
    if node not in counts:
        # A node that is met again before its count is known contains itself.
        counts[node] = _MAX_VALUES
        counts[node] = 1 + sum(_count_values(child, counts) for child in _children(node))
        if counts[node] > _MAX_VALUES:
            raise ConfigError(
                f"stands for more than {_MAX_VALUES} values, or for itself",
                remedy="write values out instead of aliases",
            )
    return counts[node]


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        _check_keys(node)
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.ScalarNode):
        _check_scalar(node)


def _check_scalar(node: yaml.ScalarNode) -> None:
    at = f"line {node.start_mark.line + 1}"
    if node.tag.rpartition(":")[2] not in _SCALARS:
        raise ConfigError(f"{at}: {node.value!r} is no setting's value", remedy="quote it as text")
    if node.tag in _NUMBERS and (other := _other_reading(node.value)):
        what, remedy = other
        raise ConfigError(f"{at}: {node.value!r} {what}", remedy=remedy)
    # Python prints no integer of thousands of digits, so no message could name it.
    if node.tag in _NUMBERS and len(node.value) > _MAX_DIGITS:
        raise ConfigError(
            f"{at}: a number of {len(node.value)} digits", remedy="give a smaller number"
        )
    if _UNWRITABLE.search(node.value):
        raise ConfigError(
            f"{at}: {node.value!r} holds a character that cannot be written", remedy="leave it out"
        )


def _other_reading(number: str) -> tuple[str, str] | None:
    """How YAML 1.1 reads a number that people read differently, and a remedy; None for others."""
    if ":" in number:
        return "would be a number to the base of 60", "write out seconds, or quote it as text"
    if _OCTAL.fullmatch(number):
        return "would be octal", "leave out the leading zero, or quote it as text"
    return None


def _check_keys(node: yaml.MappingNode) -> None:
    """Refuses equal keys, of which YAML would silently use the last."""
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                line = key.start_mark.line + 1
                raise ConfigError(
                    f"line {line}: the key {key.value!r} is given twice", remedy="leave out one"
                )
            seen.add(key.value)
