"""Measures the error rates of runs and exports, and chooses decoding settings by them."""
