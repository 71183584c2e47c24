"""Whether a salience may be believed: what it must beat, and what must change it."""
