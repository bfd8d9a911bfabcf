"""Layers and matrix products that encoders, decoders and language models share."""
