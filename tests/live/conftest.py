"""A causal run of voice and face, with weights that nobody trained."""

from pathlib import Path

import pytest
import torch

from avser.config import load_config
from avser.models.build import build_model
from avser.training.checkpoint import save_model
from tests.conftest import tiny_sources

CAUSAL = [
    "model.audio.backbone={name: 'timm:test_resnet', weights: none, max_stride: 16, max_time_stride: 4}",
    *("model.causal=true", "model.video.bidirectional=false", "model.video.baseline=clip"),
    *("model.attention.window_s=1.5", "model.running_s=1.0", "roi.rule=coverage"),
]


def save_causal_run(corpus: Path, name: str = "causal", *overrides: str) -> Path:
    """The folder of the run."""
    config = load_config([*tiny_sources(corpus), *CAUSAL, f"name={name}", *overrides])
    torch.manual_seed(0)
    model = build_model(config.model, config.data.emotions, sample_rate_hz=config.media.sample_rate_hz)
    for parameter in model.parameters():  # zeros at the start of a training would hide what passes through them
        if parameter.dim() == 1:
            parameter.data += 0.2 * torch.randn(parameter.shape)
    folder = corpus / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder / "model.safetensors", model, config, config.data.emotions)
    return folder


@pytest.fixture(scope="session")
def causal_run(tiny_corpus) -> Path:
    return save_causal_run(tiny_corpus)
