"""The settings, as frozen dataclasses with their defaults."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from tfkd.config.augmentation import AugmentationConfig
from tfkd.config.bounds import LATER, number
from tfkd.config.model import DEEPEST, MOST_FLAC_HZ, ModelConfig

# A step of the search costs as many decoder steps an utterance.
WIDEST_BEAM = 64
# A search holds arrays of as many steps.
MOST_TOKENS = 100_000

ENGLISH_ALPHABET = " 'abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class TextConfig:
    """How transcripts are normalised; see `tfkd.text.normalise`."""

    extra_characters: str = ""


@dataclass(frozen=True)
class PrepareConfig:
    """Limits of the audio that `tfkd prepare` accepts, and how it is stored.

    Attributes:
      too_long: what becomes of audio above `max_seconds`: "split" cuts it in its pauses where it
        has no text, and rejects it where it has.
      tags: whether transcripts lose what stands in brackets for sounds and marks, such as [noise]
        and <COMMA>: see `tfkd.text.transcript_of`.
      allow_commands: whether commands of a Kaldi wav.scp may be run, where reading their file is
        not enough.
    """

    sample_rate_hz: int = number(16000, at_least=1000, at_most=MOST_FLAC_HZ)
    min_seconds: float = number(0.1, at_least=0)
    max_seconds: float = number(30.0, at_least=0.01)
    too_long: Literal["reject", "split"] = "reject"
    max_rejected_share: float = number(0.05, at_least=0, at_most=1)
    shard_size: int = number(512, at_least=1)
    text: TextConfig = field(default_factory=TextConfig)
    tags: Literal["drop", "keep"] = field(default="drop", metadata=LATER)
    allow_commands: bool = field(default=False, metadata=LATER)


@dataclass(frozen=True)
class TokenizerConfig:
    """Units of the output. `alphabet: null` learns the characters from the training text."""

    kind: Literal["characters", "sentencepiece"] = "characters"
    alphabet: str | None = ENGLISH_ALPHABET
    vocab_size: int | None = number(None, at_least=5, at_most=1_000_000)
    model_type: Literal["unigram", "bpe"] = "unigram"


@dataclass(frozen=True)
class SearchControls:
    """Settings that steer a beam search beside its width; each is off by default.

    A hypothesis is ranked by its total, which is its log_prob and what scorers add to it. When it
    ends, or is cut off, its score is total / divisor + coverage_penalty * log_coverage.

    Attributes:
      normalisation: the divisor of the score: "gnmt" is Wu et al. 2016 (arXiv:1609.08144), eq. 14;
        "mean" is the number of tokens; null is "gnmt", but "mean" where a language model joins and
        no length penalty is chosen, since a language model alone makes hypotheses short.
      length_penalty: alpha of "gnmt"; at 0 the divisor is 1.
      coverage_penalty: beta of Wu et al. 2016, eq. 14-15, for encodings that got little attention.
      min_tokens: eos included; a hypothesis cannot end before.
      eos_threshold: gamma of Hannun et al. 2019 (arXiv:1904.02619): an end needs
        log p(eos) > gamma * log p(c) for the best other token c, both of the recogniser alone.
      no_repeat_ngram: no sequence of so many tokens comes twice in a hypothesis.
      temperature: divides the recogniser's logits in the ranking; log_prob stays what it is.
    """

    normalisation: Literal["gnmt", "mean"] | None = None
    length_penalty: float = number(0.0, at_least=0)
    coverage_penalty: float = number(0.0, at_least=0)
    min_tokens: int = number(1, at_least=1)
    eos_threshold: float | None = number(None, at_least=0)
    no_repeat_ngram: int = number(0, at_least=0)
    temperature: float = number(1.0, at_least=1e-3)


@dataclass(frozen=True)
class FusionConfig:
    """Further models whose log-probabilities join the ranking; the recogniser's weight is one.

    Attributes:
      lm: folder that `tfkd train-lm` wrote, or ARPA file over the tokenizer's units.
      lm_weight: of the language model; Gulcehre et al. 2015 (arXiv:1503.03535), section 4.1.
      ctc_weight: of the CTC prefix score; lambda / (1 - lambda) of Hori et al. 2017
        (arXiv:1706.02737), section 2.3. Null is `tfkd.decoding.defaults.CTC_WEIGHT` where the CTC
        head was trained, else 0; 0 leaves CTC out.
    """

    lm: str | None = None
    lm_weight: float = number(0.0, at_least=0)
    ctc_weight: float | None = number(None, at_least=0)


@dataclass(frozen=True)
class DecodingConfig(SearchControls):
    """Beam search, and how long its hypotheses may be.

    Attributes:
      max_tokens: most tokens of a hypothesis, eos included.
      max_tokens_per_second: a limit by the length of the audio besides.
    """

    beam_width: int = number(4, at_least=1, at_most=WIDEST_BEAM)
    num_hypotheses: int = number(1, at_least=1)
    max_tokens: int = number(200, at_least=1, at_most=MOST_TOKENS)
    max_tokens_per_second: float | None = number(None, at_least=0.1)
    fusion: FusionConfig = field(default_factory=FusionConfig)


@dataclass(frozen=True)
class FilterConfig:
    """Limits beyond which a hypothesis is not learned from; null is off.

    See `tfkd.distillation.filters`.
    """

    drop_unfinished: bool = True
    max_repeats: int | None = number(None, at_least=1)
    max_compression_ratio: float | None = number(None, at_least=0)
    min_characters_per_second: float | None = number(None, at_least=0)
    max_characters_per_second: float | None = number(None, at_least=0)
    min_mean_log_prob: float | None = number(None, at_most=0)
    min_coverage: float | None = number(None, at_least=0, at_most=1)
    max_backward_share: float | None = number(None, at_least=0, at_most=1)
    backward_tolerance_seconds: float = number(0.2, at_least=0)
    max_disagreement: float | None = number(None, at_least=0)
    max_wer: float | None = number(None, at_least=0)


@dataclass(frozen=True)
class ObjectiveConfig:
    """The targets that the decoder learns from, chosen while labels are read.

    See `tfkd.objectives` for what each kind learns.

    Attributes:
      truth_audio: what `truth` learns from of a store of labels: "all" that has a reference, or
        what is left of it after `filters`, as for `seq_kd`.
      top_m: of `word_kd`: how many tokens of each step it learns, of those that the labels keep.
      token_temperature: of `word_kd`: evens out the posteriors of teacher and student; of a
        mixture, that of the whole.
      parts: of a `mixture`: objectives, each with its `share`.
      share: of a part of a mixture; shares count over their sum.
    """

    kind: Literal["truth", "seq_kd", "seq_inter", "word_kd", "mixture"] = "truth"
    num_hypotheses: int = number(1, at_least=1)
    choice: Literal["best", "nearest_to_reference"] = "best"
    weights: Literal["uniform", "posterior", "rank"] = "posterior"
    temperature: float = number(1.0, at_least=1e-3)
    truth_audio: Literal["all", "filtered"] = "all"
    filters: FilterConfig = field(default_factory=FilterConfig)
    top_m: int = number(8, at_least=1, is_later=True)
    token_temperature: float = number(1.0, at_least=1e-3, is_later=True)
    parts: tuple[ObjectiveConfig, ...] = field(default=(), metadata=LATER)
    share: float = number(1.0, above=0, is_later=True)


@dataclass(frozen=True)
class InitialConfig:
    """What a training begins from.

    Attributes:
      run: folder of a run whose weights are taken wherever their shapes allow, and whose units, if
        the settings of the tokenizer are the same; null begins at random.
      layers: what a shallower stack takes of a deeper one: evenly spread layers, or the means of
        neighbours.
    """

    run: str | None = None
    layers: Literal["spread", "average"] = "spread"


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
      augmentation: what else than clean audio is heard: null is that alone, and `{}` what is best
        known for a recogniser that has to survive pauses, silence and noise.
      schedule: "cosine" goes from a linear warm-up to `final_learning_rate`; "exponential"
        multiplies by `epoch_decay` after each epoch. See `tfkd.training.schedules`.
    """

    epochs: int = number(30, at_least=1)
    batch_size: int = number(16, at_least=1)
    learning_rate: float = number(1e-3, above=0)
    final_learning_rate: float = number(1e-5, at_least=0)
    warmup_steps: int = number(200, at_least=0)
    clip_norm: float = number(5.0, at_least=0)
    label_smoothing: float = number(0.1, at_least=0, below=1)
    ctc_weight: float = number(0.3, at_least=0, at_most=1)
    speed_factors: tuple[float, ...] = number((0.9, 1.0, 1.1), at_least=0.5, at_most=2)
    patience: int = number(8, at_least=1)
    checkpoint_minutes: float = number(15.0, at_least=0)
    validation_beam_width: int = number(1, at_least=1, at_most=WIDEST_BEAM)
    seed: int = number(0, at_least=0)
    distribution: Literal["none", "mirrored", "multi_worker"] = "none"
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    xla: bool = False
    schedule: Literal["cosine", "exponential"] = field(default="cosine", metadata=LATER)
    epoch_decay: float = number(0.99, above=0, at_most=1, is_later=True)
    initial: InitialConfig = field(default_factory=InitialConfig, metadata=LATER)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    augmentation: AugmentationConfig | None = field(default=None, metadata=LATER)


