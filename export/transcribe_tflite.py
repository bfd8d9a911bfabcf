"""Transcribes recordings with numpy and tflite-runtime only, as an app on a device does.

python export/transcribe_tflite.py work/export/model-int8.tflite order.wav
"""

import sys

from tfkd.device.recogniser import DeviceRecogniser

model, *recordings = sys.argv[1:]
recogniser = DeviceRecogniser(model)
for recording in recordings:
    result = recogniser.transcribe_file(recording)
    print(f"{recording}\t{result.text}\t{result.compute_seconds / result.audio_seconds:.4f} RTF")
