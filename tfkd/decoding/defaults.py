"""What a search does where its settings are left alone."""

from __future__ import annotations

from dataclasses import replace

from tfkd.config import DecodingConfig, SystemConfig

# Chosen on validation data of two corpora: docs/decisions/0011-search-and-exports.md.
CTC_WEIGHT = 0.3


def resolved(decoding: DecodingConfig, system: SystemConfig) -> DecodingConfig:
    """Fills in the settings that are null, for a recogniser that `system` describes.

    - `fusion.ctc_weight` is `CTC_WEIGHT` where the CTC head was trained, else 0.
    - `normalisation` is "mean" where a language model joins and no length penalty is chosen, else
      "gnmt". Each token costs probability, and with a language model twice: without a reward for
      length the best sentence is the shortest.
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
    """Like `resolved`, but CTC joins only where its weight is given.

    This is the search that validates each epoch: every epoch pays for it, and it shows how well
    attention, which needs longer than CTC to learn, has learned by itself.
    """
    fusion = replace(decoding.fusion, ctc_weight=decoding.fusion.ctc_weight or 0.0)
    return resolved(replace(decoding, fusion=fusion), system)
