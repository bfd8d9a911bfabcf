"""Checks the bounds of settings, and settings that depend on each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from tfkd.config.augmentation import NoiseConfig, NonSpeechConfig
from tfkd.config.bounds import faults
from tfkd.config.decoding import DecodingConfig, FusionConfig
from tfkd.config.export import ExportConfig
from tfkd.config.job import CorporaConfig, RunConfig, SweepConfig, SystemConfig
from tfkd.config.labelling import WHISPER_PREFIX, LabelConfig, WhisperConfig
from tfkd.config.model import (
    ConvolutionalDecoderConfig,
    ConvolutionalEncoderConfig,
    FrontendConfig,
    ModelConfig,
    NoDecoderConfig,
    RawWaveformConfig,
    TransformerDecoderConfig,
    TransformerEncoderConfig,
)
from tfkd.config.objective import FilterConfig, ObjectiveConfig
from tfkd.config.preparation import PrepareConfig, TokenizerConfig
from tfkd.config.training import TrainingConfig
from tfkd.errors import ConfigError

# FLAC writes rates above this in tens of hertz (RFC 9639, 9.1.2).
_MOST_ODD_FLAC_HZ = 65_535
# `tfkd.device` pads audio no further.
_LONGEST_FIXED_SECONDS = 60
# What a mixture leaves to its parts.
_OF_HYPOTHESES = ("num_hypotheses", "choice", "weights", "temperature", "filters", "top_m")
_NO_ATTENTION = "must be 0 where model.decoder.kind is none, which has no attention"
_ADDRESS = re.compile(r"[\w.\-\[\]:]+:\d+")


def check_labelling(
    labels: LabelConfig,
    teacher: SystemConfig,
    *,
    role: str = "teacher",
    path: str | Path | None = None,
) -> None:
    """Checks the settings of labelling against those of a teacher.

    Args:
      role: where the teacher stands in the config, to name it.
    Raises:
      ConfigError: if a setting of the search is out of range, or the teacher's model lacks what it
        needs.
    """
    validate(labels.decoding(teacher.decoding), path=path, at="labels")
    if labels.fusion.ctc_weight and not teacher.model.ctc:
        raise ConfigError(
            f"labels.fusion.ctc_weight: needs {role}.model.ctc: true",
            path=path,
            remedy="set it to 0, or train a teacher with CTC",
        )
    is_ctc_alone = isinstance(teacher.model.decoder, NoDecoderConfig)
    if labels.fusion.ctc_weight and not teacher.training.ctc_weight:
        raise ConfigError(
            f"labels.fusion.ctc_weight: {role}.training.ctc_weight is 0, so the CTC head of {role} "
            "knows nothing",
            path=path,
            remedy="set it to 0, or train a teacher with CTC",
        )
    if labels.coverage_penalty and is_ctc_alone:
        raise ConfigError(
            f"labels.coverage_penalty: {role} has no attention, only CTC",
            path=path,
            remedy="set it to 0",
        )
    if labels.top_m and is_ctc_alone:
        raise ConfigError(
            f"labels.top_m: needs a decoder, which {role} lacks", path=path, remedy="set it to 0"
        )


def input_workers(url: str) -> list[str]:
    """The HOST:PORT of each worker that `training.input_service` names; none if it is no such URL.

    >>> input_workers("grpc://reader1:5051,reader2:5051")
    ['reader1:5051', 'reader2:5051']
    """
    scheme, _, rest = url.partition("://")
    addresses = [each.removeprefix("grpc://") for each in rest.split(",")]
    is_good = scheme == "grpc" and all(map(_ADDRESS.fullmatch, addresses))
    return addresses if is_good else []


def validate(config: Any, *, path: str | Path | None = None, at: str = "") -> None:
    """Checks bounds, and settings that depend on each other.

    Raises:
      ConfigError: names the first setting that is invalid.
    """

    def refuse(key: str, why: str) -> NoReturn:
        raise ConfigError(
            f"{at}.{key}: {why}" if at else f"{key}: {why}",
            path=path,
            remedy="change it, or the setting that it depends on",
        )

    for key, fault in faults(config):
        refuse(key, fault)
    reduction = getattr(config, "time_reduction", 1)
    if reduction & (reduction - 1):
        refuse("time_reduction", "must be a power of two")
    is_mean = getattr(config, "normalisation", None) == "mean"
    if is_mean and config.length_penalty:
        refuse("length_penalty", "has no meaning beside normalisation: mean")
    match config:
        case DecodingConfig() | LabelConfig() | ExportConfig():
            if config.num_hypotheses > config.beam_width:
                refuse("num_hypotheses", "cannot exceed beam_width")
            if isinstance(config, DecodingConfig) and config.min_tokens > config.max_tokens:
                refuse("min_tokens", "cannot exceed max_tokens")
            if (
                isinstance(config, ExportConfig)
                and config.fixed_length
                and config.max_seconds > _LONGEST_FIXED_SECONDS
            ):
                refuse("max_seconds", f"fixed_length takes {_LONGEST_FIXED_SECONDS} s at most")
        case FusionConfig():
            if config.lm_weight > 0 and config.lm is None:
                refuse("lm_weight", "needs lm, the language model")
        case FrontendConfig():
            if not config.min_hz < config.max_hz <= config.sample_rate_hz / 2:
                refuse("max_hz", "must lie above min_hz and at most at half the sample rate")
        case RawWaveformConfig():
            if config.filter_ms > config.window_ms:
                refuse("filter_ms", "cannot exceed window_ms")
        case TransformerEncoderConfig() | TransformerDecoderConfig():
            if config.units % (2 * config.heads):
                refuse("units", f"must be a multiple of twice the heads, {2 * config.heads}")
        case ConvolutionalEncoderConfig() | ConvolutionalDecoderConfig():
            if config.units % 2:
                refuse("units", "must be even")
        case ModelConfig():
            if isinstance(config.decoder, NoDecoderConfig) and not config.ctc:
                refuse("ctc", "must be true where decoder.kind is none")
        case FilterConfig():
            slowest, fastest = config.min_characters_per_second, config.max_characters_per_second
            if slowest is not None and fastest is not None and slowest > fastest:
                refuse("min_characters_per_second", "exceeds max_characters_per_second")
        case ObjectiveConfig():
            if config.kind == "mixture" and not config.parts:
                refuse("parts", "a mixture needs a list of objectives")
        case TokenizerConfig():
            if config.kind == "sentencepiece" and config.vocab_size is None:
                refuse("vocab_size", "SentencePiece needs one")
        case TrainingConfig():
            if not config.speed_factors:
                refuse("speed_factors", "needs at least one factor")
            if config.final_learning_rate > config.learning_rate:
                refuse("final_learning_rate", "cannot exceed learning_rate")
            if config.xla and config.distribution != "none":
                refuse("xla", "needs distribution: none")
            if config.input_service is not None and not input_workers(config.input_service):
                refuse("input_service", "is not like grpc://reader1:5051,reader2:5051")
        case PrepareConfig():
            rate_hz = config.sample_rate_hz
            if rate_hz > _MOST_ODD_FLAC_HZ and rate_hz % 10:
                refuse("sample_rate_hz", f"FLAC, which keeps the audio, has no {rate_hz} Hz")
            if config.min_seconds >= config.max_seconds:
                refuse("min_seconds", "must be below max_seconds")
            if config.piece_seconds is not None:
                if config.too_long != "split":
                    refuse("piece_seconds", "needs too_long: split")
                if config.piece_seconds > config.max_seconds:
                    refuse("piece_seconds", "cannot exceed max_seconds")
                if config.piece_seconds < 4 * config.min_seconds:  # See `cut_points`.
                    refuse("piece_seconds", "a quarter, the shortest piece, is below min_seconds")
        case NoiseConfig() | NonSpeechConfig():
            if config.share and not config.kinds:
                refuse("kinds", "needs at least one kind of sound")
        case SystemConfig():
            is_ctc_alone = isinstance(config.model.decoder, NoDecoderConfig)
            if is_ctc_alone and config.training.ctc_weight != 1:
                refuse("training.ctc_weight", "must be 1 where model.decoder.kind is none")
            objective = config.training.objective
            kinds = {objective.kind, *(part.kind for part in objective.parts)}
            if is_ctc_alone and "word_kd" in kinds:
                refuse("training.objective.kind", "word_kd needs a decoder to learn its steps")
            if config.training.ctc_weight > 0 and not config.model.ctc:
                refuse("training.ctc_weight", "needs model.ctc: true")
            if config.decoding.fusion.ctc_weight and not config.model.ctc:
                refuse("decoding.fusion.ctc_weight", "needs model.ctc: true")
        case CorporaConfig():
            if not config.train and not config.untranscribed:
                refuse("train", "names no corpus, and neither does untranscribed")
        case SweepConfig():
            if not config.seeds:
                refuse("seeds", "is empty, so no student would be trained")
            for key in (key for each in config.grid for key, tried in each.items() if not tried):
                refuse("grid", f"{key} has no value to try")
            if len(set(config.seeds)) < len(config.seeds):
                refuse("seeds", "names a seed twice, which would count as two")
        case RunConfig():
            for role, system in config.systems.items():
                for key, fault in faults_of_training(system):
                    refuse(f"{role}.{key}", fault)
            for key, fault in _faults_of_learning(config):
                refuse(key, fault)
            if isinstance(config.teacher, SystemConfig):
                check_labelling(config.labels, config.teacher, path=path)
                if config.labels.whisper != WhisperConfig():
                    refuse("labels.whisper", "has settings, but the teacher is no Whisper")
                if not config.corpora.train:
                    refuse("corpora.train", "is empty, but the teacher is to be trained")
            if config.generations > 1:
                role = "next_teacher" if config.next_teacher else "student"
                check_labelling(config.labels, config.systems[role], role=role, path=path)
            kept, kept_by_labels = config.prepare.text, config.labels.whisper
            is_whisper = str(config.teacher).startswith(WHISPER_PREFIX)
            if is_whisper and kept.extra_characters != kept_by_labels.extra_characters:
                refuse("labels.whisper.extra_characters", "differs from prepare.text's")
            takes, is_given = config.export.max_seconds, config.prepare.max_seconds
            if takes < is_given:
                refuse("export.max_seconds", f"{takes:g} is below prepare's, {is_given:g}")
            for role, system in config.systems.items():
                if system.model.frontend.sample_rate_hz != config.prepare.sample_rate_hz:
                    refuse(f"{role}.model.frontend.sample_rate_hz", "differs from prepare's")


def faults_of_training(system: SystemConfig) -> Iterator[tuple[str, str]]:
    """Finds settings that a training would pass over, or a search of its model refuse.

    Finished runs may have them: earlier versions passed over them. So `validate` does not look.

    Returns:
      The key of each setting, and what is wrong with it.
    """
    is_ctc_alone = isinstance(system.model.decoder, NoDecoderConfig)
    if system.decoding.coverage_penalty and is_ctc_alone:
        yield "decoding.coverage_penalty", _NO_ATTENTION
    ctc_weight = system.training.ctc_weight
    if system.decoding.fusion.ctc_weight and not ctc_weight:
        yield "decoding.fusion.ctc_weight", "needs training.ctc_weight, or the head learns nothing"
    if ctc_weight == 1 and not is_ctc_alone:
        yield "training.ctc_weight", "must be below 1, or the decoder learns nothing"
    objective, default = system.training.objective, ObjectiveConfig()
    if objective.kind != "mixture":
        return
    for name in _OF_HYPOTHESES:
        if getattr(objective, name) != getattr(default, name):
            yield f"training.objective.{name}", "a mixture has none; set it in its parts"
    if any(part.token_temperature != default.token_temperature for part in objective.parts):
        yield "training.objective.parts", "token_temperature is that of the mixture; set it there"


def _faults_of_learning(config: RunConfig) -> Iterator[tuple[str, str]]:
    """What a student of the job is to learn, but its labels or corpora will not hold."""
    has_transcripts, held = bool(config.corpora.train), config.labels.num_hypotheses
    if config.transcript_share and not has_transcripts:
        yield "transcript_share", "needs corpora.train, which has the transcripts"
    if "all" in config.baselines and config.student.training.objective.truth_audio == "filtered":
        key = "student.training.objective.truth_audio"
        yield key, "filtered needs hypotheses, and the baseline all reads none"
    for role, system in {"student": config.student, "next_teacher": config.next_teacher}.items():
        objective = ObjectiveConfig() if system is None else system.training.objective
        key = f"{role}.training.objective"
        # A job learns hypotheses where `truth` names no parts.
        has_parts = objective.kind in ("mixture", "truth") and objective.parts
        for each in objective.parts if has_parts else (objective,):
            if has_parts and each.kind == "truth":
                continue
            if each.num_hypotheses > held:
                yield f"{key}.num_hypotheses", f"the labels hold {held} hypotheses"
            if each.kind == "word_kd" and not config.labels.top_m:
                yield "labels.top_m", f"is 0, so labels keep no posteriors for {role} to learn"
            is_nearest = each.kind == "seq_inter" or each.choice == "nearest_to_reference"
            if is_nearest and not has_transcripts:
                yield key, "compares hypotheses with transcripts, which corpora.train would have"
