"""Exports a run as a SavedModel, from waveform to text and scores, and calls it once.

python export/export_savedmodel.py work/student work/export work/data/valid
"""

import sys

from tfkd.config import ExportConfig
from tfkd.data.audio_batches import audio_batches
from tfkd.decoding.runs import load_run
from tfkd.exporting.export import export
from tfkd.exporting.savedmodel import load_savedmodel
from tfkd.records import open_verified

run_dir, out, parity_dir = sys.argv[1:]
store = open_verified(parity_dir)
(report,) = export(load_run(run_dir), out, ExportConfig(formats=("savedmodel",)), store)
print(f"same token ids as Keras on {report.identical:.0%} of {report.utterances} utterances")

serve = load_savedmodel(f"{out}/{report.path}")
for batch in audio_batches(store, 1).take(1):
    result = serve(waveform=batch["waveform"], num_samples=batch["num_samples"])
    print(result["text"][0, 0].numpy().decode(), float(result["score"][0, 0]))
