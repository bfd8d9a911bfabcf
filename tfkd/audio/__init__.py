"""Reads recordings as waveforms at the model's rate: containers, decoding, resampling."""
