"""Tensors in, tensors out: encoders, attention, fusion and the systems built of them."""
