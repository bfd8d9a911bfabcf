"""Times a training step that learns k hypotheses of each utterance, for several k.

    python benchmarks/cost_of_k.py

The paper's data grows by a factor of k; here the k hypotheses of an utterance share one pass of the
encoder. The batch is like those of the barista recipe: 16 utterances of 8 s, hypotheses of 25
SentencePiece tokens; the recogniser is its teacher, with the objective's CTC. The steps of all k
take turns in one process with one thread, so that whatever else the machine does meets all alike;
a ratio is the median over the turns.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from training_steps import Batch, step_of, taking_turns, use_one_thread

from tfkd.config import load_system_config
from tfkd.environment import provenance
from tfkd.objectives import SequenceKD
from tfkd.reporting.tables import table
from tfkd.storage.files import write_json

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs" / "barista.yaml"
BATCH = Batch(utterances=16, seconds=8.0, tokens=25, vocabulary=70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hypotheses", default="1,5,10", help="the first is what others cost")
    parser.add_argument("--rounds", type=int, default=8, help="steps of each k")
    parser.add_argument("--out", default="benchmarks/results/cost_of_k.json")
    options = parser.parse_args()
    use_one_thread()
    counts = [int(each) for each in options.hypotheses.split(",")]
    teacher = load_system_config(CONFIG, "teacher")
    results = {}
    for case, weight in (("with CTC", teacher.training.ctc_weight), ("attention alone", 0.0)):
        objectives = {k: SequenceKD(num_hypotheses=k, ctc_weight=weight) for k in counts}
        steps = {k: step_of(teacher, BATCH, k, each) for k, each in objectives.items()}
        results[case] = taking_turns(steps, options.rounds)
    setting = {
        "config": f"{CONFIG.relative_to(ROOT)} (teacher)",
        "batch": BATCH.utterances,
        "seconds": BATCH.seconds,
        "tokens": BATCH.tokens,
        "vocabulary": BATCH.vocabulary,
        "threads": 1,
    }
    write_json(Path(options.out), {**provenance(), "setting": setting, "results": results})
    rows = [
        [case, k, f"{row['median_cpu_seconds']:.3f}", f"{row['ratio']:.2f}"]
        for case, by_k in results.items()
        for k, row in by_k.items()
    ]
    print(table(["loss", "k", "CPU s a step", "of k = 1"], rows))


if __name__ == "__main__":
    main()
