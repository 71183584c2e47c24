"""Balanced learning: the coefficients by hand, the gradients against independent ones, and runs that resume exactly."""

import math
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from avser.config import AugmentConfig, TrainingConfig, load_config
from avser.errors import ConfigError
from avser.models.build import build_model
from avser.structures import Attended, Batch, Output
from avser.training import fit as fit_module
from avser.training.balance import (
    BALANCES,
    blending_weights,
    check_balance,
    min_norm_share,
    modulation,
    pareto_gradient,
    right_probabilities,
)
from avser.training.checkpoint import Progress, read_progress
from avser.training.fit import build_optimizer
from avser.training.loop import train_epoch
from avser.training.losses import TrainingLoss
from avser.training.run import train
from avser.training.shares import clips_of

SMALL = [
    "model.audio.backbone={name: 'timm:test_byobnet', weights: none, max_stride: 4}",
    "model.video={num_features: 5, temporal: tcn, dim: 16}",
    "model.audio.dim=16",
    "model.attention.hidden=8",
    "model.fusion={hidden: 16, modality_dropout: 0.0, dropout: 0.0}",
]
STILL = AugmentConfig(flip=0, brightness=0, contrast=0, shift=0, gain_db=0, noise_snr_db=None)
OTHERS = [kind for kind in BALANCES if kind != "none"]


def small_model():
    torch.manual_seed(0)
    return build_model(load_config(SMALL).model, ["a", "b", "c"], sample_rate_hz=16000)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(6) % 3
    times = torch.arange(8) / 10
    face = torch.randn(6, 8, 5, generator=generator) + labels[:, None, None]
    return Batch(
        list("abcdef"),
        waveform=0.1 * (1 + labels[:, None]) * torch.randn(6, 4000, generator=generator),
        waveform_mask=torch.ones(6, 4000, dtype=torch.bool),
        face_features=face,
        feature_times=times.expand(6, 8),
        feature_mask=torch.ones(6, 8, dtype=torch.bool),
        labels=labels,
    )


def balance_of(kind, model, criterion=None, **settings):
    training = TrainingConfig(balance=kind, **settings)
    return BALANCES[kind](model, criterion or TrainingLoss(unimodal=0.5), training, Accelerator(), seed=0)


def gradients(balance):
    return {
        name: torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        for name, parameters in balance.branches.items()
    }


# --- OGM-GE ------------------------------------------------------------------------------------------------------


def test_the_leading_modality_is_held_back_by_the_formula():
    assert modulation([3.0, 1.5], 0.5) == pytest.approx([1 - math.tanh(0.5 * 2), 1.0])
    assert modulation([1.0, 4.0], 0.1) == pytest.approx([1.0, 1 - math.tanh(0.1 * 4)])
    assert modulation([2.0, 2.0], 0.5) == [1.0, 1.0]
    assert modulation([0.0, 0.0], 0.5) == [1.0, 1.0]


def test_what_each_modality_makes_of_the_truth_by_hand():
    def part(probabilities, present):
        mask = torch.tensor(present)[:, None]
        blank = torch.zeros(3, 1, 2)
        logits = torch.log(torch.tensor(probabilities))
        return Attended(blank, blank[..., 0], None, blank[..., 0], mask, blank[:, 0], logits)

    audio = part([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], [True, True, True])
    video = part([[0.6, 0.4], [0.7, 0.3], [0.5, 0.5]], [True, True, False])
    output = Output(torch.zeros(3, 2), {"audio": audio, "video": video})
    found = right_probabilities(output, Batch(list("abc"), labels=torch.tensor([0, 1, 0])), ["audio", "video"])
    assert found.tolist() == pytest.approx([0.9 + 0.8, 0.6 + 0.3])
    soft = Batch(list("abc"), targets=torch.tensor([[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]]))
    assert right_probabilities(output, soft, ["audio", "video"]).tolist() == pytest.approx([0.5 + 0.8, 0.5 + 0.3])
    alone = Output(output.logits, {"audio": audio})
    assert right_probabilities(alone, soft, ["audio", "video"]).tolist() == [0.0, 0.0]


