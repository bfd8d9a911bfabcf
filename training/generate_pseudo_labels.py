"""Labels a prepared corpus with a teacher's k best: what `tfkd label` does, step by step.

python training/generate_pseudo_labels.py work/teacher work/data/train work/labels
"""

import itertools
import sys

from tfkd.config import LabelConfig
from tfkd.decoding.runs import load_run
from tfkd.distillation.labelling import label
from tfkd.records import PseudoLabelRecord, open_store, open_verified

teacher_dir, data_dir, out = sys.argv[1:]
settings = LabelConfig(beam_width=8, num_hypotheses=4)
summary = label(load_run(teacher_dir), open_verified(data_dir), out, settings)
print(f"{summary.records} labelled, {summary.rejected} rejected")

# Each record holds the audio and, for each hypothesis, text, ids, log_prob, score and more.
for record in itertools.islice(open_store(out).records(), 3):
    if isinstance(record, PseudoLabelRecord):
        for hypothesis in record.hypotheses:
            print(f"{record.utterance_id}  {hypothesis.log_prob:8.3f}  {hypothesis.text}")
