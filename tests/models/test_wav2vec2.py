"""wav2vec 2.0 from files: every weight finds its place, the output is that of the published order of layers."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from avser.errors import CheckpointError
from avser.models.wav2vec2 import KERNELS, STRIDES, Wav2Vec2, load_wav2vec2

CONFIG = {
    "feat_extract_norm": "group",
    "conv_dim": [8] * 7,
    "conv_kernel": list(KERNELS),
    "conv_stride": list(STRIDES),
    "conv_bias": False,
    "hidden_size": 64,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "intermediate_size": 32,
    "do_stable_layer_norm": False,
    "layerdrop": 0.1,
}


def huggingface_weights():
    """Random weights under the names and in the shapes of a Hugging Face Wav2Vec2Model of these sizes."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return 0.3 * torch.randn(shape, generator=generator)

    dim, width, wide = 64, 8, 32
    shapes = {f"feature_extractor.conv_layers.{i}.conv.weight": (8, 8 if i else 1, k) for i, k in enumerate(KERNELS)}
    shapes |= {f"feature_extractor.conv_layers.0.layer_norm.{part}": (width,) for part in ("weight", "bias")}
    shapes |= {f"feature_projection.layer_norm.{part}": (width,) for part in ("weight", "bias")}
    shapes |= {"feature_projection.projection.weight": (dim, width), "feature_projection.projection.bias": (dim,)}
    shapes |= {"encoder.pos_conv_embed.conv.weight_v": (dim, 16, 8), "encoder.pos_conv_embed.conv.bias": (dim,)}
    shapes |= {"encoder.layer_norm.weight": (dim,), "encoder.layer_norm.bias": (dim,), "masked_spec_embed": (dim,)}
    for i in range(2):
        layer = f"encoder.layers.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= {f"{layer}.attention.{part}.weight": (dim, dim), f"{layer}.attention.{part}.bias": (dim,)}
        for norm in ("layer_norm", "final_layer_norm"):
            shapes |= {f"{layer}.{norm}.weight": (dim,), f"{layer}.{norm}.bias": (dim,)}
        shapes |= {f"{layer}.feed_forward.intermediate_dense.weight": (wide, dim)}
        shapes |= {f"{layer}.feed_forward.intermediate_dense.bias": (wide,)}
        shapes |= {f"{layer}.feed_forward.output_dense.weight": (dim, wide)}
        shapes |= {f"{layer}.feed_forward.output_dense.bias": (dim,)}
    weights = {name: draw(*shape) for name, shape in shapes.items()}
    weights["encoder.pos_conv_embed.conv.weight_g"] = draw(1, 1, 8).abs() + 0.1
    return weights


def write_folder(folder, weights, **changes):
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}), encoding="utf-8")
    return folder


def reference(weights, waveform):
    """wav2vec 2.0 "base" written out: norms after the layers, group norm after the first convolution alone."""

    def linear(x, name):
        return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x, name):
        return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    x = waveform[:, None]
    for i, stride in enumerate(STRIDES):
        x = functional.conv1d(x, weights[f"feature_extractor.conv_layers.{i}.conv.weight"], stride=stride)
        if i == 0:
            name = "feature_extractor.conv_layers.0.layer_norm"
            x = functional.group_norm(x, 8, weights[f"{name}.weight"], weights[f"{name}.bias"])
        x = functional.gelu(x)
    x = linear(norm(x.transpose(1, 2), "feature_projection.layer_norm"), "feature_projection.projection")
    place = "encoder.pos_conv_embed.conv"
    direction = weights[f"{place}.weight_v"]
    kernel = direction / direction.square().sum(dim=(0, 1), keepdim=True).sqrt() * weights[f"{place}.weight_g"]
    position = functional.conv1d(x.transpose(1, 2), kernel, weights[f"{place}.bias"], padding=4, groups=4)[..., :-1]
    x = norm(x + functional.gelu(position).transpose(1, 2), "encoder.layer_norm")
    for i in range(2):
        layer = f"encoder.layers.{i}"
        query, key, value = (linear(x, f"{layer}.attention.{part}_proj") for part in "qkv")
        share = torch.softmax(query @ key.transpose(1, 2) / 8, dim=2)
        x = norm(x + linear(share @ value, f"{layer}.attention.out_proj"), f"{layer}.layer_norm")
        inner = functional.gelu(linear(x, f"{layer}.feed_forward.intermediate_dense"))
        x = norm(x + linear(inner, f"{layer}.feed_forward.output_dense"), f"{layer}.final_layer_norm")
    return x


