"""What is made of many runs: ablations, folds, sweeps."""
