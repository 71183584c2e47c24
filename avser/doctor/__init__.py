"""Whether an installation works: what is there, what does not fit together, and how to mend it."""
