"""Ranges of the settings, and those that depend on one another."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from tfkd.config.settings import (
    DecodingConfig,
    EncoderConfig,
    ExportConfig,
    FilterConfig,
    FrontendConfig,
    FusionConfig,
    LabelConfig,
    PrepareConfig,
    RunConfig,
    SystemConfig,
    TokenizerConfig,
    TrainingConfig,
)
from tfkd.errors import ConfigError

# The smallest value of numeric settings that have one, by field name.
_AT_LEAST: dict[str, float] = {
    "sample_rate_hz": 1000, "min_seconds": 0, "max_seconds": 0.01, "shard_size": 1,
    "num_mels": 1, "window_ms": 1, "hop_ms": 1, "min_hz": 0, "delta_orders": 0,
    "frequency_masks": 0, "max_frequency_width": 0, "time_masks": 0, "max_time_share": 0,
    "time_reduction": 1, "conv_units": 1, "layers": 1, "units": 1, "dropout": 0,
    "location_filters": 1, "location_width": 1, "embedding_units": 1, "beam_width": 1,
    "num_hypotheses": 1, "length_penalty": 0, "max_tokens": 1, "epochs": 1, "batch_size": 1,
    "validation_beam_width": 1,
    "learning_rate": 0, "final_learning_rate": 0, "warmup_steps": 0, "clip_norm": 0,
    "label_smoothing": 0, "ctc_weight": 0, "lm_weight": 0, "patience": 1,
    "checkpoint_minutes": 0, "vocab_size": 5, "temperature": 1e-3, "parity_utterances": 1,
    "max_wer_change": 0, "max_rejected_share": 0, "coverage_penalty": 0, "min_tokens": 1,
    "eos_threshold": 0, "no_repeat_ngram": 0, "max_tokens_per_second": 0.1,
    "max_repeats": 1, "max_compression_ratio": 0, "min_characters_per_second": 0,
    "max_characters_per_second": 0, "min_coverage": 0, "max_backward_share": 0,
    "backward_tolerance_seconds": 0, "max_disagreement": 0, "max_wer": 0, "seed": 0,
}  # fmt: skip
_BELOW_ONE = {"dropout", "label_smoothing"}
_WIDEST_BEAM = 64
# Above the latter rates are written in tens of hertz (RFC 9639, 9.1.2).
_MOST_FLAC_HZ, _MOST_ODD_FLAC_HZ = 655_350, 65_535


def check_labelling(
    labels: LabelConfig, teacher: SystemConfig, *, path: str | Path | None = None
) -> None:
    """Checks what a teacher is asked to label with.

    Raises:
      ConfigError: for the first setting of its search that is out of range, or needs another model.
    """
    validate(labels.decoding(teacher.decoding), path=path, at="labels")
    if labels.fusion.ctc_weight > 0 and not teacher.model.ctc:
        raise ConfigError("labels.fusion.ctc_weight: needs model.ctc: true", path=path)


def validate(config: Any, *, path: str | Path | None = None, at: str = "") -> None:
    """Checks ranges and the settings that depend on one another.

    Raises:
      ConfigError: for the first setting that is out of range.
    """

    def refuse(key: str, why: str) -> NoReturn:
        raise ConfigError(f"{at}.{key}: {why}" if at else f"{key}: {why}", path=path)

    for key, value in vars(config).items():
        least = _AT_LEAST.get(key)
        if least is not None and value is not None and value < least:
            refuse(key, f"{value} is below {least}")
        if key in _BELOW_ONE and value >= 1:
            refuse(key, f"{value} is not below 1")
    is_mean = getattr(config, "normalisation", None) == "mean"
    if is_mean and config.length_penalty:
        refuse("length_penalty", "has no meaning beside normalisation: mean")
    match config:
        case DecodingConfig() | LabelConfig() | ExportConfig():
            if config.beam_width > _WIDEST_BEAM:
                refuse("beam_width", f"{config.beam_width} is above {_WIDEST_BEAM}")
            if config.num_hypotheses > config.beam_width:
                refuse("num_hypotheses", "cannot exceed beam_width")
            if isinstance(config, DecodingConfig) and config.min_tokens > config.max_tokens:
                refuse("min_tokens", "cannot exceed max_tokens")
        case FusionConfig():
            if config.lm_weight > 0 and config.lm is None:
                refuse("lm_weight", "needs lm, the language model")
        case FrontendConfig():
            if not config.min_hz < config.max_hz <= config.sample_rate_hz / 2:
                refuse("max_hz", "must lie above min_hz and at most at half the sample rate")
            if config.delta_orders > 2:
                refuse("delta_orders", "must be 0, 1 or 2")
        case EncoderConfig():
            if config.time_reduction & (config.time_reduction - 1):
                refuse("time_reduction", "must be a power of two")
        case FilterConfig():
            slowest, fastest = config.min_characters_per_second, config.max_characters_per_second
            if slowest is not None and fastest is not None and slowest > fastest:
                refuse("min_characters_per_second", "exceeds max_characters_per_second")
        case TokenizerConfig():
            if config.kind == "sentencepiece" and config.vocab_size is None:
                refuse("vocab_size", "SentencePiece needs one")
        case TrainingConfig():
            if not config.speed_factors or not min(config.speed_factors) >= 0.5:
                refuse("speed_factors", "needs at least one factor, each 0.5 or more")
            if max(config.speed_factors) > 2:
                refuse("speed_factors", "needs factors of 2 or less")
            if config.learning_rate <= 0:
                refuse("learning_rate", "must be above 0")
            if config.final_learning_rate > config.learning_rate:
                refuse("final_learning_rate", "cannot exceed learning_rate")
            if config.ctc_weight > 1:
                refuse("ctc_weight", "is a share of the loss: at most 1")
            if config.validation_beam_width > _WIDEST_BEAM:
                refuse("validation_beam_width", f"is above {_WIDEST_BEAM}")
            if config.xla and config.distribution != "none":
                refuse("xla", "needs distribution: none")
        case PrepareConfig():
            rate_hz = config.sample_rate_hz
            if rate_hz > _MOST_FLAC_HZ or rate_hz > _MOST_ODD_FLAC_HZ and rate_hz % 10:
                refuse("sample_rate_hz", f"FLAC, which keeps the audio, has no {rate_hz} Hz")
            if config.max_rejected_share > 1:
                refuse("max_rejected_share", "is a share: at most 1")
            if config.min_seconds >= config.max_seconds:
                refuse("min_seconds", "must be below max_seconds")
        case SystemConfig():
            if config.training.ctc_weight > 0 and not config.model.ctc:
                refuse("training.ctc_weight", "needs model.ctc: true")
            if config.decoding.fusion.ctc_weight > 0 and not config.model.ctc:
                refuse("decoding.fusion.ctc_weight", "needs model.ctc: true")
        case RunConfig():
            check_labelling(config.labels, config.teacher, path=path)
            takes, is_given = config.export.max_seconds, config.prepare.max_seconds
            is_for_device = any(form.startswith("tflite") for form in config.export.formats)
            if is_for_device and takes < is_given:
                refuse("export.max_seconds", f"{takes:g} is below prepare's, {is_given:g}")
            for role in ("teacher", "student"):
                rate = getattr(config, role).model.frontend.sample_rate_hz
                if rate != config.prepare.sample_rate_hz:
                    refuse(f"{role}.model.frontend.sample_rate_hz", "differs from prepare's")
