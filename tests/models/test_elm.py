"""Closed-form read-outs against numpy, exactness of the kernel, saving, and the statistics they read."""

import numpy as np
import pytest
import torch

from avser.models.elm import READOUTS, ElmReadout, KernelElmReadout, utterance_features


def clips(count=40, num_features=6, num_classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(count, num_features, generator=generator)
    labels = features[:, :num_classes].argmax(dim=1)
    return features, torch.nn.functional.one_hot(labels, num_classes).float(), labels


def gaussian(a, b, gamma):
    return np.exp(-gamma * ((a[:, None] - b[None]) ** 2).sum(axis=2))


def test_elm_is_the_closed_form():
    features, targets, _ = clips()
    readout = ElmReadout(6, 3, num_units=20, num_elms=2, cost=5.0)
    readout.fit(features, targets)
    x, signs = features.double().numpy(), 2 * targets.numpy() - 1
    scores = []
    for weights, biases in zip(readout.weights.double().numpy(), readout.biases.double().numpy(), strict=True):
        hidden = 1 / (1 + np.exp(-(x @ weights + biases)))
        beta = np.linalg.inv(hidden.T @ hidden + np.eye(20) / 5.0) @ hidden.T @ signs
        scores.append(hidden @ beta)
    np.testing.assert_allclose(readout(features).numpy(), np.mean(scores, axis=0), atol=1e-4)


def test_random_weights_come_from_the_seed_alone_and_are_normal():
    torch.manual_seed(1)
    one = ElmReadout(32, 4, seed=3)
    torch.manual_seed(2)
    same, other = ElmReadout(32, 4, seed=3), ElmReadout(32, 4, seed=4)
    assert torch.equal(one.weights, same.weights)
    assert not torch.equal(one.weights, other.weights)
    assert one.weights.shape == (10, 32, 120)
    assert one.weights.std() == pytest.approx(1, abs=0.02)
    assert not torch.equal(one.weights[0], one.weights[1])


def test_kernel_elm_is_the_closed_form():
    features, targets, _ = clips()
    readout = KernelElmReadout(6, 3, gamma=2.0, max_centres=64, cost=5.0)
    readout.fit(features, targets)
    x, fresh = features.double().numpy(), clips(seed=1)[0]
    dual = np.linalg.inv(gaussian(x, x, 2.0) + np.eye(40) / 5.0) @ (2 * targets.numpy() - 1)
    expected = gaussian(fresh.double().numpy(), x, 2.0) @ dual
    np.testing.assert_allclose(readout(fresh).numpy(), expected, atol=1e-4)


def test_kernel_elm_with_fewer_centres_is_the_subset_of_regressors():
    features, targets, _ = clips()
    readout = KernelElmReadout(6, 3, gamma=2.0, max_centres=15, cost=5.0, seed=7)
    readout.fit(features, targets)
    drawn = torch.randperm(40, generator=torch.Generator().manual_seed(7))[:15]
    x, centres = features.double().numpy(), features[drawn].double().numpy()
    k, omega = gaussian(x, centres, 2.0), gaussian(centres, centres, 2.0)
    dual = np.linalg.inv(k.T @ k + omega / 5.0) @ k.T @ (2 * targets.numpy() - 1)
    np.testing.assert_allclose(readout(features).numpy(), k @ dual, atol=1e-3)


@pytest.mark.parametrize("name", READOUTS)
def test_mixed_precision_does_not_change_the_scores(name):
    features, targets, _ = clips(count=200)
    readout = READOUTS[name](6, 3)
    readout.fit(features, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = readout(features)
    assert torch.equal(mixed, readout(features))


def test_a_second_fit_with_fewer_clips_forgets_the_first():
    features, targets, _ = clips()
    again, once = (KernelElmReadout(6, 3, max_centres=64) for _ in range(2))
    again.fit(features, targets)
    again.fit(features[:10], targets[:10])
    once.fit(features[:10], targets[:10])
    torch.testing.assert_close(again(features), once(features))


@pytest.mark.parametrize("name", READOUTS)
def test_readouts_learn_are_saved_and_give_zeros_before(name):
    features, targets, labels = clips(count=200)
    readout, loaded = READOUTS[name](6, 3), READOUTS[name](6, 3)
    assert not readout.fitted
    assert readout(features).abs().max() == 0
    readout.fit(features, targets)
    assert (readout(features).argmax(dim=1) == labels).float().mean() > 0.9
    loaded.load_state_dict(readout.state_dict())
    assert loaded.fitted
    assert torch.equal(loaded(features), readout(features))
    with pytest.raises(ValueError, match="no clip"):
        readout.fit(features[:0], targets[:0])


def test_statistics_of_frames_by_hand():
    posteriors = torch.tensor([[[0.7, 0.3], [0.1, 0.9], [0.5, 0.5], [0.0, 1.0]], [[0.4, 0.6]] * 4])
    mask = torch.tensor([[True, True, True, False], [False] * 4])
    found = utterance_features(posteriors, mask)
    expected = [0.7, 0.9, 0.1, 0.3, 1.3 / 3, 1.7 / 3, 2 / 3, 1.0]  # maxima, minima, means, shares above 0.2
    torch.testing.assert_close(found[0], torch.tensor(expected))
    assert found[1].abs().max() == 0
