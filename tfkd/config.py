"""Settings as frozen dataclasses, read from strict YAML.

A *system* config describes one recogniser and its training (`tokenizer`, `model`, `training`,
`decoding`). A *run* config describes the whole job and holds two systems, `teacher` and `student`.
An unknown key is an error that names the nearest valid one.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

from tfkd.errors import ConfigError, did_you_mean
from tfkd.files import sha256_of_text
from tfkd.strict_yaml import parse_yaml, read_yaml

ENGLISH_ALPHABET = " 'abcdefghijklmnopqrstuvwxyz"

# No setting has a use for more; the product of two such numbers still fits 64 bits.
_LARGEST = 2**31 - 1

T = TypeVar("T")


@dataclass(frozen=True)
class TextConfig:
    """How transcripts are normalised; see `tfkd.text.normalise`."""

    extra_characters: str = ""


@dataclass(frozen=True)
class PrepareConfig:
    """What `tfkd prepare` accepts and how it stores it.

    Attributes:
      too_long: what becomes of audio above `max_seconds`: "split" cuts it in its pauses where it
        has no text, and rejects it where it has.
    """

    sample_rate_hz: int = 16000
    min_seconds: float = 0.1
    max_seconds: float = 30.0
    too_long: Literal["reject", "split"] = "reject"
    max_rejected_share: float = 0.05
    shard_size: int = 512
    text: TextConfig = field(default_factory=TextConfig)


@dataclass(frozen=True)
class TokenizerConfig:
    """Units of the output. `alphabet: null` learns the characters from the training text."""

    kind: Literal["characters", "sentencepiece"] = "characters"
    alphabet: str | None = ENGLISH_ALPHABET
    vocab_size: int | None = None
    model_type: Literal["unigram", "bpe"] = "unigram"


@dataclass(frozen=True)
class FrontendConfig:
    """Log-mel filterbank inside the model."""

    sample_rate_hz: int = 16000
    num_mels: int = 80
    window_ms: float = 25.0
    hop_ms: float = 10.0
    min_hz: float = 20.0
    max_hz: float = 7600.0
    delta_orders: int = 0


@dataclass(frozen=True)
class SpecAugmentConfig:
    """Park et al. 2019 (arXiv:1904.08779): masks on the log-mel features while training."""

    frequency_masks: int = 2
    max_frequency_width: int = 15
    time_masks: int = 2
    max_time_share: float = 0.05


@dataclass(frozen=True)
class EncoderConfig:
    """The listener. `conv` halves time before layer 1; `pyramid` joins pairs of frames once before
    layers 2, 3, ..., and before layer 1 as often as is still needed."""

    reduction: Literal["pyramid", "conv"] = "conv"
    time_reduction: int = 4
    conv_units: int = 128
    cell: Literal["lstm", "gru"] = "lstm"
    layers: int = 3
    units: int = 256
    dropout: float = 0.0


@dataclass(frozen=True)
class AttentionConfig:
    """Additive (Bahdanau et al. 2015) or location-aware (Chorowski et al. 2015) attention."""

    kind: Literal["additive", "location"] = "additive"
    units: int = 128
    location_filters: int = 10
    location_width: int = 31


@dataclass(frozen=True)
class DecoderConfig:
    """The speller: one recurrent layer with input feeding."""

    cell: Literal["lstm", "gru"] = "lstm"
    units: int = 256
    embedding_units: int = 64
    dropout: float = 0.0


@dataclass(frozen=True)
class ModelConfig:
    """A Recogniser, but for its vocabulary."""

    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    spec_augment: SpecAugmentConfig = field(default_factory=SpecAugmentConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    ctc: bool = True


@dataclass(frozen=True)
class SearchControls:
    """What steers a beam search beside its width; each is off by default.

    A hypothesis is ranked by its total, which is its log_prob and what scorers add to it. When it
    ends, or is cut off, its score is total / divisor + coverage_penalty * log_coverage.

    Attributes:
      normalisation: the divisor of the score: "gnmt" is Wu et al. 2016 (arXiv:1609.08144), eq. 14;
        "mean" is the number of tokens.
      length_penalty: alpha of "gnmt"; at 0 the divisor is 1.
      coverage_penalty: beta of Wu et al. 2016, eq. 14-15, for encodings that got little attention.
      min_tokens: eos included; a hypothesis cannot end before.
      eos_threshold: gamma of Hannun et al. 2019 (arXiv:1904.02619): an end needs
        log p(eos) > gamma * log p(c) for the best other token c, both of the recogniser alone.
      no_repeat_ngram: no sequence of so many tokens comes twice in a hypothesis.
      temperature: divides the recogniser's logits in the ranking; log_prob stays what it is.
    """

    normalisation: Literal["gnmt", "mean"] = "gnmt"
    length_penalty: float = 0.0
    coverage_penalty: float = 0.0
    min_tokens: int = 1
    eos_threshold: float | None = None
    no_repeat_ngram: int = 0
    temperature: float = 1.0


@dataclass(frozen=True)
class FusionConfig:
    """Further models whose log-probabilities join the ranking; the recogniser's weight is one.

    Attributes:
      lm: folder that `tfkd train-lm` wrote, or ARPA file over the tokenizer's units.
      lm_weight: of the language model; Gulcehre et al. 2015 (arXiv:1503.03535), section 4.1.
      ctc_weight: of the CTC prefix score; lambda / (1 - lambda) of Hori et al. 2017
        (arXiv:1706.02737), section 2.3.
    """

    lm: str | None = None
    lm_weight: float = 0.0
    ctc_weight: float = 0.0


@dataclass(frozen=True)
class DecodingConfig(SearchControls):
    """Beam search, and how long its hypotheses may be.

    Attributes:
      max_tokens: most tokens of a hypothesis, eos included.
      max_tokens_per_second: a limit by the length of the audio besides.
    """

    beam_width: int = 4
    num_hypotheses: int = 1
    max_tokens: int = 200
    max_tokens_per_second: float | None = None
    fusion: FusionConfig = field(default_factory=FusionConfig)


@dataclass(frozen=True)
class FilterConfig:
    """Limits beyond which a hypothesis is not learned from; null is off. See `tfkd.filtering`."""

    drop_unfinished: bool = True
    max_repeats: int | None = None
    max_compression_ratio: float | None = None
    min_characters_per_second: float | None = None
    max_characters_per_second: float | None = None
    min_mean_log_prob: float | None = None
    min_coverage: float | None = None
    max_backward_share: float | None = None
    backward_tolerance_seconds: float = 0.2
    max_disagreement: float | None = None
    max_wer: float | None = None


@dataclass(frozen=True)
class ObjectiveConfig:
    """What the decoder learns from, decided while reading labels; see `tfkd.targets.targets_of`.

    Attributes:
      truth_audio: what `truth` learns from of a store of labels: "all" that has a reference, or
        what is left of it after `filters`, as for `seq_kd`.
    """

    kind: Literal["truth", "seq_kd"] = "truth"
    num_hypotheses: int = 1
    choice: Literal["best", "nearest_to_reference"] = "best"
    weights: Literal["uniform", "posterior", "rank"] = "posterior"
    temperature: float = 1.0
    truth_audio: Literal["all", "filtered"] = "all"
    filters: FilterConfig = field(default_factory=FilterConfig)


@dataclass(frozen=True)
class TrainingConfig:
    """Teacher and student are trained by the same code with these settings.

    `checkpoint_minutes` is how long after the last checkpoint an unfinished epoch gets another; 0
    writes one after every batch.

    Attributes:
      distribution: devices that share each batch: all of this machine (mirrored), or those of the
        machines that TF_CONFIG names (multi_worker); see docs/guide/training.md.
      precision: in which numbers encoder and decoder compute; weights, losses and what is saved
        are float32.
      xla: whether steps are compiled, once for each shape of a batch.
    """

    epochs: int = 30
    batch_size: int = 16
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    warmup_steps: int = 200
    clip_norm: float = 5.0
    label_smoothing: float = 0.1
    ctc_weight: float = 0.3
    speed_factors: tuple[float, ...] = (0.9, 1.0, 1.1)
    patience: int = 8
    checkpoint_minutes: float = 15.0
    validation_beam_width: int = 1
    seed: int = 0
    distribution: Literal["none", "mirrored", "multi_worker"] = "none"
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    xla: bool = False
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)


@dataclass(frozen=True)
class SystemConfig:
    """One recogniser: its units, its model, its training and how it decodes."""

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)


@dataclass(frozen=True)
class LabelConfig(SearchControls):
    """How the teacher labels; how long hypotheses may be is the teacher's own setting."""

    beam_width: int = 8
    num_hypotheses: int = 4
    batch_size: int = 16
    fusion: FusionConfig = field(default_factory=FusionConfig)

    def decoding(self, teacher: DecodingConfig) -> DecodingConfig:
        """The teacher's decoding with these settings."""
        shared = {f.name for f in dataclasses.fields(DecodingConfig)}
        own = {key: value for key, value in vars(self).items() if key in shared}
        return dataclasses.replace(teacher, **own)


