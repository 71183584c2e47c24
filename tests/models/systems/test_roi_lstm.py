"""roi_lstm: the last state or the mean, and no attention."""

import pytest
import torch

from avser.config import load_config
from avser.errors import ConfigError
from avser.models.build import build_model
from avser.models.systems.roi_att_lstm import RoiAttLstm
from avser.models.systems.roi_lstm import RoiLstm

SMALL = {"num_classes": 3, "modalities": ("audio",), "width": 8}


def test_it_has_two_layers_of_128_in_one_direction():
    model = RoiLstm(num_classes=6, modalities=("audio",))
    expected = 32 * 128 + 128 + 2 * 4 * 128 * (128 + 128 + 2) + 128 * 6 + 6
    assert sum(p.numel() for p in model.parameters()) == expected


def test_the_verdict_is_that_of_the_last_real_step(make_batch):
    torch.manual_seed(0)
    part = RoiLstm(**SMALL).eval()(make_batch((16000, 9000))).attended["audio"]
    for i, last in enumerate((99, 56)):
        assert part.weights[i].nonzero().flatten().tolist() == [last]
        torch.testing.assert_close(part.logits[i], part.step_logits[i, last])


def test_the_mean_counts_every_real_step_alike(make_batch):
    torch.manual_seed(0)
    part = RoiLstm(**SMALL, pooling="mean").eval()(make_batch((16000, 9000))).attended["audio"]
    torch.testing.assert_close(part.weights[1, :57], torch.full((57,), 1 / 57))
    torch.testing.assert_close(part.logits[1], part.step_logits[1, :57].mean(dim=0))


def test_the_fair_control_is_the_attentive_network_without_its_attention():
    control, attentive = RoiLstm(**SMALL, pooling="mean", bidirectional=True), RoiAttLstm(**SMALL)
    shapes, full = ({n: p.shape for n, p in m.named_parameters()} for m in (control, attentive))
    lacking = full.keys() - shapes.keys()
    assert {n: full[n] for n in shapes} == shapes
    assert lacking
    assert all(".score." in name for name in lacking)


def test_attention_is_no_option_of_it():
    for option in ("pooling=additive", "attention=additive"):
        config = load_config(["roi_lstm", f"model.options.{option}"])
        with pytest.raises(ConfigError, match=r"take one of last, mean|no such option"):
            build_model(config.model, ["a", "b"], sample_rate_hz=16000)
