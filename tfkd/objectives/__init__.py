"""What a student learns: target sequences, their weights, and losses."""
