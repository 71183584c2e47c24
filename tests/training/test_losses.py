"""Losses by hand, and with modalities missing."""

import math

import pytest
import torch

from avser.structures import Attended, Batch, Output
from avser.training.losses import TrainingLoss, balanced_class_weights, focal_loss, relative_entropy


def attended(logits, mask, weights=None):
    mask = torch.tensor(mask)
    weights = torch.tensor(weights) if weights else mask / mask.sum(dim=1, keepdim=True).clamp(min=1)
    blank = torch.zeros(*mask.shape, 2)
    return Attended(blank, weights, None, blank[..., 0], mask, blank[:, 0], torch.tensor(logits))


LOGITS = [[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
BATCH = Batch(["a", "b"], labels=torch.tensor([0, 2]))
PLAIN = torch.nn.functional.cross_entropy


def test_cross_entropy_of_the_verdict():
    output = Output(torch.tensor(LOGITS), {})
    assert TrainingLoss()(output, BATCH) == PLAIN(output.logits, BATCH.labels)


def test_class_weights_and_smoothing_reach_the_loss():
    output, weights = Output(torch.tensor(LOGITS), {}), torch.tensor([1.0, 2.0, 5.0])
    expected = PLAIN(output.logits, BATCH.labels, weight=weights, label_smoothing=0.1)
    assert TrainingLoss(class_weights=weights, label_smoothing=0.1)(output, BATCH) == expected


def test_soft_targets_replace_labels():
    targets = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    output = Output(torch.tensor(LOGITS), {})
    expected = -(targets * output.logits.log_softmax(1)).sum(1).mean()
    assert TrainingLoss()(output, Batch(["a", "b"], targets=targets)) == pytest.approx(expected.item())


def test_a_clip_without_a_modality_does_not_enter_its_term():
    audio = attended([[1.0, 0.0, 0.0], [9.0, 9.0, 9.0]], [[True, True], [False, False]])
    video = attended(LOGITS, [[True, True], [True, False]])
    output = Output(torch.tensor(LOGITS), {"audio": audio, "video": video})
    expected = (
        PLAIN(output.logits, BATCH.labels)
        + 0.5 * PLAIN(audio.logits[:1], BATCH.labels[:1])
        + 0.5 * PLAIN(video.logits, BATCH.labels)
    )
    assert TrainingLoss(unimodal=0.5)(output, BATCH) == pytest.approx(expected.item())


def test_a_modality_that_no_clip_has_adds_nothing():
    nobody = attended(LOGITS, [[False, False], [False, False]])
    there = attended(LOGITS, [[True, True], [True, True]])
    output = Output(torch.tensor(LOGITS), {"audio": nobody, "video": there})
    expected = 1.5 * PLAIN(output.logits, BATCH.labels)
    assert TrainingLoss(unimodal=0.5)(output, BATCH) == pytest.approx(expected.item())


def test_entropy_is_one_for_uniform_and_zero_for_a_single_step():
    part = attended(LOGITS, [[True] * 4, [True] * 4], weights=[[0.25, 0.25, 0.25, 0.25], [0.0, 1.0, 0.0, 0.0]])
    assert relative_entropy(part).tolist() == pytest.approx([1.0, 0.0], abs=1e-6)


def test_the_entropy_of_those_that_lack_a_modality_is_not_counted():
    part = attended(LOGITS, [[True] * 4, [False] * 4])
    output = Output(torch.tensor(LOGITS), {"audio": part})
    assert TrainingLoss(attention_entropy=0.5)(output, BATCH) == PLAIN(output.logits, BATCH.labels) + 0.5
    nobody = Output(output.logits, {"audio": attended(LOGITS, [[False], [False]])})
    assert TrainingLoss(attention_entropy=0.5)(nobody, BATCH) == PLAIN(output.logits, BATCH.labels)


def test_balanced_weights_by_hand():
    assert balanced_class_weights([0, 0, 0, 1], 3).tolist() == pytest.approx([4 / 9, 4 / 3, 0.0])


def test_no_labels_is_an_error():
    with pytest.raises(ValueError, match="needs labels"):
        TrainingLoss()(Output(torch.tensor(LOGITS), {}), Batch(["a", "b"]))


def test_focal_loss_by_hand():
    logits = torch.log(torch.tensor([[0.9, 0.1], [0.4, 0.6]]))
    labels = torch.tensor([0, 0])
    expected = (0.1**2 * -math.log(0.9) + 0.6**2 * -math.log(0.4)) / 2
    assert focal_loss(logits, labels, 2.0).item() == pytest.approx(expected, rel=1e-5)
    soft = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert focal_loss(logits, soft, 2.0).item() == pytest.approx(expected, rel=1e-5)


def test_focal_loss_without_focus_is_the_cross_entropy():
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 0, 1])
    weights = torch.tensor([0.5, 1.0, 2.0])
    ours = focal_loss(logits, labels, 0.0, weights, 0.1)
    theirs = torch.nn.functional.cross_entropy(logits, labels, weight=weights, label_smoothing=0.1)
    torch.testing.assert_close(ours, theirs)


def test_rows_count_for_the_clip_that_owns_them():
    batch = Batch(["a", "b"], labels=torch.tensor([2, 0]))
    logits, owner = torch.randn(3, 3), torch.tensor([0, 0, 1])
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([2, 2, 0]))
    torch.testing.assert_close(TrainingLoss().cross_entropy(logits, batch, owner), expected)
    assert TrainingLoss().cross_entropy(logits[:0], batch, owner[:0]) == 0
