"""Runs: made in numbers, read back, compared."""