@pytest.fixture(scope="module")
def weights():
    return huggingface_weights()


@pytest.fixture
def waveform():
    return torch.randn(2, 4000, generator=torch.Generator().manual_seed(1))


def test_a_folder_of_hugging_face_gives_its_network(weights, waveform, tmp_path):
    encoder = Wav2Vec2(write_folder(tmp_path, weights)).eval()
    steps = encoder(waveform)
    assert encoder.dim == 64
    assert steps.shape == (2, (4000 - 400) // 320 + 1, 64)
    torch.testing.assert_close(steps, reference(weights, waveform), atol=1e-4, rtol=1e-3)


def test_three_seconds_are_149_steps(weights, tmp_path):
    encoder = Wav2Vec2(write_folder(tmp_path, weights)).eval()
    assert encoder(torch.zeros(1, 48000)).shape == (1, 149, 64)


def test_other_names_of_the_same_weights_are_read(weights, waveform, tmp_path):
    """A model with a head on top, and the newer names of weight normalisation."""
    names = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    renamed = {}
    for name, value in weights.items():
        for old, new in names.items():
            name = name.replace(old, new)
        renamed[f"wav2vec2.{name}"] = value.half()
    renamed["lm_head.weight"] = torch.zeros(3, 64)
    one = Wav2Vec2(write_folder(tmp_path, renamed)).eval()(waveform)
    torch.testing.assert_close(one, reference(weights, waveform), atol=2e-2, rtol=2e-2)


def test_a_file_with_torchaudios_names_gives_the_same_network(weights, waveform, tmp_path):
    model, _ = load_wav2vec2(write_folder(tmp_path, weights))
    path = tmp_path / "own.safetensors"
    save_file(model.state_dict() | {"aux.weight": torch.zeros(2, 64)}, path)
    again, settings = load_wav2vec2(path)
    assert settings["encoder_num_heads"] == 1
    torch.testing.assert_close(again.eval()(waveform)[0], model.eval()(waveform)[0])


def test_large_models_norm_before_each_layer(weights, tmp_path):
    each = {
        f"feature_extractor.conv_layers.{i}.layer_norm.{p}": torch.ones(8) for i in range(7) for p in ("weight", "bias")
    }
    folder = write_folder(tmp_path, weights | each, feat_extract_norm="layer", do_stable_layer_norm=True)
    model, settings = load_wav2vec2(folder)
    path = tmp_path / "own.safetensors"
    save_file(model.state_dict(), path)
    own = load_wav2vec2(path)[1]
    kinds = ("extractor_mode", "encoder_layer_norm_first")
    assert [own[k] for k in kinds] == [settings[k] for k in kinds] == ["layer_norm", True]


def test_a_state_brings_the_sizes_of_its_network(weights, waveform, tmp_path):
    """A trained model is rebuilt where the pretrained folder is gone."""
    trained = Wav2Vec2(write_folder(tmp_path, weights)).eval()
    rebuilt = Wav2Vec2(None).eval()
    with pytest.raises(CheckpointError, match="no weights yet"):
        rebuilt(waveform)
    rebuilt.load_state_dict(trained.state_dict())
    assert rebuilt.dim == 64
    torch.testing.assert_close(rebuilt(waveform), trained(waveform))


def test_faulty_sources_are_refused(weights, tmp_path):
    with pytest.raises(CheckpointError, match="no such"):
        load_wav2vec2(tmp_path / "gone.safetensors")
    pickled = tmp_path / "w.pt"
    torch.save({}, pickled)
    with pytest.raises(CheckpointError, match="can run code"):
        load_wav2vec2(pickled)
    with pytest.raises(CheckpointError, match="20 ms"):
        load_wav2vec2(write_folder(tmp_path / "fast", weights, conv_stride=[5, 2, 2, 2, 2, 2, 1]))
    lacking = {k: v for k, v in weights.items() if "layers.1" not in k}
    with pytest.raises(CheckpointError, match="not those"):
        load_wav2vec2(write_folder(tmp_path / "lacking", lacking))
    with pytest.raises(CheckpointError, match="not those"):
        load_wav2vec2(write_folder(tmp_path / "narrow", weights, intermediate_size=16))
    (tmp_path / "lacking" / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match="no configuration"):
        load_wav2vec2(tmp_path / "lacking")
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, other)
    with pytest.raises(CheckpointError, match="torchaudio's names"):
        load_wav2vec2(other)
