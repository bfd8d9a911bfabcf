"""Reads settings from YAML, strictly, writes them back, and applies overrides.

A field whose type is a union of config classes is a *tagged union*: each class has a field `kind`,
and the `kind` in the file chooses the class. Without one the first class of the union is meant, so
configs that were written before there was a choice are read as they were:

    class EncoderConfig:
        kind: Literal["recurrent"] = field(default="recurrent", metadata=LATER)
    class ConformerConfig:
        kind: Literal["conformer"] = "conformer"
    class ModelConfig:
        encoder: EncoderConfig | ConformerConfig = field(default_factory=EncoderConfig)
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import operator
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

from tfkd.config.bounds import default_of, is_later
from tfkd.config.checks import validate
from tfkd.config.job import RunConfig, SystemConfig
from tfkd.config.objective import ObjectiveConfig
from tfkd.config.preparation import PrepareConfig
from tfkd.config.strict_yaml import parse_yaml, read_yaml
from tfkd.errors import ConfigError, did_you_mean
from tfkd.storage.files import sha256_of_text
from tfkd.storage.json_files import parse_json

# No setting has a use for more; the product of two such numbers still fits 64 bits.
_LARGEST = 2**31 - 1

T = TypeVar("T")


def load_run_config(path: str | Path, overrides: typing.Sequence[str] = ()) -> RunConfig:
    """Reads a run config and applies `key.path=value` overrides, whose values are YAML.

    Where a role or one of `sweep.students` names a YAML file, relative to the config, that file
    describes the system; of a run config it is the system of the same role. A file that an override
    names is relative to the current folder.

    >>> load_run_config("configs/digits.yaml", ["labels.beam_width=16"]).labels.beam_width
    16
    """
    content = apply_overrides(_read_config(path), [*map(_with_systems, overrides)])
    return from_dict(RunConfig, content, path=path)


def load_system_configs(path: str | Path) -> dict[str, SystemConfig]:
    """Reads the systems of a file: `teacher` and `student` of a run config, or its only one."""
    content = _read_config(path)
    if _is_run(content):
        run = from_dict(RunConfig, content, path=path)
        return run.systems
    return {Path(path).stem: from_dict(SystemConfig, content, path=path)}


def load_system_config(
    path: str | Path,
    role: Literal["teacher", "student"],
    overrides: typing.Sequence[str] = (),
) -> SystemConfig:
    """Reads one system: a file of its own, or the `role` section of a run config.

    Args:
      overrides: `key.path=value` settings of that system to change, whose values are YAML.

    >>> load_system_config("configs/digits.yaml", "student").training.objective.kind
    'seq_kd'
    """
    systems = load_system_configs(path)
    if _is_run(read_yaml(path)) and role not in systems:
        raise ConfigError(
            f"{role}: is trained already, so there are no settings to train it with",
            path=path,
            remedy="name the config of the system that is to be trained",
        )
    system = systems[role] if role in systems else next(iter(systems.values()))
    return with_overrides(system, overrides)


def load_prepare_config(path: str | Path) -> PrepareConfig | None:
    """Reads the `prepare` section of a run config; None if the file describes one system."""
    content = _read_config(path)
    return from_dict(RunConfig, content, path=path).prepare if _is_run(content) else None


_ROLES = ("teacher", "student", "next_teacher")


def _read_config(path: str | Path) -> dict[str, Any]:
    """Reads a config, with the files that describe its systems put in their places."""
    return _with_files(read_yaml(path), path)


def _with_files(content: dict[str, Any], config: str | Path) -> dict[str, Any]:
    """Puts the files that describe systems, relative to `config`, in their places."""
    for role in _ROLES:
        if role in content:
            content[role] = _read_system(content[role], role, config)
    sweep = content.get("sweep")
    students = sweep.get("students") if isinstance(sweep, dict) else None
    if isinstance(students, dict):
        for name, value in students.items():
            students[name] = _read_system(value, "student", config)
    return content


def _read_system(value: Any, role: str, config: str | Path) -> Any:
    """Reads the file that describes a system, if `value` is the path of one."""
    if not (isinstance(value, str) and value.endswith((".yaml", ".yml"))):
        return value
    path = Path(config).parent / value
    content = read_yaml(path)
    if not _is_run(content):
        return content
    if role not in content:
        raise ConfigError(
            f"describes a job without {role}",
            path=path,
            remedy=f"name the file of the {role} alone, or a job that has one",
        )
    return _read_system(content[role], role, path)


def _with_systems(override: str) -> str:
    """Puts the files that describe systems, if an override names some, in their places."""
    given = apply_overrides({}, [override])
    read = _with_files(apply_overrides({}, [override]), Path("command-line"))  # in this folder
    if read == given:
        return override
    key, _, _ = override.partition("=")
    value = functools.reduce(operator.getitem, key.split("."), read)
    return f"{key}={json.dumps(value, ensure_ascii=False)}"


def _is_run(content: dict[str, Any]) -> bool:
    return "teacher" in content or "student" in content


def overrides_of(content: dict[str, Any], at: str = "") -> list[str]:
    """Returns the content of a config as `key.path=value` overrides."""
    overrides = []
    for key, value in content.items():
        if isinstance(value, dict):
            overrides += overrides_of(value, f"{at}{key}.")
        else:
            overrides.append(f"{at}{key}={json.dumps(value)}")
    return overrides


def with_overrides(config: T, overrides: typing.Sequence[str]) -> T:
    """Returns the config with `key.path=value` settings changed, whose values are YAML.

    Where an override chooses another `kind`, settings that the config leaves at their defaults take
    the defaults of the new kind.

    Raises:
      ConfigError: for an unknown key, or a value that does not fit.
    """
    return from_dict(type(config), apply_overrides(_changed_settings(config), overrides))


def _changed_settings(config: Any) -> dict[str, Any]:
    """Returns the settings that differ from their defaults, and every `kind`."""
    settings = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name == "kind" or value != default_of(field):
            settings[field.name] = _changed_value(value)
    return settings


def _changed_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_changed_value(item) for item in value]
    if isinstance(value, dict):
        return {key: _changed_value(item) for key, item in value.items()}
    return _changed_settings(value) if dataclasses.is_dataclass(value) else value


def from_dict(kind: type[T], values: Any, *, path: str | Path | None = None, at: str = "") -> T:
    """Builds the dataclass `kind` from nested mappings, strictly.

    Raises:
      ConfigError: for an unknown key (with the nearest valid one) or a value of another type.
    """
    if not isinstance(values, dict):
        raise ConfigError(
            f"{at or 'config'}: expected a mapping, got {values!r}", path=path, remedy=_MAPPING
        )
    hints = typing.get_type_hints(kind)
    arguments = {}
    for key, value in _with_moved_settings(kind, values).items():
        name = f"{at}.{key}" if at else str(key)
        if key not in hints:
            raise ConfigError(f"unknown key {name!r}", path=path, remedy=_suggestion(key, hints))
        arguments[key] = _convert(hints[key], value, path=path, at=name)
    config = kind(**arguments)
    validate(config, path=path, at=at)
    return config


# Remedies for values of another type.
_MAPPING = "give its settings below it, as key: value"
_KINDS = {
    bool: "write true or false",
    int: "give a whole number",
    float: "give a number",
    str: "give a text, in quotes if it looks like something else",
}

# Settings that stood beside a section of their class before they moved into it.
_MOVED: dict[type, dict[str, str]] = {ObjectiveConfig: {"drop_unfinished": "filters"}}


def _with_moved_settings(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Moves settings of earlier versions to where they are now, so that older runs can be read."""
    for key, section in _MOVED.get(kind, {}).items():
        if key in values:
            others = {name: value for name, value in values.items() if name != key}
            values = {**others, section: {key: values[key], **others.get(section, {})}}
    return values


