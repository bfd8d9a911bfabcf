"""tfkd-device: the same package with what a device needs alone, so without TensorFlow.

pip wheel --no-deps packaging/tfkd-device

`tfkd.device` and `tfkd transcribe` work; other commands say what to install. Install this or tfkd,
not both: they hold the same files.
"""

import runpy
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = runpy.run_path(str(ROOT / "packaging" / "requirements.py"))

setup(
    name="tfkd-device",
    version=REQUIREMENTS["VERSION"],
    description="Runs recognisers that tfkd exported, with numpy and a small interpreter",
    license="Apache-2.0",
    python_requires=">=3.10,<3.15",
    package_dir={"": "../.."},
    packages=find_packages(str(ROOT), include=["tfkd", "tfkd.*"]),
    package_data={"tfkd": ["py.typed"]},
    install_requires=REQUIREMENTS["DEVICE"],
    extras_require={"audio": ["soundfile>=0.12,<1"]},
    entry_points={"console_scripts": ["tfkd=tfkd.cli:main"]},
)