def test_ogm_ge_scales_the_branches_and_adds_noise_of_their_spread(batch):
    model = small_model().eval()
    balance = balance_of("ogm_ge", model, balance_alpha=0.4)
    output = model(batch)
    scores = right_probabilities(output, batch, ["audio", "video"])
    balance.loss(output, batch).backward()
    before, head = gradients(balance), [p.grad.clone() for p in model.fusion.parameters()]
    plain = {name: [p.grad.clone() for p in ps if p.grad is not None] for name, ps in balance.branches.items()}
    balance.adjust_gradients(3)
    after = gradients(balance)
    factors = modulation(scores.tolist(), 0.4)
    assert min(factors) < 1 == max(factors)
    for name, factor in zip(("audio", "video"), factors, strict=True):
        spread = torch.cat([g.std(correction=0).expand(g.numel()) for g in plain[name]])
        noise = (after[name] - factor * before[name])[spread > 0] / spread[spread > 0]
        assert abs(noise.mean()) < 0.1
        assert noise.std() == pytest.approx(1, abs=0.1)
        assert (after[name][spread == 0] == factor * before[name][spread == 0]).all()
    assert all(torch.equal(p.grad, g) for p, g in zip(model.fusion.parameters(), head, strict=True))


def test_the_noise_depends_on_the_step_alone(batch):
    def after(step):
        model = small_model().eval()
        balance = balance_of("ogm_ge", model)
        balance.loss(model(batch), batch).backward()
        balance.adjust_gradients(step)
        return gradients(balance)["audio"]

    assert torch.equal(after(3), after(3))
    assert not torch.equal(after(3), after(4))


# --- MMPareto ----------------------------------------------------------------------------------------------------


def test_the_shortest_mean_of_two_gradients_is_found():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        one, two = torch.randn(2, 3, generator=generator).double()
        shares = torch.linspace(0, 1, 2001).double()[:, None]
        best = (shares * one + (1 - shares) * two).norm(dim=1).argmin()
        assert min_norm_share(one, two).item() == pytest.approx(shares[best].item(), abs=1e-3)
    assert min_norm_share(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])) == 0.5
    assert min_norm_share(torch.tensor([1.0, 0.0]), torch.tensor([4.0, 0.0])) == 1.0


def test_the_combined_gradient_goes_against_neither():
    generator, conflicts = torch.Generator().manual_seed(0), 0
    for _ in range(200):
        one, two = torch.randn(2, 4, generator=generator).double() * torch.rand(2, 1, generator=generator)
        found = pareto_gradient(one, two)
        assert min(found @ one, found @ two) >= -1e-12
        assert found.norm() >= (1 - 1e-9) * (one + two).norm()
        conflicts += bool(one @ two < 0)
        if one @ two > 0:
            assert torch.equal(found, one + two)
    assert 50 < conflicts < 150
    nothing = torch.zeros(4).double()
    assert torch.equal(pareto_gradient(one, nothing), one)
    assert torch.isfinite(pareto_gradient(one, -one)).all()
    # The mean of two that all but cancel each other points along a rounding error, which is not blown up without bound.
    one, two = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([-1.5, 1e-6, 0.0])
    assert pareto_gradient(one, two).norm() < 0.01


@pytest.mark.parametrize("seed", range(4))
def test_mmpareto_replaces_a_branch_s_gradient_by_that_of_both_losses(batch, seed):
    model = small_model().eval()
    batch.labels = torch.randint(3, (6,), generator=torch.Generator().manual_seed(seed))
    criterion = TrainingLoss(class_weights=torch.tensor([0.5, 1.0, 2.0]), unimodal=0.5)
    balance, expected = balance_of("mmpareto", model, criterion, balance_gamma=1.5), {}
    for name, parameters in balance.branches.items():
        pair = []
        for verdict, weight in (("fused", 1.0), (name, 0.5)):
            model.zero_grad()
            (weight * criterion.verdict_losses(model(batch), batch)[verdict]).backward()
            pair.append(torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in parameters]))
        expected[name] = 1.5 * pareto_gradient(*pair)
    # Whole, and in two parts whose losses are weighed as the loop does; another scale of all changes only the length.
    for parts, scale in ([batch], 1.0), ([clips_of(batch, 0, 2), clips_of(batch, 2, 6)], 3.0):
        model.zero_grad()
        for part in parts:
            share = scale * criterion.weight_of(part) / criterion.weight_of(batch)
            (share * balance.loss(model(part), part)).backward()
        balance.adjust_gradients(0)
        for name, gradient in gradients(balance).items():
            torch.testing.assert_close(gradient, scale * expected[name], atol=1e-5, rtol=1e-3)


# --- gradient blending -------------------------------------------------------------------------------------------