@dataclass(frozen=True)
class SystemConfig:
    """One recogniser: its units, its model, its training and how it decodes."""

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)


@dataclass(frozen=True)
class WhisperConfig:
    """What a Whisper is asked for, and how its transcripts become labels.

    Attributes:
      language: code of the language that is spoken, as "en"; null for the one that the folder
        names, or else for what Whisper hears in each utterance.
      task: "translate" writes English whatever is spoken.
      numbers: "words" writes 21 as twenty one, "digits" as two one; "as_written" leaves it.
    """

    language: str | None = None
    task: Literal["transcribe", "translate"] = "transcribe"
    numbers: Literal["as_written", "words", "digits"] = "as_written"


@dataclass(frozen=True)
class LabelConfig(SearchControls):
    """How the teacher labels.

    Attributes:
      max_tokens, max_tokens_per_second: null for what the teacher itself decodes with.
      top_m: how many of the teacher's most probable tokens are kept at each step of a hypothesis,
        for the objective `word_kd`.
      whisper: for a teacher of `whisper:FOLDER` alone.
    """

    beam_width: int = number(8, at_least=1, at_most=WIDEST_BEAM)
    num_hypotheses: int = number(4, at_least=1)
    max_tokens: int | None = number(None, at_least=1, at_most=MOST_TOKENS)
    max_tokens_per_second: float | None = number(None, at_least=0.1)
    batch_size: int = number(16, at_least=1)
    top_m: int = number(0, at_least=0, is_later=True)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    whisper: WhisperConfig = field(default_factory=WhisperConfig, metadata=LATER)

    def decoding(self, teacher: DecodingConfig) -> DecodingConfig:
        """The teacher's decoding with these settings."""
        shared = {f.name for f in dataclasses.fields(DecodingConfig)}
        if_any = {"max_tokens", "max_tokens_per_second"}
        own = {
            key: value
            for key, value in vars(self).items()
            if key in shared and not (key in if_any and value is None)
        }
        return dataclasses.replace(teacher, **own)


