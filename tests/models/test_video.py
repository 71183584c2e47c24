"""The face branch's baseline: the usual face is taken away, without printing an expression's negative elsewhere."""

import torch

from avser.models.video import usual_face


def test_the_usual_face_is_the_median_over_real_frames():
    sequence = torch.tensor([[[1.0], [5.0], [2.0], [99.0]], [[7.0], [7.0], [7.0], [7.0]]])
    mask = torch.tensor([[True, True, True, False], [False] * 4])
    assert usual_face(sequence, mask).flatten().tolist() == [2.0, 0.0]


def test_a_short_expression_leaves_no_trace_in_it():
    """A fifth of the clip shows an expression: after subtraction the neutral frames are zero, the others unchanged."""
    neutral, smile = torch.tensor([3.0, -1.0]), torch.tensor([0.0, 4.0])
    sequence = neutral.repeat(1, 10, 1)
    sequence[0, 4:6] += smile
    mask = torch.ones(1, 10, dtype=torch.bool)
    rest = sequence - usual_face(sequence, mask)
    assert (rest[0, :4] == 0).all()
    assert (rest[0, 4:6] == smile).all()
