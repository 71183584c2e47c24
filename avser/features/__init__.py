"""From waveform to time-frequency planes, as batched modules."""
