"""Configuration: merging, overrides, and errors that name the nearest right key."""

import pytest
import yaml

from avser.config import Config, config_from_dict, config_to_yaml, find_config, list_configs, load_config
from avser.errors import ConfigError


def test_later_sources_win(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("training: {epochs: 3, batch_size: 4}\nname: one\n")
    second.write_text("training: {epochs: 5}\n")
    config = load_config([first, second, "training.batch_size=7"])
    assert (config.training.epochs, config.training.batch_size, config.name) == (5, 7, "one")


def test_lists_are_replaced_and_maps_are_merged():
    config = load_config(["model.modalities=[audio]", "data.merge.calm=neutral", "data.merge.excitement=happiness"])
    assert config.model.modalities == ["audio"]
    assert config.data.merge == {"calm": "neutral", "excitement": "happiness"}


def test_none_is_a_value():
    assert load_config(["media.fps=null"]).media.fps is None


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("training.epoch=3", "training.epochs"),
        ("epochs=3", "training.epochs"),
        ("training.learnng_rate=1", "training.learning_rate"),
        ("model.audio.spectrogram.n_mels=40", "model.audio.spectrogram.num_mels"),
        ("modell.system=x", "model"),
    ],
)
def test_a_typo_names_the_nearest_key(typo, meant):
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        load_config([typo])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epochs=0", "above 0"),
        ("training.epochs=many", "training.epochs"),
        ("data.test_share=1.5", "between 0 and 1"),
        ("roi.merge_gap_s=-1", "0 or above"),
        ("model.fusion.kind=gatd", "late_average"),
        ("model.modalities=[text]", "audio, video or both"),
        ("model.modalities=[]", "audio, video or both"),
        ("name=../elsewhere", "below `runs`"),
        ("name=''", "below `runs`"),
        ("name=/tmp/x", "below `runs`"),
        ("media.sample_rate_hz=8000", "half of"),
        ("training.learning_rate=.nan", "above 0"),
    ],
)
def test_a_value_out_of_range_says_what_is_allowed(override, words):
    with pytest.raises(ConfigError, match=words):
        load_config([override])


def test_an_unknown_name_offers_near_ones():
    with pytest.raises(ConfigError, match="did you mean av_roi"):
        load_config(["av_roy"])


def test_a_file_that_is_no_yaml_is_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: [1,")
    with pytest.raises(ConfigError, match="not readable as YAML"):
        load_config([path])
    path.write_text("- 1\n")
    with pytest.raises(ConfigError, match="expected keys and values"):
        load_config([path])
    with pytest.raises(ConfigError, match="no configuration file"):
        load_config([tmp_path / "missing.yaml"])


def test_yaml_holds_every_default_and_gives_the_same_config_back():
    config = load_config(["training.epochs=3"])
    values = yaml.safe_load(config_to_yaml(config))
    assert values["model"]["audio"]["spectrogram"]["num_mels"] == Config().model.audio.spectrogram.num_mels
    assert config_from_dict(values) == config


def test_stored_configs_are_checked_like_others():
    with pytest.raises(ConfigError, match="unknown key"):
        config_from_dict({"training": {"epochz": 3}})


@pytest.mark.parametrize("path", [p for group in list_configs().values() for p in group], ids=lambda p: p.stem)
def test_every_named_config_loads_and_says_what_it_is(path):
    load_config([path])
    assert path.read_text().startswith("# ")
    assert find_config(path.stem) == path
