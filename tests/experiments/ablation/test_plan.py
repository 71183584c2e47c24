"""What an ablation trains: how axes are read, which combinations are one model, and how cells are named."""

import pytest

from avser.config import load_config
from avser.errors import ConfigError
from avser.experiments.ablation.plan import (
    Axis,
    default_reference,
    effective_config,
    find_cell,
    partners,
    plan_cells,
    read_axes,
    read_numbers,
    split_values,
)

BOTH = ["modality=audio,video,fused", "fusion=concat,gated"]


def plan(*over: str, sources=("av_roi",)):
    axes = read_axes(over)
    return axes, plan_cells(load_config(list(sources)), axes)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a,b", ["a", "b"]),
        ("[audio],[audio, video]", ["[audio]", "[audio, video]"]),
        ("{name: 'x,y', n: [1,2]},none", ["{name: 'x,y', n: [1,2]}", "none"]),
        ("1e-3", ["1e-3"]),
    ],
)
def test_commas_in_brackets_and_quotes_belong_to_the_value(text, parts):
    assert split_values(text) == parts


@pytest.mark.parametrize("text", ["[audio", "audio]", "{a: [1}", "'x"])
def test_open_brackets_are_refused(text):
    with pytest.raises(ConfigError, match=r"closes nothing|not closed"):
        split_values(text)


@pytest.mark.parametrize(
    ("over", "words"),
    [
        (["fusion"], "write KEY=V1,V2"),
        (["fusion=concat,"], "write KEY=V1,V2"),
        (["fusion=concat,concat"], "every value once"),
        (["seed=0,1"], "give --seeds"),
        (["data.fold=0,1"], "give --folds"),
        (["modality=audio,both"], "'both' is no modality; take of audio, video, fused"),
        (["fusion=concat", "model.fusion.kind=gated"], "model.fusion.kind is varied twice"),
    ],
)
def test_axes_that_cannot_be_are_refused(over, words):
    with pytest.raises(ConfigError, match=words):
        read_axes(over)


def test_unknown_keys_and_values_are_refused_before_anything_is_trained():
    with pytest.raises(ConfigError, match=r"did you mean 'training.epochs'"):
        plan("training.epoch=1,2")
    with pytest.raises(ConfigError, match=r"model\.fusion\.kind"):
        plan("fusion=concat,sum")


def test_a_value_sets_what_its_alias_stands_for():
    _, cells = plan("weights=none,imagenet", "modality=audio,fused")
    found = {cell.name: cell.config.model for cell in cells}
    fused = found["weights=none,modality=fused"]
    assert fused.modalities == ["audio", "video"]
    assert (fused.audio.backbone.weights, fused.video.backbone.weights) == ("none", "none")
    assert found["weights=imagenet,modality=audio"].modalities == ["audio"]


def test_a_single_modality_is_trained_once_for_all_fusions():
    axes, cells = plan(*BOTH)
    assert [cell.name for cell in cells] == [
        "modality=audio",
        "modality=video",
        "modality=fused,fusion=concat",
        "modality=fused,fusion=gated",
    ]
    assert cells[0].members == (("audio", "concat"), ("audio", "gated"))
    assert cells[0].settings == {"modality": "audio", "fusion": None}
    assert partners(cells, axes, cells[2]) == {"audio": cells[0], "video": cells[1]}
    assert partners(cells, axes, cells[0]) is None


def test_what_the_model_looks_at_makes_cells_of_their_own():
    _, cells = plan("modality=audio,video", "model.audio.dim=32,64")
    assert [cell.name for cell in cells] == [
        "modality=audio,model.audio.dim=32",
        "modality=audio,model.audio.dim=64",
        "modality=video",
    ]
    _, cells = plan("modality=audio,fused", "training.attention_entropy=0,0.1")
    assert len(cells) == 4


def test_one_modality_has_nothing_to_balance():
    _, cells = plan("modality=audio,fused", "balance=none,ogm_ge", "training.balance_alpha=0.3,0.5")
    assert cells[0].label == "audio"
    assert len(cells) == 5
    _, (voice, both) = plan("modality=audio,fused", "balance=ogm_ge")
    assert (voice.config.training.balance, both.config.training.balance) == ("none", "ogm_ge")


def test_a_table_of_face_features_has_no_weights():
    sources = ("av_roi", "model.video.num_features=35")
    assert len(plan("weights=none,imagenet", "modality=video,fused", sources=sources)[1]) == 3
    assert len(plan("weights=none,imagenet", "modality=video,fused")[1]) == 4


def test_partners_share_every_other_value():
    axes, cells = plan("modality=audio,video,fused", "attention=mean,additive", "fusion=concat,gated")
    fused = next(c for c in cells if c.name == "modality=fused,attention=additive,fusion=gated")
    names = {modality: cell.name for modality, cell in partners(cells, axes, fused).items()}
    assert names == {"audio": "modality=audio,attention=additive", "video": "modality=video,attention=additive"}


def test_a_partial_merge_keeps_names_apart():
    """Where some values of an axis make one model and others do not, the name says which."""
    _, cells = plan("model.modalities=[audio],[audio, video]", "model.video.dim=64,128", sources=("av_roi",))
    names = [cell.name for cell in cells]
    assert len(set(names)) == len(names) == 3
    assert len({cell.folder for cell in cells}) == 3


def test_folders_are_short_and_hold_no_slash():
    axes = [Axis("model.audio.backbone.weights", ("none", "/models/" + "x" * 200 + ".safetensors"))]
    cells = plan_cells(load_config(["av_roi"]), axes)
    assert all(len(cell.folder) < 140 and "/" not in cell.folder for cell in cells)
    _, cells = plan("model.modalities=[audio],[audio, video]")
    assert [cell.folder for cell in cells] == ["model.modalities=audio", "model.modalities=audio+video"]


def test_the_reference_is_found_by_name_and_by_default():
    axes, cells = plan(*BOTH)
    config = load_config(["av_roi", "model.fusion.kind=gated"])
    assert default_reference(cells, config).name == "modality=fused,fusion=gated"
    assert default_reference(cells, load_config(["av_roi", "training.epochs=3"])) is cells[0]
    assert find_cell(cells, axes, "modality=video").name == "modality=video"
    assert find_cell(cells, axes, "modality=video,fusion=gated").name == "modality=video"
    assert find_cell(cells, axes, "fusion=gated,modality=fused").name == "modality=fused,fusion=gated"
    with pytest.raises(ConfigError, match="names several cells"):
        find_cell(cells, axes, "modality=fused")
    with pytest.raises(ConfigError, match="names no cell; take one of\n  modality=audio\n"):
        find_cell(cells, axes, "modality=smell")


def test_published_systems_keep_all_their_settings():
    """Only the reference model is known to pass over a part of its configuration."""
    config = load_config(["light_sernet"])
    assert effective_config(config) == config


def test_numbers():
    assert read_numbers("0, 2,1", "--seeds") == [0, 2, 1]
    for text in ("", "a", "1,1", "-1", "1.5"):
        with pytest.raises(ConfigError, match="--seeds"):
            read_numbers(text, "--seeds")
