"""Objectives: what a recogniser learns from, transcripts or the hypotheses of its teacher.

`objective` defines the interface. Each objective is one file and names its paper and equation.

| in a config | class | learns |
|---|---|---|
| `truth` | Truth | the transcript |
| `seq_kd` | SequenceKD | the teacher's k best, weighted |
| `seq_inter` | SequenceInterpolation | the hypotheses with the fewest word errors |
| `word_kd` | WordKD | the teacher's posteriors at each step of its k best |
| `mixture` | Mixture | several of these, each with a share |

Example:
    >>> SequenceKD(num_hypotheses=4).losses[0]
    'loss'
"""

from tfkd.objectives.from_config import distilled, in_effect, make_objective, undistilled
from tfkd.objectives.mixture import Mixture
from tfkd.objectives.objective import Dropped, Field, Objective, Signature, Targets
from tfkd.objectives.sequence_kd import SequenceInterpolation, SequenceKD
from tfkd.objectives.survey import Survey, survey
from tfkd.objectives.truth import Truth
from tfkd.objectives.word_kd import WordKD

__all__ = [
    "Dropped",
    "Field",
    "Mixture",
    "Objective",
    "SequenceInterpolation",
    "SequenceKD",
    "Signature",
    "Survey",
    "Targets",
    "Truth",
    "WordKD",
    "distilled",
    "in_effect",
    "make_objective",
    "survey",
    "undistilled",
]
