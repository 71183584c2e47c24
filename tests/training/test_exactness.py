"""The same seed gives the same weights to the last bit, even to a run that was killed again and again."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from avser.training.checkpoint import MODEL_FILE, STATE_FILE, read_progress
from avser.training.run import train

# Everything that draws: dropout, masks over the spectrogram, modality dropout, augmentation with mixup and speed.
RANDOM = (
    "training.epochs=2",
    "training.augment={mixup: 0.4, speed: 0.1}",
    "model.fusion.modality_dropout=0.3",
    "model.audio.dropout=0.3",
    "training.sampling=balanced",
    "training.class_weights=none",
)


def same_bits(one, other, file):
    first, second = load_file(one / file), load_file(other / file)
    assert first.keys() == second.keys()
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_one_seed_gives_one_run_and_another_seed_another(tiny_config):
    one, two, other = (train(tiny_config(f"name={name}", f"seed={seed}", *RANDOM)) for name, seed in SEEDS.items())
    for file in (MODEL_FILE, STATE_FILE):
        assert same_bits(one, two, file)
        assert not same_bits(one, other, file)
    assert (one / "predictions.csv").read_text() == (two / "predictions.csv").read_text()


SEEDS = {"one": 4, "two": 4, "other": 5}


@pytest.mark.slow
def test_a_run_killed_at_three_random_moments_is_the_same_run(tiny_config):
    """The moments are seeded shares of an epoch's time, in different epochs; what is lost is trained again."""
    epochs = "training.epochs=6"
    begun = time.monotonic()
    whole = train(tiny_config("name=whole", *RANDOM, epochs))
    epoch_s = (time.monotonic() - begun) / 6
    config = tiny_config("name=killed", *RANDOM, epochs)
    folder = whole.with_name("killed")
    shares = random.Random(20)
    for epochs_before in (0, 2, 4):
        assert kill_in_epoch(config, folder, epochs_before, epoch_s * shares.random())
        assert not (folder / "metrics.json").exists()
    assert start(config).wait() == 0
    assert [len(read_progress(f / STATE_FILE).history) for f in (whole, folder)] == [6, 6]
    for file in (MODEL_FILE, STATE_FILE):
        assert same_bits(whole, folder, file)
    assert (whole / "predictions.csv").read_text() == (folder / "predictions.csv").read_text()


def start(config):
    """A process of its own that trains, or goes on."""
    code = (
        "import sys, yaml; from pathlib import Path; from avser.config import load_config; "
        "from avser.training.run import train; train(load_config([sys.argv[1]]), resume=True)"
    )
    from avser.config import config_to_yaml

    path = os.path.join(config.runs, "config.yaml")  # noqa: PTH118
    os.makedirs(config.runs, exist_ok=True)  # noqa: PTH103
    with open(path, "w") as file:  # noqa: PTH123
        file.write(config_to_yaml(config))
    return subprocess.Popen([sys.executable, "-c", code, path])


def kill_in_epoch(config, folder, epochs_before, seconds):
    """SIGKILL a run that many seconds after so many epochs are saved; whether it was still training."""
    process, log = start(config), folder / "log"
    while process.poll() is None:
        ready = (folder / STATE_FILE).is_file() if epochs_before else log.is_dir()
        if ready and (not epochs_before or len(read_progress(folder / STATE_FILE).history) >= epochs_before):
            break
        time.sleep(0.02)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL
