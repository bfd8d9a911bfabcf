"""Packaging of tfkd: bounded versions, and extras for what only some users need."""

import runpy
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
REQUIREMENTS = runpy.run_path(str(ROOT / "packaging" / "requirements.py"))

# The figures of `tfkd report` on a sweep.
REPORT = ["matplotlib>=3.8,<4"]
# What reads a Whisper, which can then label: weights, vocabulary, and words for its numbers.
WHISPER = ["safetensors>=0.4.3,<1", "tokenizers>=0.15,<1", "num2words>=0.5.13,<0.6"]

BEAM = ["apache-beam>=2.77,<2.78"]

# NVIDIA's libraries, of the versions that TensorFlow was built for.
TENSORFLOW_ALONE = [each for each in REQUIREMENTS["TENSORFLOW"] if each.startswith("tensorflow>")]

setup(
    name="tfkd",
    version=REQUIREMENTS["VERSION"],
    description="Sequence-level knowledge distillation of speech recognisers, audio to .tflite",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["tfkd", "tfkd.*"]),
    package_data={"tfkd": ["py.typed", "distillation/templates/*.html"]},
    install_requires=[
        *REQUIREMENTS["DEVICE"],
        *REQUIREMENTS["TENSORFLOW"],
        "sentencepiece>=0.2,<0.3",
        "jiwer>=4.0,<5",
        "rapidfuzz>=3.9,<4",
        "soundfile>=0.12,<1",
        "google-crc32c>=1.5,<2",
        "grpcio>=1.50,<2",
        "PyYAML>=6,<7",
        "jinja2>=3.1,<4",
        "tqdm>=4.60,<5",
    ],
    extras_require={
        "beam": BEAM,
        "gpu": [each.replace("tensorflow>", "tensorflow[and-cuda]>") for each in TENSORFLOW_ALONE],
        "whisper": WHISPER,
        "report": REPORT,
        "demo": ["hibari-tts>=0.2.1,<0.3"],
        "dev": [
            *BEAM,
            *REPORT,
            *WHISPER,
            "ctranslate2>=4.6,<5",  # a second opinion on Whisper's search
            "pytest>=8",
            "pytest-xdist>=3.5",
            "pytest-timeout>=2.3",
            "hypothesis>=6.100",
            "miniaudio>=1.60,<2",  # a second opinion on audio
            "arpa>=0.1.0b4,<0.2",  # a second opinion on n-gram models
            "mypy>=1.10",
            "ruff>=0.6",
            "types-PyYAML",
            "types-tqdm",
            # Proves that stores are read by it. tensorflow-metadata 1.21 needs a newer protobuf
            # than TensorFlow 2.16 takes, and pip does not know.
            "tensorflow-datasets>=4.9.10,<4.10",
            "tensorflow-metadata>=1.17,<1.18" + REQUIREMENTS["ON_311"],
        ],
    },
    entry_points={"console_scripts": ["tfkd=tfkd.cli:main"]},
)
