"""Exports recognisers for servers and devices; every form is compared with Keras."""
