"""Times a training step of each family of students, beside that of the first.

    python benchmarks/families.py

A batch is like those of the recipes (docs/recipes): 16 utterances of the corpus' mean length with 4
hypotheses each. Students are those of configs/families.yaml (digits) and
configs/families-barista.yaml (orders). The steps of all students of a config take turns in one
process with one thread, so that whatever else the machine does meets all alike; a ratio is the
median over the turns. Minutes are those of all steps of a training of the recipe, without its
validations.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from training_steps import Batch, step_of, taking_turns, use_one_thread

from tfkd.config import load_run_config
from tfkd.environment import provenance
from tfkd.reporting.tables import table
from tfkd.storage.files import write_json

CONFIGS = Path(__file__).parent.parent / "configs"
NUM_HYPOTHESES = 4
# Transcripts and labels of an epoch: 330 and 2200 (1.31 h), 1062 and 1466 (2.24 h).
EXAMPLES = {"families.yaml": 2530, "families-barista.yaml": 2528}
BATCHES = {
    "families.yaml": Batch(utterances=16, seconds=2.1, tokens=6, vocabulary=30),
    "families-barista.yaml": Batch(utterances=16, seconds=5.5, tokens=25, vocabulary=70),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="steps of each student")
    parser.add_argument("--out", default="benchmarks/results/families.json")
    options = parser.parse_args()
    use_one_thread()
    results, rows = {}, []
    for name, batch in BATCHES.items():
        students = load_run_config(CONFIGS / name).sweep.students
        steps = {each: step_of(one, batch, NUM_HYPOTHESES) for each, one in students.items()}
        measured = taking_turns(steps, options.rounds)
        for each, row in measured.items():
            seconds = EXAMPLES[name] / batch.utterances * row["median_cpu_seconds"]
            row["minutes"] = students[each].training.epochs * seconds / 60
        results[name] = {"batch": batch._asdict(), "students": measured}
        rows += [
            [
                name,
                each,
                f"{row['median_cpu_seconds']:.3f}",
                f"{row['ratio']:.2f}",
                f"{row['minutes']:.1f}",
            ]
            for each, row in measured.items()
        ]
    setting = {"num_hypotheses": NUM_HYPOTHESES, "threads": 1}
    write_json(Path(options.out), {**provenance(), "setting": setting, "results": results})
    print(table(["config", "student", "CPU s a step", "of the first", "minutes"], rows))


if __name__ == "__main__":
    main()
