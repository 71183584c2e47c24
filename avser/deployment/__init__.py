"""A model outside PyTorch: an ONNX graph from waveform and crops to answer, and its runtime."""
