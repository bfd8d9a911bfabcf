"""Formats results as tables, sentences, figures and pages."""