@dataclass(frozen=True)
class RecurrentConfig:
    """A recurrent language model, but for its vocabulary."""

    cell: Literal["lstm", "gru"] = "lstm"
    layers: int = 1
    units: int = 256
    embedding_units: int = 64
    dropout: float = 0.0


@dataclass(frozen=True)
class LanguageModelTrainingConfig:
    """How `tfkd train-lm` trains; `patience` is in epochs without a lower perplexity."""

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 2e-3
    clip_norm: float = 5.0
    patience: int = 3
    checkpoint_minutes: float = 10.0
    seed: int = 0


@dataclass(frozen=True)
class LanguageModelConfig:
    """One language model; its units are those of the recogniser that it joins."""

    model: RecurrentConfig = field(default_factory=RecurrentConfig)
    training: LanguageModelTrainingConfig = field(default_factory=LanguageModelTrainingConfig)


@dataclass(frozen=True)
class ExportConfig:
    """Which forms are written, and how far a quantised one may drift (WER as a share)."""

    formats: tuple[str, ...] = ("savedmodel", "tflite-float32", "tflite-int8")
    beam_width: int = 4
    num_hypotheses: int = 1
    max_seconds: float = 30.0
    max_wer_change: float = 0.005
    parity_utterances: int = 50


@dataclass(frozen=True)
class CorporaConfig:
    """The three splits of a run, relative to `data_dir`."""

    train: str = "train.jsonl"
    valid: str = "valid.jsonl"
    test: str = "test.jsonl"


