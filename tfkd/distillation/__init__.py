"""Pseudo labels: made by a teacher, brought from elsewhere, filtered, reported on."""
