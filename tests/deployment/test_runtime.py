"""An exported graph answers as PyTorch does, for any clips, by itself; and a hostile file is refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from avser.data.cache import ClipCache
from avser.deployment.export import export_onnx
from avser.deployment.graph import flatten, input_names, probe_batch
from avser.deployment.parity import MAX_DIFFERENCE, difference, find_conflict, measure_parity
from avser.deployment.runtime import load_onnx, open_model
from avser.errors import CheckpointError, ConfigError
from avser.inference import load_model, predict, predict_clips
from avser.structures import AUDIO, FUSED, VIDEO

CLIP = "s01_fear_01"


@pytest.fixture(scope="module")
def graph(tiny_ablation, tmp_path_factory):
    """The fused model as a graph, far from its run."""
    path = tmp_path_factory.mktemp("graph") / "fused.onnx"
    assert export_onnx(tiny_ablation / FUSED, path).max_difference < MAX_DIFFERENCE
    return path


@pytest.fixture(scope="module")
def fused(tiny_ablation):
    return load_model(tiny_ablation / FUSED, "cpu")


def test_the_graph_answers_as_pytorch_for_any_lengths_and_missing_modalities(graph, fused):
    probes_s = ((0.3,), (12.0, 0.3, 5.5, 7.77), (1.0, 1.0), (0.31, 2.003, 0.9))
    found = measure_parity(fused.network, load_onnx(graph).network, fused.config, probes_s)
    assert found < MAX_DIFFERENCE


def test_two_that_cannot_be_compared_are_told_apart_in_words(graph, fused):
    class Deaf(torch.nn.Module):
        def forward(self, batch):
            return replace(fused.network(batch), logits=torch.full((len(batch), 6), float("nan")))

    with pytest.raises(ConfigError, match=r"for clips of 0\.3 s the graph .*: logits is not finite in the graph"):
        measure_parity(fused.network, Deaf(), fused.config)


def test_a_difference_does_not_pass_unseen(graph, fused):
    with torch.no_grad():
        mine = flatten(fused.network(probe_batch(fused.config, (1.0, 0.6))))
    for name, value in mine.items():
        other = ~value if value.dtype == torch.bool else value + 0.01
        assert difference(mine, mine | {name: other}) > MAX_DIFFERENCE
        assert (find_conflict(mine, mine | {name: other}) == f"{name} differs") == (value.dtype == torch.bool)
    assert find_conflict(mine, mine) is None
    assert find_conflict(mine, {k: v for k, v in mine.items() if k != "logits"}) == "only one of them gives logits"
    weights = mine["audio.weights"]
    assert find_conflict(mine, mine | {"audio.weights": weights[:1]}).startswith("audio.weights is (1, ")
    assert find_conflict(mine, mine | {"logits": mine["logits"] * float("nan")}) == "logits is not finite in the graph"
    assert difference(mine, {k: v for k, v in mine.items() if k != "audio.weights"}) == float("inf")
    assert difference(mine, mine | {"logits": mine["logits"] * float("nan")}) == float("inf")


@pytest.mark.parametrize("duration_s", [0.01, 0.12])
def test_a_voice_shorter_than_the_graph_needs_has_no_more_steps_for_it(graph, fused, duration_s):
    batch = probe_batch(fused.config, (duration_s, duration_s / 2))
    with torch.no_grad():
        assert difference(flatten(fused.network(batch)), flatten(load_onnx(graph).network(batch))) < MAX_DIFFERENCE


def test_predictions_are_those_of_the_run(graph, fused, tiny_corpus):
    exported = load_onnx(graph)
    media = tiny_corpus / "media" / f"{CLIP}.mp4"
    ours, theirs = predict(exported, media), predict(fused, media)
    assert ours.emotion == theirs.emotion
    assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-4)
    assert ours.warnings == theirs.warnings
    for modality in (AUDIO, VIDEO):
        np.testing.assert_allclose(ours.salience[modality].values, theirs.salience[modality].values, atol=1e-4)
        np.testing.assert_allclose(ours.salience[modality].times, theirs.salience[modality].times)
        np.testing.assert_allclose(ours.evidence[modality][1], theirs.evidence[modality][1], atol=1e-4)
        assert len(ours.regions[modality]) == len(theirs.regions[modality])
    clip = ClipCache(tiny_corpus / "cache").load(CLIP)
    (voice,) = predict_clips(exported, [replace(clip, face=None)])
    assert voice.probabilities == pytest.approx(
        predict_clips(fused, [replace(clip, face=None)])[0].probabilities, abs=1e-4
    )
    assert set(voice.salience) == {AUDIO}


def test_a_batch_with_nothing_to_read_is_refused(graph):
    exported = load_onnx(graph)
    nothing = probe_batch(exported.config, (1.0,)).without(AUDIO).without(VIDEO)
    with pytest.raises(ValueError, match="audio or video"):
        exported.network(nothing)


def test_the_file_says_what_it_takes_and_gives_and_nothing_of_the_machine(graph, fused):
    model = onnx.load(graph)
    assert [value.name for value in model.graph.input] == input_names(fused.config)
    axes = {value.name: value.type.tensor_type.shape.dim for value in model.graph.input}
    assert [d.dim_param or d.dim_value for d in axes["waveform"]] == ["clips", "samples"]
    assert [d.dim_param or d.dim_value for d in axes["frames"]] == ["clips", "frames", 3, 32, 32]
    given = {value.name for value in model.graph.output}
    assert {"logits", "probabilities", "audio.weights", "audio.step_logits", "video.times", "video.mask"} <= given
    onnx.checker.check_model(model)
    del model.metadata_props[:]  # these hold the configuration, with the paths of its data
    assert b"site-packages" not in model.SerializeToString()
    assert b".py" not in model.SerializeToString()


def test_a_graph_beside_its_run_is_taken_by_the_name_of_the_runtime(graph, tiny_ablation, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_ablation / FUSED, run)
    with pytest.raises(CheckpointError, match="avser export"):
        open_model(run, "onnx")
    shutil.copy(graph, run / "model.onnx")
    assert open_model(run, "onnx").emotions == open_model(run).emotions
    assert not hasattr(open_model(run).network, "session")
    shutil.copy(tiny_ablation / AUDIO / "model.safetensors", run / "model.safetensors")
    with pytest.raises(CheckpointError, match="other weights"):
        open_model(run, "onnx")
    with pytest.raises(ConfigError, match="PyTorch cannot run"):
        open_model(graph, "torch")
    with pytest.raises(ConfigError, match="torch or onnx"):
        open_model(run, "tensorrt")


# --- files that nobody should trust ------------------------------------------------------------------------------


def damage_external(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../etc/passwd"


def damage_hidden(model):
    """Another file named from inside a node's attribute, in an inner graph."""
    tensor = onnx.TensorProto(name="far", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    inner = onnx.helper.make_graph([], "inner", [], [], initializer=[tensor])
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("body", inner))


