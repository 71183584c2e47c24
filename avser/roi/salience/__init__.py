"""Which moments carried the emotion: every way to ask a model, and where in the face and in frequency."""
