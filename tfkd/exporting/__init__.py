"""Recognisers for servers and devices, each form checked against Keras."""
