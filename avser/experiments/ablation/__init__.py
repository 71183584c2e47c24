"""Ablations: which setting is better, all else equal."""
