"""wav2vec 2.0 from local files: torchaudio's model with weights from safetensors, whoever's names they carry.

Two kinds of sources are read, and neither is ever unpickled: a folder of Hugging Face (`config.json` beside
`model.safetensors`, of a Wav2Vec2Model or of a model that holds one), and a .safetensors file with the names of
`torchaudio.models.Wav2Vec2Model`, such as the state of `torchaudio.pipelines.WAV2VEC2_BASE.get_model()`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchaudio.models import Wav2Vec2Model, wav2vec2_model

from avser.errors import CheckpointError

# The convolutions of every published wav2vec 2.0 (Baevski et al. 2020): at 16 kHz a step every 20 ms, 25 ms wide.
KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
STEP_SAMPLES, REACH_SAMPLES = 320, 400
SAMPLE_RATE_HZ = 16000
HEAD_WIDTH = 64  # of all published models; files with torchaudio's names do not tell the number of heads
# Hugging Face's name -> torchaudio's, by prefix; weight normalisation was saved under two pairs of names.
PREFIXES = {
    "feature_extractor.": "feature_extractor.",
    "feature_projection.": "encoder.feature_projection.",
    "encoder.": "encoder.transformer.",
}
SUFFIXES = {
    "conv.weight_g": "conv.parametrizations.weight.original0",
    "conv.weight_v": "conv.parametrizations.weight.original1",
}
IGNORED = (
    "masked_spec_embed",
    "lm_head.",
    "aux.",
    "quantizer.",
    "project_q.",
    "project_hid.",
    "classifier.",
    "projector.",
)


class Wav2Vec2(nn.Module):
    """The encoder's last layer over a waveform at 16 kHz.

    A saved model has to be rebuilt where the folder of the pretrained weights is gone. So the sizes of the network
    travel in its state, and one that was made from no source takes its sizes from the state that it is given.

    Args:
        source: folder or file as above; None for a network to be made by `load_state_dict`.
    """

    settings: Tensor

    def __init__(self, source: str | Path | None) -> None:
        super().__init__()
        self.model: Wav2Vec2Model | None = None
        self.register_buffer("settings", torch.zeros(0, dtype=torch.uint8))
        self.register_load_state_dict_pre_hook(_take_sizes)
        if source is not None:
            self.model, settings = load_wav2vec2(source)
            self.settings = _to_bytes(settings)

    @property
    def dim(self) -> int | None:
        """Width of a step; None before there is a network."""
        return _from_bytes(self.settings)["encoder_embed_dim"] if len(self.settings) else None

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, N) samples -> (B, T, D), T = (N - 400) // 320 + 1; 149 steps of 3 s. Silence at the end is heard."""
        if self.model is None:
            raise CheckpointError("this wav2vec 2.0 has no weights yet: load a model that was trained with it")
        return self.model(waveform)[0]


def load_wav2vec2(source: str | Path) -> tuple[Wav2Vec2Model, dict[str, Any]]:
    """The model with its weights, and the keyword arguments of `torchaudio.models.wav2vec2_model` that made it.

    Raises:
        CheckpointError: missing, not safetensors, or not of a wav2vec 2.0.
    """
    path = Path(source)
    if path.is_dir():
        weights = _read_weights(path / "model.safetensors")
        settings = settings_from_config(path / "config.json")
        weights = {name: value for name, value in ((_rename(k), v) for k, v in weights.items()) if name}
    else:
        weights = _read_weights(path)
        weights = {name.removeprefix("model."): value for name, value in weights.items()}
        weights = {name: value for name, value in weights.items() if not name.startswith(IGNORED)}
        settings = settings_from_shapes(weights, path)
    model = wav2vec2_model(**settings)
    wanted = model.state_dict()
    faulty = sorted(set(wanted) ^ set(weights)) or [k for k, v in weights.items() if v.shape != wanted[k].shape]
    if faulty:
        raise CheckpointError(f"{path}: {len(faulty)} weights are not those of this wav2vec 2.0, e.g. {faulty[0]!r}")
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    return model, settings


