"""Grids of runs: comparisons, and the protocols of the field."""
