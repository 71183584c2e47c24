"""Trained models on spoiled clips."""
