"""Reads settings from options that several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from tfkd.errors import ConfigError

if TYPE_CHECKING:
    from tfkd.config import PrepareConfig


def prepare_settings(options: argparse.Namespace) -> PrepareConfig:
    """Reads the `prepare` section of --config, overridden by --set and the command's options."""
    from tfkd.config import PrepareConfig, load_run_config, with_overrides

    take_section(options, "prepare")
    config = load_run_config(options.config).prepare if options.config else PrepareConfig()
    own = own_options(options, "max_rejected_share")
    if getattr(options, "allow_commands", None):
        own["allow_commands"] = "true"
    return with_overrides(config, [*options.set, *(f"{k}={v}" for k, v in own.items())])


def own_options(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Collects the options of a command that were given.

    Raises:
      ConfigError: if --set names the setting of one of them.
    """
    for name in names:
        refuse_set(options, name, name)
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def refuse_set(options: argparse.Namespace, key: str, option: str) -> None:
    """Raises ConfigError if --set names a setting that has an option of its own."""
    for override in options.set:
        if override.partition("=")[0] == key:
            remedy = f"use --{option.replace('_', '-')}"
            raise ConfigError(f"--set {override}: this setting has an option", remedy=remedy)


def take_section(options: argparse.Namespace, section: str) -> None:
    """Lets --set name the section that the command reads, as in a config of a whole job."""
    options.set = [override.removeprefix(f"{section}.") for override in options.set]


def search_overrides(options: argparse.Namespace) -> list[str]:
    """Reads the overrides of --decoding and --set; the latter wins."""
    from tfkd.config import overrides_of
    from tfkd.config.strict_yaml import read_yaml

    kept = overrides_of(read_yaml(options.decoding)) if options.decoding else []
    return [*kept, *options.set]