def test_weights_from_learning_curves_by_hand():
    def epochs(*rows):
        return [
            {
                f"{part}_loss_{name}": value
                for name, pair in row.items()
                for part, value in zip(("train", "val"), pair, strict=True)
            }
            for row in rows
        ]

    rows = [
        {"audio": (2.0, 2.0), "video": (2.0, 2.0)},
        # audio: gains 0.8, gap grows by 0.2; video: gains 0.4, gap grows by 0.4
        {"audio": (1.0, 1.2), "video": (1.2, 1.6)},
        {"audio": (0.9, 1.3), "video": (1.1, 1.5)},
        # against the second epoch: audio gains 0.1, gap grows by 0.5; video loses
        {"audio": (0.4, 1.1), "video": (0.2, 1.9)},
        {"audio": (0.3, 1.3), "video": (0.2, 1.9)},
        {"audio": (0.3, 1.3), "video": (0.2, 2.0)},
    ]
    names = ["audio", "video"]
    equal, first = {"audio": 0.5, "video": 0.5}, {"audio": 20 / 22.5, "video": 2.5 / 22.5}
    assert blending_weights([], names, every=2) == equal
    assert blending_weights(epochs(*rows[:1]), names, every=2) == equal
    assert blending_weights(epochs(*rows[:2]), names, every=2) == pytest.approx(first)
    assert blending_weights(epochs(*rows[:3]), names, every=2) == pytest.approx(first)
    second = {"audio": 1.0, "video": 0.0}
    assert blending_weights(epochs(*rows[:4]), names, every=2) == pytest.approx(second)
    assert blending_weights(epochs(*rows), names, every=2) == pytest.approx(second)  # all rose: the weights stay
    still = epochs({"audio": (2.0, 2.0), "video": (2.0, 2.0)}, {"audio": (1.9, 1.9), "video": (1.8, 1.9)})
    worth = {"audio": 0.1 / 0.05**2, "video": 0.1 / 0.1**2}  # no gap at all counts as 0.05
    expected = {name: value / sum(worth.values()) for name, value in worth.items()}
    assert blending_weights(still, names, every=2) == pytest.approx(expected)
    narrower = epochs({"audio": (1.5, 2.0), "video": (1.5, 2.0)}, {"audio": (1.5, 1.7), "video": (1.8, 1.9)})
    worth = {"audio": 0.3 / 0.3**2, "video": 0.1 / 0.4**2}  # a gap that closes counts as one that opens
    expected = {name: value / sum(worth.values()) for name, value in worth.items()}
    assert blending_weights(narrower, names, every=2) == pytest.approx(expected)


def test_blending_weighs_the_verdicts_and_notes_their_losses(batch):
    model = small_model().eval()
    balance = balance_of("gradient_blending", model)
    balance.begin_epoch([])
    balance.weights = {"fused": 0.2, "audio": 0.7, "video": 0.1}
    holed = replace(batch, feature_mask=batch.feature_mask & (torch.arange(6) > 1)[:, None])
    losses = {}
    for given in (batch, holed):
        output = model(given)
        losses = balance.criterion.verdict_losses(output, given)
        expected = 0.2 * losses["fused"] + 0.7 * losses["audio"] + 0.1 * losses["video"]
        torch.testing.assert_close(balance.loss(output, given), expected)
    kept = balance.end_epoch(model, [holed])
    whole = balance.criterion.verdict_losses(model(batch), batch)
    assert kept["weight_audio"] == 0.7
    assert kept["val_loss_video"] == pytest.approx(losses["video"].item(), rel=1e-5)
    mean = (6 * whole["video"] + 4 * losses["video"]) / 10
    assert kept["train_loss_video"] == pytest.approx(mean.item(), rel=1e-5)
    assert kept["train_loss_fused"] == pytest.approx((whole["fused"] + losses["fused"]).item() / 2, rel=1e-5)
    balance.begin_epoch([kept])
    assert balance.end_epoch(model, [batch])["train_loss_fused"] == 0  # counted anew each epoch


def test_the_losses_that_blending_notes_do_not_depend_on_how_clips_are_batched(batch):
    batch = replace(batch, labels=torch.tensor([0, 0, 1, 0, 2, 2]))
    batch = replace(batch, feature_mask=batch.feature_mask & (torch.arange(6) != 3)[:, None])
    model, criterion = small_model().eval(), TrainingLoss(class_weights=torch.tensor([0.2, 1.0, 3.0]))
    found = []
    for parts in ([batch], [clips_of(batch, 0, 2), clips_of(batch, 2, 6)]):
        balance = balance_of("gradient_blending", model, criterion)
        balance.begin_epoch([])
        for part in parts:
            balance.loss(model(part), part)
        found.append(balance.end_epoch(model, parts))
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    for name, loss in criterion.verdict_losses(model(batch), batch).items():
        assert found[0][f"val_loss_{name}"] == pytest.approx(loss.item(), rel=1e-5)