def to_dict(config: Any) -> dict[str, Any]:
    """Returns the config as plain mappings and lists, which YAML and JSON can write."""
    return parse_json(json.dumps(dataclasses.asdict(config)))


def to_yaml(config: Any) -> str:
    """Returns the config with all its settings as YAML text."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def config_digest(*configs: Any) -> str:
    """Returns a sha256 that identifies configs: the same settings give the same digest.

    A setting that was added later (`number(..., is_later=True)` or `metadata=LATER`) counts only
    where it differs from its default, so what was computed before it existed stays finished. Its
    default must therefore mean what the code did before.
    """
    return sha256_of_text(json.dumps([_identifying_settings(c) for c in configs], sort_keys=True))


def _identifying_settings(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_identifying_settings(item) for item in value]
    if isinstance(value, dict):
        return {key: _identifying_settings(item) for key, item in value.items()}
    if not dataclasses.is_dataclass(value):
        return value
    return {
        field.name: _identifying_settings(getattr(value, field.name))
        for field in dataclasses.fields(value)
        if not is_later(field) or getattr(value, field.name) != default_of(field)
    }


def apply_overrides(content: dict[str, Any], overrides: typing.Sequence[str]) -> dict[str, Any]:
    """Changes `key.path=value` settings of a config's content, whose values are YAML.

    Raises:
      ConfigError: if an override is malformed, or its path leads through a value.
    """
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key:
            raise ConfigError(
                f"--set {override!r} is not key=value",
                remedy="write it as --set training.epochs=20",
            )
        node = content
        *parents, leaf = key.split(".")
        for parent in parents:
            section = node.get(parent)
            if section is None:  # A section that is off is null.
                section = {}
            if not isinstance(section, dict):
                raise ConfigError(
                    f"--set {override!r}: {parent!r} is not a section",
                    remedy=f"name a setting, which has {parent!r} as its last word",
                )
            # A YAML alias makes one section stand in several places, of which one is meant.
            node[parent] = dict(section)
            node = node[parent]
        try:
            node[leaf] = parse_yaml(value)
        except ConfigError as error:
            raise ConfigError(
                f"--set {override!r}: {error.message}", remedy=error.remedy
            ) from error
    return content


def _suggestion(key: Any, valid: dict[str, Any]) -> str:
    return did_you_mean(str(key), valid) or f"valid keys: {', '.join(valid)}"


def _convert(hint: Any, value: Any, *, path: str | Path | None, at: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, path=path, at=at)
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        is_name = isinstance(value, str) and str in choices  # in place of a section
        if is_name or value is None and types.NoneType in choices:
            return value
        given = [each for each in choices if each not in (types.NoneType, str)] or [str]
        chosen = given[0] if len(given) == 1 else _class_of_kind(given, value, path=path, at=at)
        return _convert(chosen, value, path=path, at=at)
    if origin is Literal:
        if value not in choices:
            raise ConfigError(
                f"{at}: {value!r} is none of {', '.join(choices)}",
                path=path,
                remedy=did_you_mean(str(value), choices) or "choose one of them",
            )
        return value
    if hint is Any:
        return value
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(
                f"{at}: expected a mapping, got {value!r}", path=path, remedy=_MAPPING
            )
        return {
            str(key): _convert(choices[1], item, path=path, at=f"{at}.{key}")
            for key, item in value.items()
        }
    if origin is tuple:
        if choices[0] is str and isinstance(value, str):
            value = [value]  # One name stands for a list of it.
        if not isinstance(value, (list, tuple)):
            raise ConfigError(
                f"{at}: expected a list, got {value!r}", path=path, remedy="write it as [a, b]"
            )
        return tuple(_convert(choices[0], item, path=path, at=at) for item in value)
    return _scalar(hint, value, path=path, at=at)


def _class_of_kind(classes: list[type], value: Any, *, path: str | Path | None, at: str) -> type:
    """Returns the class of a tagged union that `kind` names; the first if it names none."""
    if not isinstance(value, dict) or "kind" not in value:
        return classes[0]
    by_kind = {
        kind: each
        for each in classes
        for kind in typing.get_args(typing.get_type_hints(each).get("kind"))
    }
    kind = value["kind"]
    if not isinstance(kind, str) or kind not in by_kind:
        why = f"{at}.kind: {kind!r} is none of {', '.join(by_kind)}"
        raise ConfigError(
            why, path=path, remedy=did_you_mean(str(kind), by_kind) or "choose one of them"
        )
    return by_kind[kind]


def _scalar(hint: type, value: Any, *, path: str | Path | None, at: str) -> Any:
    # YAML 1.1 reads 1e-3 as text.
    is_number = isinstance(value, (int, str)) and not isinstance(value, bool)
    if hint is float and is_number:
        try:
            value = float(value)
        except (ValueError, OverflowError) as error:
            raise ConfigError(
                f"{at}: {value!r} is not a number", path=path, remedy=_KINDS[float]
            ) from error
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(
            f"{at}: expected {hint.__name__}, got {value!r}", path=path, remedy=_KINDS.get(hint)
        )
    if isinstance(value, float) and not math.isfinite(value):
        # A limit cannot catch it: no comparison with NaN holds.
        raise ConfigError(f"{at}: {value} is not a finite number", path=path, remedy=_KINDS[float])
    if isinstance(value, (int, float)) and abs(value) > _LARGEST:
        raise ConfigError(f"{at}: {value} is too large", path=path, remedy="give a smaller number")
    return value
