"""Settings that several commands read from their options."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from tfkd.errors import ConfigError

if TYPE_CHECKING:
    from tfkd.config import PrepareConfig


def prepare_settings(options: argparse.Namespace) -> PrepareConfig:
    """The `prepare` section of --config, and what --max-rejected-share says."""
    from tfkd.config import PrepareConfig, load_run_config, validate

    config = load_run_config(options.config).prepare if options.config else PrepareConfig()
    if options.max_rejected_share is not None:
        config = dataclasses.replace(config, max_rejected_share=options.max_rejected_share)
        validate(config)
    return config


def own_options(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those of a command's own options that were given.

    Raises:
      ConfigError: if --set names one of them, too.
    """
    for override in options.set:
        key = override.partition("=")[0]
        if key in names:
            remedy = f"use --{key.replace('_', '-')}"
            raise ConfigError(f"--set {override}: has an option of its own", remedy=remedy)
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def search_overrides(options: argparse.Namespace) -> list[str]:
    """What --decoding and --set say; the latter wins."""
    from tfkd.config import overrides_of
    from tfkd.strict_yaml import read_yaml

    kept = overrides_of(read_yaml(options.decoding)) if options.decoding else []
    return [*kept, *options.set]
