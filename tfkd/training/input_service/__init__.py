"""Batches that other processes make: one trainer, and workers that read and augment for it.

A batch follows from the data, the settings, its epoch and its number alone. So a trainer asks any
worker for any batch, gets what it would have made itself, and makes it itself where none answers.
"""
