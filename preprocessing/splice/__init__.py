"""Joins neutral and emotional takes of one speaker into clips whose emotional region is known."""
