"""Settings as frozen dataclasses, read from strict YAML.

A *system* config describes one recogniser and its training (`tokenizer`, `model`, `training`,
`decoding`). A *run* config describes the whole job and holds two systems, `teacher` and `student`.
An unknown key is an error that names the nearest valid one.

Each topic has its file (`preparation`, `model`, `training`, `objective`, `decoding`, ...); `job`
holds a system and a run. `checks` says which settings go together; `reading` reads files and
overrides.

Example:
    >>> student = load_system_config("configs/digits.yaml", "student")
    >>> with_overrides(student, ["training.epochs=3"]).training.epochs
    3
"""

from tfkd.config.augmentation import (
    AugmentationConfig,
    JoiningConfig,
    NoiseConfig,
    NonSpeechConfig,
    ReverberationConfig,
    SilenceConfig,
    Sound,
)
from tfkd.config.checks import check_labelling, faults_of_training, input_workers, validate
from tfkd.config.decoding import DecodingConfig, FusionConfig, SearchControls
from tfkd.config.export import ExportConfig
from tfkd.config.job import CorporaConfig, RunConfig, SweepConfig, SystemConfig
from tfkd.config.labelling import WHISPER_PREFIX, LabelConfig, WhisperConfig
from tfkd.config.language_model import (
    LanguageModelConfig,
    LanguageModelTrainingConfig,
    RecurrentConfig,
)
from tfkd.config.model import (
    AttentionConfig,
    Conv2dRecurrentConfig,
    ConvolutionalDecoderConfig,
    ConvolutionalEncoderConfig,
    DecoderConfig,
    EncoderConfig,
    FrontendConfig,
    ModelConfig,
    NoDecoderConfig,
    RawWaveformConfig,
    SpecAugmentConfig,
    StftConfig,
    TransformerDecoderConfig,
    TransformerEncoderConfig,
)
from tfkd.config.objective import FilterConfig, ObjectiveConfig
from tfkd.config.preparation import ENGLISH_ALPHABET, PrepareConfig, TextConfig, TokenizerConfig
from tfkd.config.reading import (
    apply_overrides,
    config_digest,
    from_dict,
    load_prepare_config,
    load_run_config,
    load_system_config,
    load_system_configs,
    overrides_of,
    to_dict,
    to_yaml,
    with_overrides,
)
from tfkd.config.training import InitialConfig, TrainingConfig

__all__ = [
    "WHISPER_PREFIX",
    "ENGLISH_ALPHABET",
    "AttentionConfig",
    "AugmentationConfig",
    "Conv2dRecurrentConfig",
    "ConvolutionalDecoderConfig",
    "ConvolutionalEncoderConfig",
    "CorporaConfig",
    "DecoderConfig",
    "DecodingConfig",
    "EncoderConfig",
    "ExportConfig",
    "FilterConfig",
    "FrontendConfig",
    "FusionConfig",
    "InitialConfig",
    "JoiningConfig",
    "LabelConfig",
    "LanguageModelConfig",
    "LanguageModelTrainingConfig",
    "ModelConfig",
    "NoDecoderConfig",
    "NoiseConfig",
    "NonSpeechConfig",
    "ObjectiveConfig",
    "PrepareConfig",
    "RecurrentConfig",
    "ReverberationConfig",
    "RunConfig",
    "SearchControls",
    "SilenceConfig",
    "Sound",
    "SpecAugmentConfig",
    "SweepConfig",
    "RawWaveformConfig",
    "StftConfig",
    "SystemConfig",
    "TextConfig",
    "TokenizerConfig",
    "TrainingConfig",
    "TransformerDecoderConfig",
    "TransformerEncoderConfig",
    "WhisperConfig",
    "apply_overrides",
    "check_labelling",
    "config_digest",
    "faults_of_training",
    "from_dict",
    "input_workers",
    "load_prepare_config",
    "load_run_config",
    "load_system_config",
    "load_system_configs",
    "overrides_of",
    "to_dict",
    "to_yaml",
    "validate",
    "with_overrides",
]
