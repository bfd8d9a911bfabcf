"""Trains a student on pseudo labels: what `tfkd distill` does, step by step.

    python training/train_student.py configs/digits.yaml work/labels work/data/valid work/student

The student differs from the teacher in its config and its dataset only: `TrainingEpochs` gives
the teacher's k best with their weights in place of the transcript.
"""

import dataclasses
import sys

from tfkd.config import ObjectiveConfig, load_system_config
from tfkd.metrics import score
from tfkd.objectives import distilled
from tfkd.records import open_verified
from tfkd.training.loop import train

config, labels_dir, valid_dir, out = sys.argv[1:]
system = load_system_config(config, "student")
# The config's own objective, filters included; a config that names none learns the four best.
default = ObjectiveConfig(kind="seq_kd", num_hypotheses=4)
objective = distilled(system.training.objective, default)
training = dataclasses.replace(system.training, objective=objective)
system = dataclasses.replace(system, training=training)

labels = open_verified(labels_dir)
known = [row for row in labels.index if row["text"]]
if known:
    teacher = score([row["text"] for row in known], [row["hypothesis"] for row in known])
    print(f"WER of the best pseudo labels: {teacher.wer:.2%}")
student = train(system, labels, open_verified(valid_dir), out)
if student:  # The chief's, where there are several workers.
    print(f"{student.model.count_params():,} parameters in {out}")
