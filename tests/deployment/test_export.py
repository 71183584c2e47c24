"""Every kind of part and every system exports and answers alike, or says why it cannot; 8-bit weights are measured."""

import json
import shutil
import sys
from dataclasses import replace

import onnx
import pytest
import torch
from torch import nn

from avser.cli import main as door
from avser.config import load_config
from avser.deployment import runtime
from avser.deployment.export import export_onnx, write_graph
from avser.deployment.limits import OBSTACLES, find_obstacle
from avser.deployment.parity import MAX_DIFFERENCE, measure_parity
from avser.deployment.quantize import measure_loss
from avser.deployment.runtime import load_onnx, open_model
from avser.errors import AvserError, CheckpointError, ConfigError
from avser.inference import load_model
from avser.models.attention import SCORES, AttentionPooling
from avser.models.build import build_model
from avser.models.fusion import FUSIONS
from avser.models.recognizer import Recognizer
from avser.models.systems import SYSTEMS
from avser.models.temporal import TEMPORAL
from avser.models.video import FeatureBranch
from avser.structures import AUDIO, VIDEO
from tools.export_table import cases, ready_model, try_export

EMOTIONS = ["anger", "happiness", "neutral", "sadness"]
# Each kind of fusion, sequence encoder and attention at least once.
KINDS = [
    ("concat", "lstm", "additive"),
    ("late_average", "gru", "linear"),
    ("late_product", "lstm", "gated"),
    ("gated", "none", "per_class"),
    ("film", "tcn", "additive_mil"),
    ("lmf", "gru", "mean"),
    ("tfn", "none", "last"),
    ("cross_attention", "tcn", "additive"),
    ("mult", "none", "linear"),
    ("mbt", "none", "additive"),
]
DIM, HZ = 8, 100


class Samples(nn.Module):
    """A voice branch whose steps are samples: quick to trace."""

    def __init__(self, temporal: nn.Module) -> None:
        super().__init__()
        self.project, self.temporal = nn.Linear(1, DIM), temporal

    def can_read(self, batch):
        return batch.waveform is not None

    def forward(self, batch):
        mask = batch.waveform_mask
        steps = torch.arange(mask.shape[1], dtype=torch.float32).expand(mask.shape)
        return self.temporal(torch.tanh(self.project(batch.waveform[..., None])), mask), mask, steps / HZ


def check_kinds(fusion, temporal, attention, path):
    bands = "model.audio.spectrogram={min_hz: 1, max_hz: 50}"  # nothing reads them
    config = load_config(["av_roi", "media.fps=10", f"media.sample_rate_hz={HZ}", bands, "model.video.num_features=5"])
    torch.manual_seed(0)
    encoders = [TEMPORAL[temporal](DIM, 2, True, 0.1) for _ in range(2)]
    branches = {
        AUDIO: Samples(encoders[0]),
        VIDEO: FeatureBranch(5, encoders[1], dim=DIM, dropout=0.1, baseline="clip"),
    }
    sizes = {"hidden": 8, "dropout": 0.1, "window_s": 0.5, "width": 8, "rank": 2, "layers": 2, "heads": 2}
    model = Recognizer(
        branches,
        {name: AttentionPooling(DIM, len(EMOTIONS), kind=attention, hidden=8) for name in branches},
        FUSIONS[fusion](list(branches), DIM, len(EMOTIONS), **sizes, num_bottlenecks=2),
    ).eval()
    write_graph(model, config, EMOTIONS, path)
    assert measure_parity(model, load_onnx(path).network, config) < MAX_DIFFERENCE


def test_a_recurrent_model_exports(tmp_path):
    check_kinds(*KINDS[0], tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize(("fusion", "temporal", "attention"), KINDS[1:])
def test_every_kind_of_part_exports(fusion, temporal, attention, tmp_path):
    check_kinds(fusion, temporal, attention, tmp_path / "model.onnx")


class Beginning(Samples):
    """Cuts clips by a slice, of which tracing keeps what it did to the example."""

    def forward(self, batch):
        short = replace(batch, waveform=batch.waveform[:, :500], waveform_mask=batch.waveform_mask[:, :500])
        return super().forward(short)


def test_what_was_traced_for_short_clips_alone_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(f"{__name__}.Samples", Beginning)
    with pytest.raises(ConfigError, match="more than 499 clips, samples or frames in another way"):
        check_kinds("late_average", "none", "mean", tmp_path / "model.onnx")


def test_no_kind_of_part_is_left_out():
    fusions, temporals, attentions = (set(column) for column in zip(*KINDS, strict=True))
    assert (fusions, temporals, attentions) == (set(FUSIONS), set(TEMPORAL), set(SCORES))


# --- published systems -------------------------------------------------------------------------------------------

CANNOT = {
    *("acrnn", "acrnn_augag", "acrnn_bagging", "acrnn_redag", "av_cnn_au", "blstm_rv_elm", "byun_feat_rnn"),
    *("coatt_mla", "dcnn_blstmwa", "dnn_elm", "eca_cnn6", "macnn_area", "pcrn"),
}


@pytest.mark.parametrize("name", sorted(CANNOT))
def test_a_system_that_cannot_be_exported_says_why(name):
    config = load_config([name])
    model = build_model(config.model, EMOTIONS, sample_rate_hz=16000, pretrained=False)
    why = find_obstacle(model)
    assert why in OBSTACLES.values()
    with pytest.raises(ConfigError, match=f"{name} cannot be exported: it "):
        write_graph(model, config, EMOTIONS, path=None)


def test_what_stands_in_the_way_is_real(monkeypatch, tmp_path):
    """Without the list, tracing fails by itself: nothing is refused that would work."""
    monkeypatch.setattr("avser.deployment.export.find_obstacle", lambda network: None)
    config = load_config(["macnn_area", "model.options.num_mels=32"])
    with pytest.raises(ConfigError, match="macnn_area cannot be exported"):
        write_graph(ready_model(config), config, EMOTIONS, tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "what", "overrides"), list(cases(["av_roi", *SYSTEMS])))
