"""Results as tables and pages for people."""