@dataclass(frozen=True)
class RecurrentConfig:
    """A recurrent language model, but for its vocabulary."""

    cell: Literal["lstm", "gru"] = "lstm"
    layers: int = number(1, at_least=1, at_most=DEEPEST)
    units: int = number(256, at_least=1)
    embedding_units: int = number(64, at_least=1)
    dropout: float = number(0.0, at_least=0, below=1)


@dataclass(frozen=True)
class LanguageModelTrainingConfig:
    """How `tfkd train-lm` trains; `patience` is in epochs without a lower perplexity."""

    epochs: int = number(20, at_least=1)
    batch_size: int = number(32, at_least=1)
    learning_rate: float = number(2e-3, above=0)
    clip_norm: float = number(5.0, at_least=0)
    patience: int = number(3, at_least=1)
    checkpoint_minutes: float = number(10.0, at_least=0)
    seed: int = number(0, at_least=0)


@dataclass(frozen=True)
class LanguageModelConfig:
    """One language model; its units are those of the recogniser that it joins."""

    model: RecurrentConfig = field(default_factory=RecurrentConfig)
    training: LanguageModelTrainingConfig = field(default_factory=LanguageModelTrainingConfig)


Baseline = Literal["transcribed", "all"]
ExportFormat = Literal["savedmodel", "tflite-float32", "tflite-float16", "tflite-int8"]


