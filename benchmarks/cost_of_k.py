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
import statistics
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs" / "barista.yaml"
BATCH, SECONDS, TOKENS, VOCABULARY = 16, 8.0, 25, 70


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hypotheses", default="1,5,10", help="the first is what others cost")
    parser.add_argument("--rounds", type=int, default=8, help="steps of each k")
    parser.add_argument("--out", default="benchmarks/results/cost_of_k.json")
    options = parser.parse_args()
    import tensorflow as tf

    from tfkd.environment import provenance
    from tfkd.malloc import share_one_heap
    from tfkd.reporting.tables import table
    from tfkd.storage.files import write_json

    share_one_heap()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    counts = [int(each) for each in options.hypotheses.split(",")]
    results = {}
    for with_ctc in (True, False):
        steps = {k: _step(k, with_ctc) for k in counts}
        results["with CTC" if with_ctc else "attention alone"] = _timed(steps, options.rounds)
    setting = {
        "config": f"{CONFIG.relative_to(ROOT)} (teacher)",
        "batch": BATCH,
        "seconds": SECONDS,
        "tokens": TOKENS,
        "vocabulary": VOCABULARY,
        "threads": 1,
    }
    write_json(Path(options.out), {**provenance(), "setting": setting, "results": results})
    rows = [
        [case, k, f"{row['median_cpu_seconds']:.3f}", f"{row['ratio']:.2f}"]
        for case, by_k in results.items()
        for k, row in by_k.items()
    ]
    print(table(["loss", "k", "CPU s a step", "of k = 1"], rows))


def _step(num_hypotheses: int, with_ctc: bool):
    """A function that does one training step on a batch of its own."""
    import keras
    import numpy as np
    import tensorflow as tf

    from tfkd.config import load_system_config
    from tfkd.models.recogniser import Recogniser
    from tfkd.objectives import SequenceKD
    from tfkd.training.optimizers import Adam

    keras.utils.set_random_seed(0)
    config = load_system_config(CONFIG, "teacher")
    weight = config.training.ctc_weight if with_ctc else 0.0
    model = Recogniser(config.model, VOCABULARY)
    model.compile(
        Adam(1e-4, global_clipnorm=5.0),
        SequenceKD(num_hypotheses=num_hypotheses, ctc_weight=weight),
    )
    rng = np.random.default_rng(0)
    num_samples = round(SECONDS * config.model.frontend.sample_rate_hz)
    token_ids = rng.integers(4, VOCABULARY, (BATCH, num_hypotheses, TOKENS))
    token_ids[..., -1] = 3  # EOS
    batch = {
        "waveform": tf.constant(0.1 * rng.normal(size=(BATCH, num_samples)), tf.float32),
        "num_samples": tf.fill([BATCH], num_samples),
        "token_ids": tf.constant(token_ids, tf.int32),
        "weights": tf.fill([BATCH, num_hypotheses], 1.0 / num_hypotheses),
    }
    spec = {name: tf.TensorSpec([None] * x.shape.rank, x.dtype) for name, x in batch.items()}
    spec["token_ids"] = tf.TensorSpec([None, num_hypotheses, None], tf.int32)
    spec["weights"] = tf.TensorSpec([None, num_hypotheses], tf.float32)
    step = tf.function(model.train_step, input_signature=[spec])
    return lambda: step(batch)["loss"].numpy()


def _timed(steps: dict, rounds: int) -> dict:
    """CPU and wall seconds of each step, and the ratio of its CPU seconds to those of the first."""
    for step in steps.values():
        step()  # traces
    runs: dict = {k: [] for k in steps}
    for _ in range(rounds):
        for k, step in steps.items():
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            runs[k].append((time.process_time() - cpu, time.perf_counter() - wall))
    first = next(iter(runs.values()))
    return {
        str(k): {
            "median_cpu_seconds": statistics.median(cpu for cpu, _ in own),
            "median_wall_seconds": statistics.median(wall for _, wall in own),
            "ratio": statistics.median(a[0] / b[0] for a, b in zip(own, first, strict=True)),
            "runs": [{"cpu_seconds": cpu, "wall_seconds": wall} for cpu, wall in own],
        }
        for k, own in runs.items()
    }


if __name__ == "__main__":
    main()
