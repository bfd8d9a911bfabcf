"""Files, locks, sealed JSON and `.keras` files; all are written atomically."""
