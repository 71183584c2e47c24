"""The face branch: its baseline takes the usual face away and nothing else; features made elsewhere take its place."""

import pytest
import torch

from avser.config import load_config
from avser.errors import ConfigError
from avser.models.build import build_model
from avser.models.video import usual_face
from avser.structures import Batch


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


# --- features made elsewhere ---


def features(num_steps=(4, 1), num_features: int = 3, scale: float = 1.0) -> Batch:
    """Clips of so many steps; what stands in the padding is loud, and must not be heard."""
    longest = max(num_steps) + 1
    generator = torch.Generator().manual_seed(0)
    values = scale * torch.randn(len(num_steps), longest, num_features, generator=generator)
    mask = torch.arange(longest) < torch.tensor(num_steps)[:, None]
    values[~mask] = 1e3
    return Batch(
        [str(i) for i in range(len(num_steps))],
        face_features=values,
        feature_times=torch.arange(longest).expand(len(num_steps), -1) * 0.1,
        feature_mask=mask,
    )


def build(*overrides: str) -> torch.nn.Module:
    torch.manual_seed(0)
    small = ["model.video.num_features=3", "model.video.dim=16", "model.attention.hidden=8"]
    config = load_config(["model.modalities=[video]", *small, *overrides])
    return build_model(config.model, list("abcd"), sample_rate_hz=16000)


@pytest.mark.parametrize("temporal", ["gru", "tcn", "none"])
def test_features_give_one_step_a_row_and_padding_changes_nothing(temporal):
    model = build(f"model.video.temporal={temporal}").eval()
    batch = features()
    with torch.no_grad():
        output = model(batch)
        alone = model(
            Batch(
                ["0"],
                face_features=batch.face_features[:1, :4],
                feature_times=batch.feature_times[:1, :4],
                feature_mask=batch.feature_mask[:1, :4],
            )
        )
    part = output.attended["video"]
    assert part.mask.sum(dim=1).tolist() == [4, 1]
    assert part.weights[1].tolist() == pytest.approx([1, 0, 0, 0, 0])
    assert torch.equal(part.times, batch.feature_times)
    torch.testing.assert_close(output.logits[:1], alone.logits, atol=1e-5, rtol=1e-4)


def test_training_standardises_by_real_steps_only():
    model = build().train()
    batch = features(num_steps=(30, 12), scale=50.0)
    model(batch)
    norm = model.branches["video"].norm
    real = batch.face_features[batch.feature_mask]
    torch.testing.assert_close(norm.running_mean, 0.1 * real.mean(dim=0))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * real.var(dim=0))
    model(features(num_steps=(1,)))  # a single step in a batch is no error


def test_another_number_of_features_is_refused_with_the_setting():
    with pytest.raises(ConfigError, match=r"5 face features a step, the model reads 3; set model.video.num_features=5"):
        build()(features(num_features=5))


def test_features_learn():
    model = build("model.video.dropout=0").train()
    batch = features(num_steps=(6, 6, 6, 6, 6, 6, 6, 6))
    labels = torch.arange(8) % 4
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(batch).logits, labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    assert all(parameter.grad is not None for parameter in model.parameters())
