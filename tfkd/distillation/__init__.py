"""Pseudo labels: made with a teacher or imported from n-best lists, then filtered."""
