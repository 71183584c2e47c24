"""Folds and seeds of one system, judged together."""
