"""The version, and what each distribution requires: read by the setup files of both.

Python 3.11 gets TensorFlow 2.16 with tensorflow-io and tflite-runtime, of which no later Python has
working wheels; Python 3.12 and 3.13 get today's TensorFlow. See docs/decisions/0001-pins.md.
"""

import re
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1] / "tfkd" / "__init__.py"
VERSION = re.findall(r'^__version__ = "(.+)"', _PACKAGE.read_text(encoding="utf-8"), re.MULTILINE)[
    0
]

ON_311, LATER = "; python_version == '3.11'", "; python_version != '3.11'"

# What running a .tflite needs: nothing here may pull in TensorFlow.
DEVICE = [
    f"numpy>=1.26,<2{ON_311}",
    f"tflite-runtime>=2.14,<2.15{ON_311}",
    f"numpy>=2,<3{LATER}",
    f"ai-edge-litert>=2.3,<3{LATER}",
]

TENSORFLOW = [
    f"tensorflow>=2.16.2,<2.17{ON_311}",
    f"tensorflow-io>=0.37.1,<0.38{ON_311}",
    f"tensorboard>=2.16,<2.17{ON_311}",
    f"tensorflow>=2.20,<2.22{LATER}",
    f"tensorboard>=2.20,<2.22{LATER}",
    "keras>=3.15,<3.16",
]
