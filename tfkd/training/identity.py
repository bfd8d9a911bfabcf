"""Identifies a training by digests of all that its run depends on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfkd.config import SystemConfig, config_digest
from tfkd.decoding.defaults import resolved_without_ctc
from tfkd.decoding.runs import Run
from tfkd.distillation.units import units_sha256
from tfkd.language_models import language_model_sha256
from tfkd.records import Store
from tfkd.text import Tokenizer
from tfkd.training.sources import Source, identity_of


def without_circumstances(system: SystemConfig) -> SystemConfig:
    """Resets the settings that change how a training runs, but nothing that it learns.

    They are those of devices and of input workers.
    """
    training = dataclasses.replace(system.training, distribution="none", input_service=None)
    return dataclasses.replace(system, training=training)


def training_identity(
    system: SystemConfig,
    sources: Sequence[Source],
    valid_store: Store,
    initial: Run | None,
    tokenizer: Tokenizer | None,
) -> dict[str, str]:
    """Digests of all inputs that a run depends on.

    A resumed training may run in other circumstances, and a later version may have other defaults
    of the search; neither changes the identity.
    """
    decoding = resolved_without_ctc(system.decoding, system)
    fusion = decoding.fusion
    system = dataclasses.replace(without_circumstances(system), decoding=decoding)
    return {
        "config": config_digest(system),
        "train": identity_of(sources),
        "valid": valid_store.sha256,
        **({"initial": initial.sha256} if initial is not None else {}),
        **({"units": units_sha256(tokenizer)} if tokenizer is not None else {}),
        **(
            {"language_model": language_model_sha256(fusion.lm)}
            if fusion.lm is not None and fusion.lm_weight
            else {}
        ),
    }