@dataclass(frozen=True)
class RunConfig:
    """The whole job, for `tfkd run`."""

    work_dir: str = "work"
    data_dir: str = "data"
    corpora: CorporaConfig = field(default_factory=CorporaConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    teacher: SystemConfig = field(default_factory=SystemConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    student: SystemConfig = field(default_factory=SystemConfig)
    export: ExportConfig = field(default_factory=ExportConfig)


def load_run_config(path: str | Path, overrides: typing.Sequence[str] = ()) -> RunConfig:
    """Reads a run config and applies `key.path=value` overrides, whose values are YAML."""
    return from_dict(RunConfig, apply_overrides(read_yaml(path), overrides), path=path)


def load_system_configs(path: str | Path) -> dict[str, SystemConfig]:
    """Reads the systems of a file: `teacher` and `student` of a run config, or its only one."""
    content = read_yaml(path)
    if "teacher" in content or "student" in content:
        run = from_dict(RunConfig, content, path=path)
        return {"teacher": run.teacher, "student": run.student}
    return {Path(path).stem: from_dict(SystemConfig, content, path=path)}


def load_system_config(path: str | Path, role: Literal["teacher", "student"]) -> SystemConfig:
    """Reads one system: a file of its own, or the `role` section of a run config."""
    systems = load_system_configs(path)
    return systems[role] if role in systems else next(iter(systems.values()))


def overrides_of(content: dict[str, Any], at: str = "") -> list[str]:
    """The `key.path=value` overrides that say the same as the content of a config."""
    overrides = []
    for key, value in content.items():
        if isinstance(value, dict):
            overrides += overrides_of(value, f"{at}{key}.")
        else:
            overrides.append(f"{at}{key}={json.dumps(value)}")
    return overrides


def with_overrides(config: T, overrides: typing.Sequence[str]) -> T:
    """The config with `key.path=value` settings changed, whose values are YAML.

    Raises:
      ConfigError: for an unknown key, or a value that does not fit.
    """
    return from_dict(type(config), apply_overrides(to_dict(config), overrides))


def from_dict(kind: type[T], values: Any, *, path: str | Path | None = None, at: str = "") -> T:
    """Builds the dataclass `kind` from nested mappings, strictly.

    Raises:
      ConfigError: for an unknown key (with the nearest valid one) or a value of another type.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{at or 'config'}: expected a mapping, got {values!r}", path=path)
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


# Settings that stood beside a section of their class before they moved into it.
_MOVED: dict[type, dict[str, str]] = {ObjectiveConfig: {"drop_unfinished": "filters"}}


def _with_moved_settings(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Brings settings of earlier versions to their place, so that older runs can be read."""
    for key, section in _MOVED.get(kind, {}).items():
        if key in values:
            others = {name: value for name, value in values.items() if name != key}
            values = {**others, section: {key: values[key], **others.get(section, {})}}
    return values


def to_dict(config: Any) -> dict[str, Any]:
    """The config as plain mappings and lists, fit for YAML and JSON."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def to_yaml(config: Any) -> str:
    """The resolved config as YAML text."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def config_digest(*configs: Any) -> str:
    """Identity of resolved configs: the same settings give the same digest."""
    return sha256_of_text(json.dumps([to_dict(c) for c in configs], sort_keys=True))


def apply_overrides(content: dict[str, Any], overrides: typing.Sequence[str]) -> dict[str, Any]:
    """Changes `key.path=value` settings of a config's content, whose values are YAML.

    Raises:
      ConfigError: if an override is malformed, or its path leads through a value.
    """
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key:
            raise ConfigError(f"--set {override!r} is not key=value")
        node = content
        *parents, leaf = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"--set {override!r}: {parent!r} is not a section")
        try:
            node[leaf] = parse_yaml(value)
        except ConfigError as error:
            raise ConfigError(f"--set {override!r}: {error.message}") from error
    return content


def _suggestion(key: Any, valid: dict[str, Any]) -> str:
    return did_you_mean(str(key), valid) or f"valid keys: {', '.join(valid)}"


def _convert(hint: Any, value: Any, *, path: str | Path | None, at: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, path=path, at=at)
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return None if value is None else _convert(choices[0], value, path=path, at=at)
    if origin is Literal:
        if value not in choices:
            raise ConfigError(f"{at}: {value!r} is none of {', '.join(choices)}", path=path)
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{at}: expected a list, got {value!r}", path=path)
        return tuple(_convert(choices[0], item, path=path, at=at) for item in value)
    return _scalar(hint, value, path=path, at=at)


def _scalar(hint: type, value: Any, *, path: str | Path | None, at: str) -> Any:
    # YAML 1.1 reads 1e-3 as text.
    is_number = isinstance(value, (int, str)) and not isinstance(value, bool)
    if hint is float and is_number:
        try:
            value = float(value)
        except (ValueError, OverflowError) as error:
            raise ConfigError(f"{at}: {value!r} is not a number", path=path) from error
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{at}: expected {hint.__name__}, got {value!r}", path=path)
    if isinstance(value, float) and not math.isfinite(value):
        # A limit cannot catch it: no comparison with NaN holds.
        raise ConfigError(f"{at}: {value} is not a finite number", path=path)
    if isinstance(value, (int, float)) and abs(value) > _LARGEST:
        raise ConfigError(f"{at}: {value} is too large", path=path)
    return value


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
    "backward_tolerance_seconds": 0, "max_disagreement": 0, "max_wer": 0,
}  # fmt: skip
_BELOW_ONE = {"dropout", "label_smoothing"}
_WIDEST_BEAM = 64


def validate(config: Any, *, path: str | Path | None = None, at: str = "") -> None:
    """Checks ranges and the settings that depend on one another.

    Raises:
      ConfigError: for the first setting that is out of range.
    """

    def refuse(key: str, why: str) -> typing.NoReturn:
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
            if not config.speed_factors or min(config.speed_factors) < 0.5:
                refuse("speed_factors", "needs at least one factor, each 0.5 or more")
            if config.xla and config.distribution != "none":
                refuse("xla", "needs distribution: none")
        case PrepareConfig():
            if config.min_seconds >= config.max_seconds:
                refuse("min_seconds", "must be below max_seconds")
        case SystemConfig():
            if config.training.ctc_weight > 0 and not config.model.ctc:
                refuse("training.ctc_weight", "needs model.ctc: true")
            if config.decoding.fusion.ctc_weight > 0 and not config.model.ctc:
                refuse("decoding.fusion.ctc_weight", "needs model.ctc: true")
        case RunConfig():
            for role in ("teacher", "student"):
                rate = getattr(config, role).model.frontend.sample_rate_hz
                if rate != config.prepare.sample_rate_hz:
                    refuse(f"{role}.model.frontend.sample_rate_hz", "differs from prepare's")
