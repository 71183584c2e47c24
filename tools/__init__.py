"""Programs about experiments, each `python -m tools.<name>`."""
