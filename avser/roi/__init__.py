"""Regions of interest: which moments carried the emotion, how voice and face align, and the report about it."""
