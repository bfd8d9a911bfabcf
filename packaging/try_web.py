"""Exports a run with a fixed length, and compares LiteRT.js with Keras on recordings.

    python packaging/try_web.py --out packaging/try_web.json

The run and the six recordings are those that tests/earlier_versions keeps. npm installs LiteRT.js
in an empty folder, and Node runs it: the module of browsers in WebAssembly, without the browser.
The float32 form has to give the token ids of Keras, and its log_probs up to rounding.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tfkd import load_run
from tfkd.config import ExportConfig
from tfkd.data.audio_batches import audio_batches
from tfkd.decoding.decoder import decode_dataset
from tfkd.device.metadata import read_metadata
from tfkd.environment import provenance
from tfkd.exporting.export import export
from tfkd.exporting.graph import decoder_for
from tfkd.records import open_store
from tfkd.reporting.tables import table

_PACKAGE = "@litertjs/core"
_SCRIPT = Path(__file__).with_suffix(".mjs")
_KEPT = Path(__file__).parents[1] / "tests" / "earlier_versions" / "861bfce"
_FORMS = ("tflite-float32", "tflite-int8")
_TOLERANCE = 1e-3


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        npm = ["npm", "install", "--silent", "--prefix", work, f"{_PACKAGE}@{options.version}"]
        subprocess.run(npm, check=True)
        config = ExportConfig(formats=_FORMS, max_seconds=options.seconds, fixed_length=True)
        # Copies, because opening a store takes its lock.
        run = load_run(shutil.copytree(_KEPT / "run", work / "run"))
        store = open_store(shutil.copytree(_KEPT / "valid", work / "valid"))
        reports = export(run, work / "export", config, store)
        decoder = decoder_for(run, config)
        batches = list(audio_batches(store, 1))
        keras = [next(decode_dataset(decoder, [batch])) for batch in batches]
        recordings = {decoded.utterance_id: batch["waveform"][0].numpy().tolist()
                      for batch, decoded in zip(batches, keras, strict=True)}  # fmt: skip
        (work / "recordings.json").write_text(json.dumps(recordings))
        results = [_compared(report.format, work / "export" / report.path, work, keras)
                   for report in reports]  # fmt: skip
    node = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True)
    runtime = f"{_PACKAGE} {options.version}, Node {node.stdout.strip()}"
    content = {**provenance(), "runtime": runtime, "seconds": options.seconds, "results": results}
    if options.out:
        Path(options.out).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    columns = ("format", "recordings", "same_ids", "log_prob_drift")
    print(table(list(columns), [[str(row[name]) for name in columns] for row in results]))
    exact = results[_FORMS.index("tflite-float32")]
    is_same = exact["same_ids"] == exact["recordings"] and exact["log_prob_drift"] <= _TOLERANCE
    sys.exit(not is_same)


def _compared(form: str, path: Path, work: Path, keras: list) -> dict[str, Any]:
    about = work / "about.json"
    about.write_text(json.dumps(asdict(read_metadata(path))))
    node = ["node", _SCRIPT, path, about, work / "recordings.json"]
    done = subprocess.run(node, cwd=work, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    same, drift = 0, 0.0
    for decoded in keras:
        own, result = found[decoded.utterance_id], decoded.result
        ids = result.token_ids[0, : result.num_tokens[0]].tolist()
        is_same = own["ids"] == ids and own["text"] == decoded.best_text
        same += is_same
        if is_same:
            drift = max(drift, abs(own["logProb"] - float(result.log_prob[0])))
    return {"format": form, "recordings": len(keras), "same_ids": same, "log_prob_drift": drift}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--version", default="2.5.3", help=f"of {_PACKAGE} (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="fixed length (%(default)s)")
    parser.add_argument("--out", help="write the results here (JSON)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
