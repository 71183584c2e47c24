"""What a configuration keeps when it is handed on, and what is a name of the hub."""

from dataclasses import asdict

import pytest

from avser.config import ProtocolConfig, config_differences, load_config
from avser.training.shared_model import is_hub_name, shared_config


def test_paths_and_people_are_left_out_and_the_model_stays():
    config = load_config(["av_roi", "ravdess"])
    config.runs, config.data.cache, config.data.manifest = "/home/anna/runs", "/home/anna/cache", "/home/anna/m.csv"
    config.media.faces.model = "/home/anna/face_landmarker.task"
    config.model.audio.backbone.weights = "/home/anna/squeezenet1_1.safetensors"
    config.model.options = {"encoder": "C:\\anna\\wav2vec2-base", "layers": [1, {"file": "a/b.safetensors"}]}
    config.data.protocol = "ours"
    config.data.protocols["ours"] = ProtocolConfig(source="ours", test=["anna, ben"], val=["carl"], train=["dora"])
    found = shared_config(config)
    assert "anna" not in str(asdict(found))
    assert {"ben", "carl", "dora"}.isdisjoint(str(asdict(found)).split("'"))
    assert found.data.protocols == {"ours": ProtocolConfig(source="ours")}
    assert found.model.audio.backbone.weights == "squeezenet1_1.safetensors"
    assert found.model.options == {"encoder": "wav2vec2-base", "layers": [1, {"file": "b.safetensors"}]}
    changed = set(config_differences(config, found))
    assert changed == {
        *("runs", "data.manifest", "data.cache", "data.protocols", "media.faces.model"),
        *("model.audio.backbone.weights", "model.options"),
    }
    assert shared_config(found) == found


@pytest.mark.parametrize("system", ["av_roi", "coatt_mla", "att_fcn"])
def test_a_plain_configuration_of_a_model_is_handed_on_to_the_letter(system):
    config = load_config([system])
    assert shared_config(config).model == config.model


def test_a_name_of_the_hub_is_no_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert is_hub_name("lab/model-1.0")
    paths = ("model", "lab/a/b", "/lab/model", "./lab", "../model", "lab/../model", "~/model", "lab/", "runs/model")
    assert not any(map(is_hub_name, paths))
