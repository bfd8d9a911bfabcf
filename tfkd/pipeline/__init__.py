"""`tfkd run`, the whole job, and `tfkd sweep`, a grid of students on its labels."""
