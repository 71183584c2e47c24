"""Features chosen by statistics: the choice, what it leaves of the input, and how steps share the verdict."""

import numpy as np
import pytest
import torch

from avser.config import load_config
from avser.models.build import build_model
from avser.models.systems.byun_feat_rnn import (
    ByunFeatRnn,
    CombinedFeatures,
    choose_features,
    choose_greedily,
    clip_statistics,
)


def small(**options):
    torch.manual_seed(0)
    return ByunFeatRnn(num_classes=3, hidden=8, dense=6, **options).eval()


def spoken(make_batch, per_class=10):
    """Noise of three loudnesses, one for each emotion."""
    count = 3 * per_class
    batch = make_batch((4800,) * count, (1,) * count)
    batch.waveform *= torch.tensor([0.05, 0.3, 1.5]).repeat(per_class)[:, None]
    return batch


def measured(count=90, num_features=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    means, deviations = rng.normal(size=(count, num_features)), rng.uniform(0.5, 1.5, size=(count, num_features))
    return means, deviations, labels


def test_the_configuration_builds_the_network():
    model = build_model(load_config(["byun_feat_rnn"]).model, ["a", "b", "c", "d"], sample_rate_hz=16000)
    lstm = 4 * (128 * (80 + 128) + 2 * 128) + 4 * (128 * (128 + 128) + 2 * 128)
    assert sum(p.numel() for p in model.parameters()) == lstm + (256 * 64 + 64) + (64 * 4 + 4)


def test_columns_are_named_and_hold_what_they_are_named_after():
    front_end = CombinedFeatures()
    assert len(set(front_end.names)) == front_end.num_features == 80
    t = torch.arange(16000) / 16000
    waveform = 0.1 * torch.sin(2 * torch.pi * 200 * t)[None]
    x, mask = front_end(waveform, torch.ones_like(waveform, dtype=torch.bool))
    assert x.shape == (1, 100, 80)
    assert mask.all()
    middle = dict(zip(front_end.names, x[0, 50].tolist(), strict=True))
    assert middle["rms_db"] == pytest.approx(20 * np.log10(0.1 / 2**0.5), abs=0.1)
    assert middle["zcr"] == pytest.approx(400 / 16000, abs=2e-3)
    assert np.exp(middle["log_f0"]) == pytest.approx(200, rel=0.01)
    assert abs(middle["delta_mfcc_1"]) < 0.05


@pytest.mark.parametrize("test", ["kruskal", "anova"])
def test_features_that_differ_are_chosen(test):
    means, deviations, labels = measured()
    means[:, 1] += 2 * labels  # differs in its mean
    deviations[:, 4] += labels  # differs in its deviation alone
    chosen = choose_features(means, deviations, labels, test=test)
    assert chosen.tolist() == [False, True, False, False, True, False]


def test_of_two_features_that_say_the_same_the_stronger_stays():
    means, deviations, labels = measured()
    means[:, 2] += 3 * labels
    means[:, 0] = -(means[:, 2] + 0.3 * np.random.default_rng(1).normal(size=90))
    means[:, 5] += 3 * labels  # correlates with it by less
    assert choose_features(means, deviations, labels).tolist() == [False, False, True, False, False, True]
    all_kept = choose_features(means, deviations, labels, max_correlation=1.0)
    assert all_kept.tolist() == [True, False, True, False, False, True]


def test_chance_is_not_chosen():
    """Of 200 features without any difference the plain level of 5 % would choose about 20."""
    means, deviations, labels = measured(num_features=200)
    assert choose_features(means, deviations, labels, false_discoveries=0.05).sum() <= 1


def test_constants_and_too_few_clips_choose_nothing():
    means, deviations, labels = measured()
    assert not choose_features(0 * means, 0 * deviations, labels).any()
    assert not choose_features(means[:3], deviations[:3], labels[:3]).any()
    assert not choose_features(means, deviations, 0 * labels).any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("test", ["kruskal", "anova"])
def test_what_varies_only_in_an_emotion_with_one_clip_is_a_constant(test):
    means, deviations, labels = measured()
    labels[labels == 2] = 0
    labels[-1] = 2
    means[:, 3] = deviations[:, 3] = 0.0
    means[-1, 3] = 1.0
    means[:, 1] += 5 * labels
    assert choose_features(means, deviations, labels, test=test).tolist() == [False, True, False, False, False, False]


def test_greedy_choice_takes_what_is_missing_and_nothing_twice():
    """One feature tells one emotion from the rest, the deviation of another the other two; then nothing is left."""
    means, deviations, labels = measured()
    means[:, 1] += 60 * (labels == 0)
    means[:, 2] = means[:, 1] + 0.1 * means[:, 2]
    deviations[:, 4] += 20 * (labels == 1)
    assert choose_greedily(means, deviations, labels) == ([4, 1], 1.0)
    assert choose_greedily(means, deviations, labels, max_features=1)[0] == [4]


def test_greedy_choice_sees_what_helps_only_beside_another():
    """A feature that holds nothing but the noise of another: no test of one feature alone finds it."""
    means, deviations, labels = measured(num_features=4)
    means[:, 0] = labels + means[:, 3]
    assert not choose_features(means, deviations, labels)[3]
    order, uar = choose_greedily(means, deviations, labels)
    assert order[:2] == [0, 3]
    assert uar > 0.9 > 0.7 > choose_greedily(means, deviations, labels, max_features=1)[1]


def test_the_uar_of_the_greedy_choice_is_that_of_clips_held_out():
    """The discriminant as the nearest centre in Mahalanobis' distance, each emotion's clips in five stretches."""
    means, deviations, labels = measured(count=97, num_features=3)
    means += 1.2 * np.stack([labels == 0, labels == 1, 3 * (labels == 2)], axis=1) + [0, 50, 0]
    order, uar = choose_greedily(means, deviations, labels, max_features=2)
    assert len(order) == 2
    values = np.concatenate([means[:, order], deviations[:, order]], axis=1)
    right = {0: [], 1: [], 2: []}
    stretches = [np.array_split(np.flatnonzero(labels == emotion), 5) for emotion in right]
    for held in map(np.concatenate, zip(*stretches, strict=True)):
        train = np.setdiff1d(np.arange(97), held)
        scaled = (values - values[train].mean(axis=0)) / values[train].std(axis=0)
        centres = np.stack([scaled[train][labels[train] == emotion].mean(axis=0) for emotion in right])
        within = scaled[train] - centres[labels[train]]
        inverse = np.linalg.inv(0.9 * within.T @ within / len(train) + 0.1 * np.eye(4))
        for clip in held:
            away = scaled[clip] - centres
            nearest = np.einsum("kd,de,ke->k", away, inverse, away).argmin()
            right[labels[clip]].append(nearest == labels[clip])
    assert 0.5 < uar < 1
    assert uar == pytest.approx(np.mean([np.mean(answers) for answers in right.values()]))


def test_greedy_choice_passes_over_emotions_with_too_few_clips():
    means, deviations, labels = measured()
    means[:, 1] += 60 * (labels == 0)
    rare = np.where(labels == 2, np.where(np.arange(90) < 12, 7, 0), labels)  # four clips of emotion 7
    assert (
        choose_greedily(means, deviations, rare)[0]
        == choose_greedily(means[rare != 7], deviations[rare != 7], rare[rare != 7])[0]
    )
    assert choose_greedily(means, deviations, 0 * labels) == ([], 0.0)
    assert choose_greedily(means[:12], deviations[:12], labels[:12]) == ([], 0.0)
    assert choose_greedily(0 * means, 0 * deviations, labels)[0] == []


def test_clip_statistics_by_hand():
    x = torch.tensor([[[1.0], [3.0], [99.0]], [[7.0]] * 3])
    mean, deviation = clip_statistics(x, torch.tensor([[True, True, False], [False] * 3]))
    assert mean[:, 0].tolist() == [2, 0]
    assert deviation[:, 0].tolist() == [1, 0]


def test_what_was_chosen_is_told_saved_and_alone_heard(make_batch):
    model, batch = small(), spoken(make_batch)
    model.prepare([batch])
    names = model.front_end.names
    chosen = [name for name, is_chosen in zip(names, model.selected.tolist(), strict=True) if is_chosen]
    assert "rms_db" in chosen
    assert 1 <= len(chosen) < len(names)
    assert model.notes == [f"{len(chosen)} of 80 features chosen by the kruskal test: {', '.join(chosen)}"]
    before = model(batch).logits
    with torch.no_grad():
        model.lstm.weight_ih_l0[:, ~model.selected] += 5.0
    assert torch.equal(model(batch).logits, before)
    with torch.no_grad():
        model.lstm.weight_ih_l0[:, model.selected] += 5.0
    assert not torch.allclose(model(batch).logits, before)
    loaded = small()
    loaded.load_state_dict(model.state_dict())
    assert torch.equal(loaded.selected, model.selected)


def test_the_greedy_choice_is_told_in_its_order_and_alone_heard(make_batch):
    model, again, batch = small(selection="greedy"), small(selection="greedy", max_features=1), spoken(make_batch)
    model.prepare([batch])
    again.prepare([batch])
    told = model.notes[0].partition(": ")[2].split(", ")
    assert model.notes[0].startswith(f"{len(told)} of 80 features chosen greedily by what they add")
    assert {model.front_end.names.index(name) for name in told} == set(model.selected.nonzero().flatten().tolist())
    assert again.notes[0].endswith(f": {told[0]}")
    assert again.selected.sum() == 1


def test_all_features_stay_where_none_differs_or_none_is_to_be_chosen(make_batch):
    batch = make_batch()
    model, unselective = small(), small(selection="none")
    model.prepare([batch])
    assert model.selected.all()
    assert "all are kept" in model.notes[0]
    unselective.prepare([spoken(make_batch)])
    assert unselective.selected.all()
    assert unselective.notes == []


def test_clips_without_a_label_are_measured_but_not_compared(make_batch):
    batch = spoken(make_batch)
    with_all, without = small(), small()
    with_all.prepare([batch])
    unlabelled = make_batch((4800, 4800), (1, 1), seed=5)
    unlabelled.labels = None
    without.prepare([batch, unlabelled])
    assert torch.equal(with_all.selected, without.selected)
    assert not torch.equal(with_all.statistics.mean, without.statistics.mean)


def test_weights_are_the_shares_of_mean_and_maxima(make_batch):
    audio = small()(make_batch()).attended["audio"]
    for clip, length in enumerate((100, 57)):
        hidden = audio.sequence[clip, :length]
        holders = torch.bincount(hidden.argmax(dim=0), minlength=length) / hidden.shape[1]
        torch.testing.assert_close(audio.weights[clip, :length], 0.5 / length + 0.5 * holders)
    assert audio.weights[1, 57:].abs().max() == 0


def test_mixed_precision_of_training_measures_the_same(make_batch):
    """The scale and the choice of features are fitted outside of it."""
    model, batch = small(), spoken(make_batch, per_class=1)
    inputs = []
    model.statistics.register_forward_hook(lambda _, given, scaled: inputs.append(given[0]))
    with torch.autocast("cpu", torch.bfloat16):
        model(batch)
    model(batch)
    assert torch.equal(*inputs)


def test_padding_changes_nothing_and_a_clip_without_voice_is_answered(make_batch):
    model = small()
    model.prepare([spoken(make_batch)])
    alone, padded = (model(make_batch((9000, 4800), extra_samples=extra)).logits for extra in (0, 6000))
    torch.testing.assert_close(alone, padded, atol=1e-4, rtol=0)
    assert torch.isfinite(model(make_batch((9000, 0))).logits).all()


def test_wrong_options_and_batches_are_refused(make_batch):
    with pytest.raises(ValueError, match="selection='lasso'; take one of kruskal, anova, greedy, none"):
        small(selection="lasso")
    with pytest.raises(ValueError, match="reads the voice"):
        small()(make_batch().without("audio"))