def damage_metadata(key, value):
    def change(model):
        described = {entry.key: entry.value for entry in model.metadata_props}
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, described | {key: value})

    return change


def damage_config(model):
    described = {entry.key: entry.value for entry in model.metadata_props}
    config = json.loads(described["config"])
    config["model"]["modalities"] = ["audio"]
    damage_metadata("config", json.dumps(config))(model)


HOSTILE = {
    "weights elsewhere": (damage_external, "other files"),
    "weights elsewhere, hidden": (damage_hidden, "other files"),
    "not ours": (lambda model: model.metadata_props.clear(), "not a graph written by avser"),
    "no json": (damage_metadata("config", "{"), "description"),
    "unknown key": (damage_metadata("config", '{"nonsense": 1}'), "description"),
    "no list": (damage_metadata("emotions", "7"), "description"),
    "too long": (damage_metadata("min_samples", "99999999999"), "description"),
    "other configuration": (damage_config, "not what its configuration says"),
    "other operators": (lambda m: m.opset_import.append(onnx.helper.make_opsetid("evil", 1)), "operators of evil"),
    "no such operator": (lambda m: setattr(m.graph.node[0], "op_type", "Nonsense"), "onnxruntime refuses"),
    "fewer outputs": (lambda m: m.graph.output.pop(), "not what its configuration says"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_graph_is_refused(kind, graph, tmp_path):
    change, message = HOSTILE[kind]
    model = onnx.load(graph)
    change(model)
    path = tmp_path / "hostile.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match=message):
        load_onnx(path)


def test_what_is_no_graph_is_refused(graph, tmp_path):
    path = tmp_path / "garbage.onnx"
    for content in (b"", b"clip_id,emotion\n", graph.read_bytes()[:5000], np.random.default_rng(0).bytes(4000)):
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            load_onnx(path)
    with pytest.raises(CheckpointError, match="no such file"):
        load_onnx(tmp_path / "missing.onnx")
