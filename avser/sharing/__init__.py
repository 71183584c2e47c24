"""A run as something to hand on: the model card, the hub, and the same folder offline."""