# --- in training -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BALANCES)
def test_it_learns(kind, batch):
    model, accelerator = small_model(), Accelerator()
    training = TrainingConfig(balance=kind, epochs=1, learning_rate=3e-3, warmup_share=0, augment=STILL)
    balance = BALANCES[kind](model, TrainingLoss(unimodal=0.3), training, accelerator, seed=0)
    balance.begin_epoch([])
    torch.manual_seed(0)
    train_epoch(
        model, [batch] * 40, accelerator.prepare(build_optimizer(model, training)), balance.loss, accelerator,
        training, Progress(), num_classes=3, steps_per_epoch=40, seed=0, on_gradients=balance.adjust_gradients,
    )  # fmt: skip
    output = model.eval()(batch)
    losses = TrainingLoss().verdict_losses(output, batch)
    assert losses["fused"] < 0.4
    assert losses["audio"] < 1.0  # three emotions: guessing costs 1.1
    assert losses["video"] < 1.0


def test_without_a_balance_loss_and_gradients_are_the_plain_ones(batch):
    model = small_model().eval()
    balance = balance_of("none", model)
    output = model(batch)
    assert torch.equal(balance.loss(output, batch), balance.criterion(output, batch))
    balance.loss(output, batch).backward()
    before = gradients(balance)
    balance.adjust_gradients(0)
    assert all(torch.equal(gradient, before[name]) for name, gradient in gradients(balance).items())
    assert balance.end_epoch(model, [batch]) == {}


def test_what_cannot_be_balanced_is_refused():
    fused = small_model()
    voice = build_model(load_config([*SMALL, "model.modalities=[audio]"]).model, ["a", "b"], sample_rate_hz=16000)
    own = build_model(load_config(["acrnn"]).model, ["a", "b"], sample_rate_hz=16000, pretrained=False)
    says_so, does_so = small_model(), small_model()  # has_own_loss, or another training_loss
    says_so.__class__ = type("SaysSo", (type(fused),), {"has_own_loss": True})
    does_so.__class__ = type("DoesSo", (type(fused),), {"training_loss": lambda *_: torch.zeros(())})
    for kind in OTHERS:
        with pytest.raises(ConfigError, match="one branch"):
            check_balance(voice, TrainingConfig(balance=kind))
        for model in (own, says_so, does_so):
            with pytest.raises(ConfigError, match="loss of its own"):
                check_balance(model, TrainingConfig(balance=kind))
        check_balance(fused, TrainingConfig(balance=kind))
    for model in (voice, own, fused):
        check_balance(model, TrainingConfig(unimodal_loss=0, attention_entropy=1, compile=True))
    for kind, settings in (
        ("ogm_ge", {"attention_entropy": 0.1, "compile": True, "mixed_precision": "fp16"}),
        ("gradient_blending", {"unimodal_loss": 0.0, "compile": True, "mixed_precision": "fp16"}),
        ("mmpareto", {"mixed_precision": "bf16"}),
    ):
        check_balance(fused, TrainingConfig(balance=kind, **settings))
    for kind, settings, words in (
        ("ogm_ge", {"unimodal_loss": 0.0}, "unimodal_loss above 0"),
        ("mmpareto", {"unimodal_loss": 0.0}, "unimodal_loss above 0"),
        ("mmpareto", {"attention_entropy": 0.1}, "attention_entropy=0"),
        ("gradient_blending", {"attention_entropy": 0.1}, "attention_entropy=0"),
        ("mmpareto", {"compile": True}, "compile=false"),
        ("mmpareto", {"mixed_precision": "fp16"}, "bf16 or no"),
    ):
        with pytest.raises(ConfigError, match=words):
            check_balance(fused, TrainingConfig(balance=kind, **settings))


class InterruptedRunError(Exception):
    """Stands for a kill."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHERS)
def test_a_balanced_run_resumes_exactly(kind, tiny_config, monkeypatch):
    settings = (f"training.balance={kind}", "training.balance_epochs=1", "training.epochs=3", "training.patience=9")
    whole = train(tiny_config("name=whole", *settings))
    save_state, calls = fit_module.save_state, []

    def stop_after_the_second_epoch(*args):
        save_state(*args)
        calls.append(1)
        if len(calls) == 2:
            raise InterruptedRunError

    config = tiny_config("name=broken", *settings)
    monkeypatch.setattr(fit_module, "save_state", stop_after_the_second_epoch)
    with pytest.raises(InterruptedRunError):
        train(config)
    monkeypatch.undo()
    resumed = train(config, resume=True)
    first, second = (load_file(folder / "last" / "state.safetensors") for folder in (whole, resumed))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)
    history = read_progress(resumed / "last" / "state.safetensors").history
    if kind == "gradient_blending":
        assert history[0]["weight_audio"] == pytest.approx(1 / 3)
        assert sum(history[2][f"weight_{name}"] for name in ("fused", "audio", "video")) == pytest.approx(1)
        assert history[2]["weight_audio"] != pytest.approx(1 / 3)