@dataclass(frozen=True)
class ExportConfig:
    """Which forms are written, and how far a quantised one may drift.

    Attributes:
      formats: rows of the table in `tfkd.exporting.forms`.
      max_seconds: longest audio that a .tflite takes, and that any form is checked with.
      max_wer_change: how far WER may move from that of Keras, up or down, as a share.
      max_wer_to_keras: word errors against what Keras says, as a share: words that the form
        leaves out, adds or changes.
      max_log_prob_drift: mean difference of the log_prob of equal hypotheses, in nats.
      parity_utterances: recordings that every form is compared with Keras on.
    """

    formats: tuple[ExportFormat, ...] = ("savedmodel", "tflite-float32", "tflite-int8")
    beam_width: int = number(4, at_least=1, at_most=WIDEST_BEAM)
    num_hypotheses: int = number(1, at_least=1)
    max_seconds: float = number(30.0, at_least=0.01)
    max_wer_change: float = number(0.005, at_least=0)
    max_wer_to_keras: float = number(0.02, at_least=0, is_later=True)
    max_log_prob_drift: float = number(0.3, at_least=0, is_later=True)
    parity_utterances: int = number(50, at_least=1)


@dataclass(frozen=True)
class CorporaConfig:
    """The corpora of a run: manifests, folders or trees, relative to `data_dir`.

    Attributes:
      train: one or several corpora with transcripts; an empty list where the teacher is not
        trained here.
      valid: corpus with transcripts for early stopping.
      test: corpus with transcripts to measure by.
      untranscribed: one or several corpora that the teacher labels and the student learns from.
        Transcripts that they hold are learned from nowhere but in the baseline "all"; the others
        are measured by them.
      transcribed_share: share of the transcripts of `train` that are used; the other utterances
        count as untranscribed. Which ones depends on their ids alone.
    """

    train: tuple[str, ...] = ("train.jsonl",)
    valid: str = "valid.jsonl"
    test: str = "test.jsonl"
    untranscribed: tuple[str, ...] = ()
    transcribed_share: float = number(1.0, above=0, at_most=1)


@dataclass(frozen=True)
class SweepConfig:
    """A grid of students, for `tfkd sweep`; see `tfkd.pipeline.sweep`.

    Attributes:
      grid: mappings of a setting (`student.…`, `labels.…`, `generation` or `variant`) to the values
        to try, in every combination; the students of all mappings make one table.
      variants: settings that change together, such as those of a size, by a name for `variant`.
      baseline: settings of the student with which the others of its variant are compared.
      seeds: each student is trained once with each of these.
    """

    grid: tuple[dict[str, tuple[Any, ...]], ...] = ()
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    baseline: dict[str, Any] = field(
        default_factory=lambda: {"student.training.objective.kind": "truth"}
    )
    seeds: tuple[int, ...] = number((0,), at_least=0)


@dataclass(frozen=True)
class RunConfig:
    """The whole job, for `tfkd run` and `tfkd sweep`.

    Attributes:
      teacher: a system to train, or one that there is: the folder of a run, or whatever
        `tfkd label` takes for a teacher. Each system may stand in a YAML file of its own, named
        relative to the config.
      baselines: students that learn from transcripts instead of labels: "transcribed" from those
        that the teacher learned from, "all" from those of the untranscribed corpora, too.
      generations: how often a teacher labels and a student learns; from the second on, the teacher
        is `next_teacher`, or the student before.
      next_teacher: a system that is trained on the labels of the generation before, such as a
        larger student with more noise; null for the student itself.
    """

    work_dir: str = "work"
    data_dir: str = "data"
    corpora: CorporaConfig = field(default_factory=CorporaConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    teacher: SystemConfig | str = field(default_factory=SystemConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    student: SystemConfig = field(default_factory=SystemConfig)
    baselines: tuple[Baseline, ...] = ("transcribed",)
    generations: int = number(1, at_least=1)
    next_teacher: SystemConfig | None = None
    export: ExportConfig = field(default_factory=ExportConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)

    @property
    def systems(self) -> dict[str, SystemConfig]:
        """The systems that are trained, by role."""
        named = {
            "teacher": self.teacher,
            "student": self.student,
            "next_teacher": self.next_teacher,
        }
        return {role: each for role, each in named.items() if isinstance(each, SystemConfig)}
