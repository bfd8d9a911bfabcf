"""Fills in the settings of a search that are null."""

from __future__ import annotations

from dataclasses import replace

from tfkd.config import DecodingConfig, SystemConfig

# Chosen on validation data of two corpora: docs/decisions/0011-search-and-exports.md.
CTC_WEIGHT = 0.3


def resolved(decoding: DecodingConfig, system: SystemConfig) -> DecodingConfig:
    """Fills in the settings that are null, for a recogniser that `system` describes.

    - `fusion.ctc_weight` becomes `CTC_WEIGHT` if the CTC head was trained, else 0.
    - `normalisation` becomes "mean" with a language model and no length penalty, else "gnmt". Each
      token lowers the score, with a language model twice; without normalisation the search would
      prefer sentences that are too short.
    """
    fusion = decoding.fusion
    if fusion.ctc_weight is None:
        is_trained = system.model.ctc and system.training.ctc_weight > 0
        fusion = replace(fusion, ctc_weight=CTC_WEIGHT if is_trained else 0.0)
    normalisation = decoding.normalisation
    if normalisation is None:
        rewards_length = fusion.lm_weight > 0 and not decoding.length_penalty
        normalisation = "mean" if rewards_length else "gnmt"
    return replace(decoding, fusion=fusion, normalisation=normalisation)


def resolved_without_ctc(decoding: DecodingConfig, system: SystemConfig) -> DecodingConfig:
    """Like `resolved`, but CTC takes part only if its weight is given.

    Training validates each epoch with this search: it is faster, and it shows how well attention,
    which learns more slowly than CTC, works by itself.
    """
    fusion = replace(decoding.fusion, ctc_weight=decoding.fusion.ctc_weight or 0.0)
    return resolved(replace(decoding, fusion=fusion), system)
