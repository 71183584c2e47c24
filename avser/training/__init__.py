"""Losses, the training loop, run folders and checkpoints."""