def settings_from_config(path: Path) -> dict[str, Any]:
    """What Hugging Face's config.json says, as arguments of `torchaudio.models.wav2vec2_model`.

    Raises:
        CheckpointError: missing, not JSON, without a size, or of a network whose steps are not 20 ms.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        settings = {
            "extractor_mode": f"{config['feat_extract_norm']}_norm",
            "extractor_conv_layer_config": [
                list(layer)
                for layer in zip(config["conv_dim"], config["conv_kernel"], config["conv_stride"], strict=True)
            ],
            "extractor_conv_bias": config["conv_bias"],
            "encoder_embed_dim": config["hidden_size"],
            "encoder_projection_dropout": config.get("feat_proj_dropout", 0.0),
            "encoder_pos_conv_kernel": config["num_conv_pos_embeddings"],
            "encoder_pos_conv_groups": config["num_conv_pos_embedding_groups"],
            "encoder_num_layers": config["num_hidden_layers"],
            "encoder_num_heads": config["num_attention_heads"],
            "encoder_attention_dropout": config.get("attention_dropout", 0.0),
            "encoder_ff_interm_features": config["intermediate_size"],
            "encoder_ff_interm_dropout": config.get("activation_dropout", 0.0),
            "encoder_dropout": config.get("hidden_dropout", 0.0),
            "encoder_layer_norm_first": config["do_stable_layer_norm"],
            "encoder_layer_drop": config.get("layerdrop", 0.0),
            "aux_num_out": None,
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: no configuration of a wav2vec 2.0 ({type(error).__name__}: {error})") from error
    kernels, strides = (tuple(layer[i] for layer in settings["extractor_conv_layer_config"]) for i in (1, 2))
    if (kernels, strides) != (KERNELS, STRIDES):
        raise CheckpointError(f"{path}: kernels {kernels} and strides {strides} do not give steps of 20 ms")
    return settings


def settings_from_shapes(weights: dict[str, Tensor], path: Path) -> dict[str, Any]:
    """The sizes of a network by torchaudio's names. Strides and heads are those of all published models.

    Raises:
        CheckpointError: other names than torchaudio's.
    """
    try:
        widths = [weights[f"feature_extractor.conv_layers.{i}.conv.weight"].shape[0] for i in range(len(KERNELS))]
        dim = weights["encoder.feature_projection.projection.weight"].shape[0]
        place = weights["encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original1"].shape
        wide = weights["encoder.transformer.layers.0.feed_forward.intermediate_dense.weight"].shape[0]
    except KeyError as error:
        raise CheckpointError(f"{path}: no wav2vec 2.0 with torchaudio's names (it lacks {error})") from error
    layers = {name.split(".")[3] for name in weights if name.startswith("encoder.transformer.layers.")}
    each_layer_normed = "feature_extractor.conv_layers.1.layer_norm.weight" in weights
    return {
        "extractor_mode": "layer_norm" if each_layer_normed else "group_norm",
        "extractor_conv_layer_config": [list(layer) for layer in zip(widths, KERNELS, STRIDES, strict=True)],
        "extractor_conv_bias": "feature_extractor.conv_layers.0.conv.bias" in weights,
        "encoder_embed_dim": dim,
        "encoder_projection_dropout": 0.1,  # dropout as in torchaudio's own builders
        "encoder_pos_conv_kernel": place[2],
        "encoder_pos_conv_groups": place[0] // place[1],
        "encoder_num_layers": len(layers),
        "encoder_num_heads": dim // HEAD_WIDTH,
        "encoder_attention_dropout": 0.1,
        "encoder_ff_interm_features": wide,
        "encoder_ff_interm_dropout": 0.1,
        "encoder_dropout": 0.1,
        # Published models norm before each layer exactly where every convolution is normed (large-lv60k, XLSR).
        "encoder_layer_norm_first": each_layer_normed,
        "encoder_layer_drop": 0.1,
        "aux_num_out": None,
    }


def _rename(name: str) -> str | None:
    """Hugging Face's name of a weight -> torchaudio's; None for what the encoder does without."""
    name = name.removeprefix("wav2vec2.")
    if name.startswith(IGNORED):
        return None
    for old, new in SUFFIXES.items():
        if name.endswith(old):
            name = name.removesuffix(old) + new
    for prefix, theirs in PREFIXES.items():
        if name.startswith(prefix):
            return theirs + name.removeprefix(prefix)
    return name


def _read_weights(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors" or not path.is_file():
        raise CheckpointError(
            f"{path}: no such .safetensors file; give a folder with config.json and model.safetensors, or such a file "
            "with torchaudio's names (pickled weights are not read, because they can run code)"
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not readable as safetensors ({error})") from error


def _take_sizes(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Before loading: make the network that a state is of, where there is none yet."""
    stored = state.get(prefix + "settings")
    if isinstance(module, Wav2Vec2) and module.model is None and stored is not None and len(stored):
        device = module.settings.device
        module.settings = stored.to(device, copy=True)
        module.model = wav2vec2_model(**_from_bytes(stored)).to(device).train(module.training)


def _to_bytes(settings: dict[str, Any]) -> Tensor:
    return torch.tensor(list(json.dumps(settings).encode()), dtype=torch.uint8)


def _from_bytes(stored: Tensor) -> dict[str, Any]:
    return json.loads(bytes(stored.tolist()))
