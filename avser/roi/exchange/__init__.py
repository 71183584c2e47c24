"""Curves and regions of and for other tools: CSV, JSON, Praat, ELAN."""
