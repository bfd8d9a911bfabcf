"""Times training steps, searches and labelling on a GPU, beside PyTorch with cuDNN.

    python benchmarks/gpu.py --torch-python TORCH_ENV/bin/python --out gpu.json

It was never run on a GPU: none was at hand (docs/guide/versions.md). The programs are those of
training.py, decoding.py and labelling.py, which place their work on a GPU where one is; what counts
here is the wall clock. With the defaults it ends within ten minutes. `--without-gpu` runs the same
on a CPU, to see that all parts work; its figures say nothing of GPUs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import paired_runs
from sizes import BATCH, FRAMES, SIZES, TOKENS, VOCABULARY

from tfkd.environment import provenance
from tfkd.reporting.tables import table
from tfkd.storage.files import write_json

HERE = Path(__file__).parent
PRECISIONS = ("float32", "mixed_float16")
_GPUS = (
    "import json, tensorflow as tf; of = tf.config.experimental.get_device_details;"
    "gpus = tf.config.list_physical_devices('GPU'); print(json.dumps([of(g) for g in gpus]))"
)


def main() -> None:
    options = _options()
    gpus = json.loads(_output([sys.executable, "-c", _GPUS]).splitlines()[-1])
    if not gpus and not options.without_gpu:
        sys.exit("no GPU is seen by TensorFlow: pip install '.[gpu]', and see nvidia-smi")
    results = {**_training(options), **_decoding(options)}
    content = {
        **provenance(),
        "gpus": [str(each) for each in gpus],
        "batch": BATCH,
        "frames": FRAMES,
        "tokens": TOKENS,
        "results": results,
        "labelling": _labelling(options),
    }
    if options.out:
        write_json(options.out, content)
    rows = [
        [case, name, f"{statistics.median(run['wall_seconds'] for run in row['runs']):.3f}"]
        for case, programs in results.items()
        for name, row in programs.items()
    ]
    print(table(["case", "program", "wall s"], rows))
    print(json.dumps(content["labelling"], indent=1))


def _training(options: argparse.Namespace) -> dict:
    """A step of each size, in float32 beside PyTorch's, and in mixed precision."""
    found = {}
    for precision in PRECISIONS:
        programs = {"tfkd": [sys.executable, "training_tfkd.py", "--case", precision]}
        if options.torch_python and precision == "float32":
            programs["torch"] = [options.torch_python, "training_torch.py"]
        cases = [_case(f"training, {size}, {precision}", size) for size in SIZES]
        found.update(paired_runs.measure(cases, programs, 1, options.repeats))
    return found


def _decoding(options: argparse.Namespace) -> dict:
    """A search over one batch with each size."""
    programs = {"tfkd": [sys.executable, "decoding_tfkd.py"]}
    if options.torch_python:
        programs["torch"] = [options.torch_python, "decoding_torch.py"]
    cases = [_case(f"decoding, {size}", size) for size in SIZES]
    return paired_runs.measure(cases, programs, 1, options.repeats)


def _case(name: str, size: str) -> paired_runs.Case:
    # The threads are those of the CPU beside the GPU.
    arguments = ["--size", size, "--threads", "2", "--vocabulary", str(VOCABULARY)]
    return paired_runs.Case(name, arguments)


def _labelling(options: argparse.Namespace) -> dict:
    """What labelling.py tells of the large teacher."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "labelling.json"
        command = [sys.executable, "labelling.py", "--teacher", "large", "--json", str(out),
                   "--utterances", str(options.utterances), "--pairs", "2"]  # fmt: skip
        subprocess.run(command, cwd=HERE, check=True, stdout=subprocess.DEVNULL)
        return json.loads(out.read_text())


def _output(command: list[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", help="interpreter of an environment with PyTorch")
    parser.add_argument("--repeats", type=int, default=10, help="of each step and search")
    parser.add_argument("--utterances", type=int, default=512, help="that are labelled")
    parser.add_argument("--without-gpu", action="store_true", help="try the parts on a CPU")
    parser.add_argument("--out", help="write the figures here (JSON)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
