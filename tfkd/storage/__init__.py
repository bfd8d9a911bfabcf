"""Files, locks, sealed JSON and `.keras` files: written whole or not at all."""
