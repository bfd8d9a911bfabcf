"""Settings that several commands read from their options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from tfkd.errors import ConfigError

if TYPE_CHECKING:
    from tfkd.config import PrepareConfig


def prepare_settings(options: argparse.Namespace) -> PrepareConfig:
    """The `prepare` section of --config, with what --set and the command's options say."""
    from tfkd.config import PrepareConfig, load_run_config, with_overrides

    config = load_run_config(options.config).prepare if options.config else PrepareConfig()
    own = own_options(options, "max_rejected_share")
    if getattr(options, "allow_commands", None):
        own["allow_commands"] = "true"
    return with_overrides(config, [*options.set, *(f"{k}={v}" for k, v in own.items())])


def own_options(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Collects those of a command's own options that were given.

    Raises:
      ConfigError: if --set names one of them, too.
    """
    for name in names:
        refuse_set(options, name, name)
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def refuse_set(options: argparse.Namespace, key: str, option: str) -> None:
    """Raises ConfigError if --set names a setting that has an option of its own."""
    for override in options.set:
        if override.partition("=")[0] == key:
            remedy = f"use --{option.replace('_', '-')}"
            raise ConfigError(f"--set {override}: has an option of its own", remedy=remedy)


def search_overrides(options: argparse.Namespace) -> list[str]:
    """Reads the overrides of --decoding and --set; the latter wins."""
    from tfkd.config import overrides_of
    from tfkd.config.strict_yaml import read_yaml

    kept = overrides_of(read_yaml(options.decoding)) if options.decoding else []
    return [*kept, *options.set]
