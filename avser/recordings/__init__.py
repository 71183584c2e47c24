"""A recording of any length: many windows, several faces, one timeline, and the files that show it."""