def test_every_other_system_exports(name, what, overrides):
    found, why = try_export(name, overrides)
    if why:
        assert name in CANNOT or (name in ("roi_lstm", "roi_att_lstm") and "logmel3" in why)
    else:
        assert name not in CANNOT
        assert float(found) < MAX_DIFFERENCE


# --- 8-bit weights, and the command ------------------------------------------------------------------------------


def test_the_command_writes_8_bit_weights_and_says_what_they_cost(tiny_ablation, tmp_path, monkeypatch, capsys):
    path = tmp_path / "small.onnx"
    monkeypatch.setattr(sys, "argv", ["avser", "export", str(tiny_ablation / AUDIO), "--onnx", str(path), "--int8"])
    with pytest.raises(SystemExit) as left:
        door.main()
    assert not left.value.code
    out = capsys.readouterr().out
    assert "8-bit weights: UAR" in out
    assert "validation clips" in out
    model = onnx.load(path)
    described = {entry.key: entry.value for entry in model.metadata_props}
    loss = json.loads(described["int8_loss"])
    assert described["precision"] == "int8"
    assert loss["num_clips"] > 0
    assert 0 <= loss["agreement"] <= 100
    kinds = {initializer.data_type for initializer in model.graph.initializer}
    assert onnx.TensorProto.UINT8 in kinds
    assert len(load_onnx(path).emotions) == 6
    assert sorted(file.name for file in tmp_path.iterdir()) == ["small.onnx"]


def test_the_loss_is_of_the_one_against_the_other(tiny_ablation):
    run = load_model(tiny_ablation / AUDIO, "cpu")

    class Stubborn(nn.Module):
        """Hears one emotion in everything."""

        def __init__(self, emotion):
            super().__init__()
            self.emotion = emotion

        def forward(self, batch):
            output = run.network(batch)
            return replace(output, logits=nn.functional.one_hot(output.logits.argmax(1) * 0 + self.emotion, 6).float())

    same = measure_loss(run.config, run.network, run.network)
    assert (same.uar_before, same.agreement) == (same.uar_after, 100)
    assert measure_loss(run.config, Stubborn(0), Stubborn(1)).agreement == 0
    worse = measure_loss(run.config, run.network, Stubborn(0))
    assert worse.uar_before == same.uar_before
    assert worse.uar_after == pytest.approx(100 / 6)


def test_what_cannot_be_measured_is_said(tiny_ablation, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_ablation / AUDIO, run)
    told: list[str] = []

    def gone(*_):
        raise AvserError("the cache is gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avser.deployment.quantize.load_data", gone)
        exported = export_onnx(run, int8=True, warn=told.append)
    assert exported.loss is None
    assert exported.path == run / "model.onnx"
    assert open_model(run, "onnx").emotions == open_model(run).emotions
    assert told == ["what 8-bit weights cost was not measured: the cache is gone"]
    (stored,) = [e.value for e in onnx.load(exported.path).metadata_props if e.key == "int8_loss"]
    assert stored == "not measured"


def test_a_graph_that_answers_otherwise_is_not_kept(tiny_ablation, tmp_path, monkeypatch):
    monkeypatch.setattr("avser.deployment.export.measure_parity", lambda *_: 0.02)
    with pytest.raises(ConfigError, match="answers otherwise than PyTorch"):
        export_onnx(tiny_ablation / AUDIO, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_without_the_extra_the_advice_is_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'avser\[export\]'"):
        runtime.import_export("onnxruntime")


def test_the_format_has_to_be_named(tiny_ablation, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["avser", "export", str(tiny_ablation / AUDIO)])
    with pytest.raises(SystemExit) as left:
        door.main()
    assert left.value.code == 2
    assert f"avser export {tiny_ablation / AUDIO} --onnx" in capsys.readouterr().err


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        export_onnx(tmp_path, tmp_path / "model.onnx")
