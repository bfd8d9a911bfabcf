"""The interface of a teacher: labelling uses nothing else of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from tfkd.config import LabelConfig, PrepareConfig
from tfkd.records import Hypothesis
from tfkd.text import Tokenizer

if TYPE_CHECKING:
    import tensorflow as tf

# A batch of `tfkd.data.audio_batches.audio_batches`.
Batch = Mapping[str, "tf.Tensor"]
# Maps a batch to the hypotheses of each of its utterances, best first.
Labeller = Callable[[Batch], list[tuple[Hypothesis, ...]]]


class Teacher(Protocol):
    """A recogniser that proposes the k best hypotheses of audio."""

    @property
    def spec(self) -> str:
        """The argument with which `load_teacher` loads the same teacher in another process."""

    @property
    def identity(self) -> str:
        """The sha256 of its weights and of the other files that its labels depend on."""

    @property
    def sample_rate_hz(self) -> int:
        """The sample rate of the audio that it expects."""

    @property
    def usual_seconds(self) -> float:
        """Duration that most utterances it knows do not exceed; infinite if it takes any."""

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer of its token ids; None if it gives no posteriors (`labels.top_m`)."""

    @property
    def preparation(self) -> PrepareConfig:
        """How a corpus is prepared for it."""

    def digest(self, config: LabelConfig) -> str:
        """The sha256 of all settings that its labels depend on.

        Raises:
          ConfigError: if the settings ask for a search that it cannot do.
        """

    def labeller(self, config: LabelConfig) -> Labeller:
        """Builds the search and returns the function that labels a batch with it."""
