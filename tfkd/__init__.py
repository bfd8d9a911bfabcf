"""tfkd: compress attention speech recognisers by sequence-level knowledge distillation.

Importing the package loads nothing heavy: `tfkd --help` and `tfkd transcribe` must start fast and
the device side must work where TensorFlow is not installed.
"""

__version__ = "0.1.0"
