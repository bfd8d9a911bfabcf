"""Exports a run as .tflite files for devices: frontend, encoder and beam search in one graph.

python export/export_tflite.py work/student work/export work/data/valid [FORM ...]
"""

import sys

from tfkd.config import ExportConfig, from_dict
from tfkd.decoding.runs import load_run
from tfkd.exporting.export import export
from tfkd.records import open_verified

run_dir, out, parity_dir, *forms = sys.argv[1:]
formats = forms or ["tflite-float32", "tflite-int8"]
settings = from_dict(ExportConfig, {"formats": formats})
for report in export(load_run(run_dir), out, settings, open_verified(parity_dir)):
    print(f"{report.path}: {report.bytes:,} bytes, same ids as Keras: {report.identical:.0%}")
