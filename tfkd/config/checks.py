"""Checks the bounds of settings, and settings that depend on each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

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


class Fault(NamedTuple):
    """What is wrong with a setting.

    Attributes:
      key: of the setting, below the config that is checked.
      why: shown to the user behind the key.
      remedy: what to do about it.
    """

    key: str
    why: str
    remedy: str = "change it, or the setting that it depends on"


def validate(config: Any, *, path: str | Path | None = None, at: str = "") -> None:
    """Checks bounds, and settings that depend on each other.

    Raises:
      ConfigError: names the first setting that is invalid.
    """
    _refuse_first(_faults_of(config), path, at)


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
    _refuse_first(_faults_of_labelling(labels, teacher, role), path)


def _refuse_first(found: Iterable[Fault], path: str | Path | None, at: str = "") -> None:
    for key, why, remedy in found:
        raise ConfigError(f"{at}.{key}: {why}" if at else f"{key}: {why}", path=path, remedy=remedy)


def input_workers(url: str) -> list[str]:
    """The HOST:PORT of each worker that `training.input_service` names; none if it is no such URL.

    >>> input_workers("grpc://reader1:5051,reader2:5051")
    ['reader1:5051', 'reader2:5051']
    """
    scheme, _, rest = url.partition("://")
    addresses = [each.removeprefix("grpc://") for each in rest.split(",")]
    is_good = scheme == "grpc" and all(map(_ADDRESS.fullmatch, addresses))
    return addresses if is_good else []


def _faults_of(config: Any) -> Iterator[Fault]:
    """Finds what is wrong with the settings of one config class, those of the classes in it apart.

    The first fault is the one that is told, so each may count on those before it.
    """
    for key, why in faults(config):
        yield Fault(key, why)
    reduction = getattr(config, "time_reduction", 1)
    if reduction & (reduction - 1):
        yield Fault("time_reduction", "must be a power of two")
    is_mean = getattr(config, "normalisation", None) == "mean"
    if is_mean and config.length_penalty:
        yield Fault("length_penalty", "has no meaning beside normalisation: mean")
    if of_class := _FAULTS.get(type(config)):
        yield from of_class(config)


def _of_hypotheses(config: DecodingConfig | LabelConfig) -> Iterator[Fault]:
    if config.num_hypotheses > config.beam_width:
        yield Fault("num_hypotheses", "cannot exceed beam_width")


def _of_decoding(config: DecodingConfig) -> Iterator[Fault]:
    yield from _of_hypotheses(config)
    if config.min_tokens > config.max_tokens:
        yield Fault("min_tokens", "cannot exceed max_tokens")


def _of_export(config: ExportConfig) -> Iterator[Fault]:
    if config.fixed_length and config.max_seconds > _LONGEST_FIXED_SECONDS:
        yield Fault("max_seconds", f"fixed_length takes {_LONGEST_FIXED_SECONDS} s at most")


def _of_fusion(config: FusionConfig) -> Iterator[Fault]:
    if config.lm_weight > 0 and config.lm is None:
        yield Fault("lm_weight", "needs lm, the language model")


def _of_log_mel(config: FrontendConfig) -> Iterator[Fault]:
    if not config.min_hz < config.max_hz <= config.sample_rate_hz / 2:
        yield Fault("max_hz", "must lie above min_hz and at most at half the sample rate")


def _of_raw_waveform(config: RawWaveformConfig) -> Iterator[Fault]:
    if config.filter_ms > config.window_ms:
        yield Fault("filter_ms", "cannot exceed window_ms")


def _of_transformer(
    config: TransformerEncoderConfig | TransformerDecoderConfig,
) -> Iterator[Fault]:
    if config.units % (2 * config.heads):
        yield Fault("units", f"must be a multiple of twice the heads, {2 * config.heads}")


def _of_convolutional(
    config: ConvolutionalEncoderConfig | ConvolutionalDecoderConfig,
) -> Iterator[Fault]:
    if config.units % 2:
        yield Fault("units", "must be even")


def _of_model(config: ModelConfig) -> Iterator[Fault]:
    if isinstance(config.decoder, NoDecoderConfig) and not config.ctc:
        yield Fault("ctc", "must be true where decoder.kind is none")


def _of_filters(config: FilterConfig) -> Iterator[Fault]:
    slowest, fastest = config.min_characters_per_second, config.max_characters_per_second
    if slowest is not None and fastest is not None and slowest > fastest:
        yield Fault("min_characters_per_second", "exceeds max_characters_per_second")


def _of_objective(config: ObjectiveConfig) -> Iterator[Fault]:
    if config.kind == "mixture" and not config.parts:
        yield Fault("parts", "a mixture needs a list of objectives")


def _of_tokenizer(config: TokenizerConfig) -> Iterator[Fault]:
    if config.kind == "sentencepiece" and config.vocab_size is None:
        yield Fault("vocab_size", "SentencePiece needs one")


def _of_training(config: TrainingConfig) -> Iterator[Fault]:
    if not config.speed_factors:
        yield Fault("speed_factors", "needs at least one factor")
    if config.final_learning_rate > config.learning_rate:
        yield Fault("final_learning_rate", "cannot exceed learning_rate")
    if config.xla and config.distribution != "none":
        yield Fault("xla", "needs distribution: none")
    if config.input_service is not None and not input_workers(config.input_service):
        yield Fault("input_service", "is not like grpc://reader1:5051,reader2:5051")


def _of_preparation(config: PrepareConfig) -> Iterator[Fault]:
    rate_hz = config.sample_rate_hz
    if rate_hz > _MOST_ODD_FLAC_HZ and rate_hz % 10:
        yield Fault("sample_rate_hz", f"FLAC, which keeps the audio, has no {rate_hz} Hz")
    if config.min_seconds >= config.max_seconds:
        yield Fault("min_seconds", "must be below max_seconds")
    if config.piece_seconds is None:
        return
    if config.too_long != "split":
        yield Fault("piece_seconds", "needs too_long: split")
    if config.piece_seconds > config.max_seconds:
        yield Fault("piece_seconds", "cannot exceed max_seconds")
    if config.piece_seconds < 4 * config.min_seconds:  # See `cut_points`.
        yield Fault("piece_seconds", "a quarter, the shortest piece, is below min_seconds")


def _of_sounds(config: NoiseConfig | NonSpeechConfig) -> Iterator[Fault]:
    if config.share and not config.kinds:
        yield Fault("kinds", "needs at least one kind of sound")


def _of_system(config: SystemConfig) -> Iterator[Fault]:
    is_ctc_alone = isinstance(config.model.decoder, NoDecoderConfig)
    if is_ctc_alone and config.training.ctc_weight != 1:
        yield Fault("training.ctc_weight", "must be 1 where model.decoder.kind is none")
    objective = config.training.objective
    kinds = {objective.kind, *(part.kind for part in objective.parts)}
    if is_ctc_alone and "word_kd" in kinds:
        yield Fault("training.objective.kind", "word_kd needs a decoder to learn its steps")
    if config.training.ctc_weight > 0 and not config.model.ctc:
        yield Fault("training.ctc_weight", "needs model.ctc: true")
    if config.decoding.fusion.ctc_weight and not config.model.ctc:
        yield Fault("decoding.fusion.ctc_weight", "needs model.ctc: true")


def _of_corpora(config: CorporaConfig) -> Iterator[Fault]:
    if not config.train and not config.untranscribed:
        yield Fault("train", "names no corpus, and neither does untranscribed")


def _of_sweep(config: SweepConfig) -> Iterator[Fault]:
    if not config.seeds:
        yield Fault("seeds", "is empty, so no student would be trained")
    for key in (key for each in config.grid for key, tried in each.items() if not tried):
        yield Fault("grid", f"{key} has no value to try")
    if len(set(config.seeds)) < len(config.seeds):
        yield Fault("seeds", "names a seed twice, which would count as two")


def _of_job(config: RunConfig) -> Iterator[Fault]:
    for role, system in config.systems.items():
        for key, why in faults_of_training(system):
            yield Fault(f"{role}.{key}", why)
    for key, why in _faults_of_learning(config):
        yield Fault(key, why)
    if isinstance(config.teacher, SystemConfig):
        yield from _faults_of_labelling(config.labels, config.teacher, "teacher")
        if config.labels.whisper != WhisperConfig():
            yield Fault("labels.whisper", "has settings, but the teacher is no Whisper")
        if not config.corpora.train:
            yield Fault("corpora.train", "is empty, but the teacher is to be trained")
    if config.generations > 1:
        role = "next_teacher" if config.next_teacher else "student"
        yield from _faults_of_labelling(config.labels, config.systems[role], role)
    kept, kept_by_labels = config.prepare.text, config.labels.whisper
    is_whisper = str(config.teacher).startswith(WHISPER_PREFIX)
    if is_whisper and kept.extra_characters != kept_by_labels.extra_characters:
        yield Fault("labels.whisper.extra_characters", "differs from prepare.text's")
    for fault in _of_hypotheses(config.export.decoding(config.student.decoding)):
        yield fault._replace(key=f"export.{fault.key}")
    takes, is_given = config.export.max_seconds, config.prepare.max_seconds
    if takes < is_given:
        yield Fault("export.max_seconds", f"{takes:g} is below prepare's, {is_given:g}")
    for role, system in config.systems.items():
        if system.model.frontend.sample_rate_hz != config.prepare.sample_rate_hz:
            yield Fault(f"{role}.model.frontend.sample_rate_hz", "differs from prepare's")


# What to look for beside the bounds, by the class that is checked.
_FAULTS: dict[type, Callable[[Any], Iterator[Fault]]] = {
    DecodingConfig: _of_decoding,
    LabelConfig: _of_hypotheses,
    ExportConfig: _of_export,
    FusionConfig: _of_fusion,
    FrontendConfig: _of_log_mel,
    RawWaveformConfig: _of_raw_waveform,
    TransformerEncoderConfig: _of_transformer,
    TransformerDecoderConfig: _of_transformer,
    ConvolutionalEncoderConfig: _of_convolutional,
    ConvolutionalDecoderConfig: _of_convolutional,
    ModelConfig: _of_model,
    FilterConfig: _of_filters,
    ObjectiveConfig: _of_objective,
    TokenizerConfig: _of_tokenizer,
    TrainingConfig: _of_training,
    PrepareConfig: _of_preparation,
    NoiseConfig: _of_sounds,
    NonSpeechConfig: _of_sounds,
    SystemConfig: _of_system,
    CorporaConfig: _of_corpora,
    SweepConfig: _of_sweep,
    RunConfig: _of_job,
}


def _faults_of_labelling(labels: LabelConfig, teacher: SystemConfig, role: str) -> Iterator[Fault]:
    """Finds settings of labelling for which a teacher's model lacks something; see its check."""
    for key, why, remedy in _faults_of(labels.decoding(teacher.decoding)):
        yield Fault(f"labels.{key}", why, remedy)
    is_ctc_alone = isinstance(teacher.model.decoder, NoDecoderConfig)
    key = "labels.fusion.ctc_weight"
    learn_ctc = "set it to 0, or train a teacher with CTC"
    if labels.fusion.ctc_weight and not teacher.model.ctc:
        yield Fault(key, f"needs {role}.model.ctc: true", learn_ctc)
    if labels.fusion.ctc_weight and not teacher.training.ctc_weight:
        why = f"{role}.training.ctc_weight is 0, so the CTC head of {role} knows nothing"
        yield Fault(key, why, learn_ctc)
    if labels.coverage_penalty and is_ctc_alone:
        yield Fault("labels.coverage_penalty", f"{role} has no attention, only CTC", "set it to 0")
    if labels.top_m and is_ctc_alone:
        yield Fault("labels.top_m", f"needs a decoder, which {role} lacks", "set it to 0")


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
