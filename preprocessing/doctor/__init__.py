"""What is wrong with a corpus, before anything is trained: every file measured, every doubt listed."""
