"""Regions of one clip or of many, and the report about them."""
