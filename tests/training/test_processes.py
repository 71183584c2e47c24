"""Two processes train the same model as one, and count every clip once."""

import csv
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from avser.config import config_to_yaml, load_config
from avser.training.checkpoint import MODEL_FILE, STATE_FILE, read_progress
from avser.training.record import read_record
from avser.training.run import train

# Without BatchNorm, and with nothing drawn inside the model: both are a matter of each process's part of a batch. What
# is drawn for the batch as a whole stays: augmentation, mixup, and speed. Momentum instead of Adam, which turns the
# rounding of a gradient near zero into a step of full size. One emotion is twice as frequent, for classes to weigh
# unlike.
SAME_EVERYWHERE = """
    model.audio.backbone.name=torchvision:squeezenet1_1 model.video.backbone.name=torchvision:squeezenet1_1
    model.audio.dropout=0 model.video.dropout=0 model.fusion.dropout=0 model.fusion.modality_dropout=0
    model.audio.spec_augment=false
    data.emotions=[anger,fear,happiness,sadness,surprise] data.merge.disgust=anger
    data.num_frames=4 data.max_duration_s=1.0 training.batch_size=7
    training.augment.mixup=0.4 training.augment.speed=0.1 training.optimizer=sgd training.learning_rate=0.05
""".split()


def train_on(num_processes, config):
    """`accelerate launch ... avser train`, on the CPU; what it prints."""
    path = os.path.join(config.runs, f"{config.name}.yaml")  # noqa: PTH118
    os.makedirs(config.runs, exist_ok=True)  # noqa: PTH103
    with open(path, "w") as file:  # noqa: PTH123
        file.write(config_to_yaml(config))
    launcher = ["accelerate.commands.launch", "--multi_gpu", f"--num_processes={num_processes}", "--num_machines=1"]
    options = ["--main_process_port=0", "--mixed_precision=no", "--dynamo_backend=no"]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, *options, "--module", "avser.cli", "train", path],
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("balance", "accumulate"),
    [("none", 1), ("none", 2), ("ogm_ge", 1), ("gradient_blending", 2), ("mmpareto", 2)],
)
def test_two_processes_train_the_model_of_one(tiny_config, balance, accumulate):
    settings = [*SAME_EVERYWHERE, f"training.balance={balance}"]
    if balance != "none":
        settings += ["training.augment.mixup=0"]  # which gives soft labels, and those are not weighed
    if balance == "gradient_blending":
        settings += ["training.epochs=3", "training.balance_epochs=1"]  # the third epoch has weights of its own
    one = train(tiny_config("name=one", *settings))
    printed = train_on(2, tiny_config("name=two", *settings, f"training.accumulate={accumulate}"))
    two = one.with_name("two")
    for file in (MODEL_FILE, STATE_FILE):
        alone, together = load_file(one / file), load_file(two / file)
        assert alone.keys() == together.keys()
        for name, value in alone.items():
            # A balance makes the rounding of gradients larger, how much is the processor's; first in the momentum.
            atol = 1e-5 if balance == "none" else 1e-4
            if balance != "none" and name.startswith("optimizer."):
                atol = 0.03 * value.abs().max().item()
            torch.testing.assert_close(together[name], value, rtol=1e-3, atol=atol, msg=lambda m, n=name: f"{n}: {m}")
    assert "".join(printed.split()).count("two,test") == 1  # only one of them tells the result; titles wrap
    assert read_record(two).num_processes == 2
    alone, together = (read_progress(folder / STATE_FILE).history for folder in (one, two))
    assert together == [pytest.approx(epoch, rel=1e-3, abs=1e-4) for epoch in alone]
    if balance == "gradient_blending":
        assert alone[2]["weight_audio"] != pytest.approx(alone[0]["weight_audio"], abs=0.01)
    rows = [read_rows(folder) for folder in (one, two)]
    assert [row["clip_id"] for row in rows[0]] == [row["clip_id"] for row in rows[1]]
    assert len({row["clip_id"] for row in rows[1]}) == len(rows[1])
    for alone, together in zip(*rows, strict=True):
        assert float(together["anger"]) == pytest.approx(float(alone["anger"]), abs=1e-4)


@pytest.mark.slow
def test_two_processes_agree_where_each_draws_its_own(tiny_config):
    """With dropout and BatchNorm the result is another one, but all processes hold the same, and it resumes exactly."""
    config = tiny_config("name=drawn", "training.epochs=3", "model.fusion.modality_dropout=0.3")
    train_on(2, config)
    train_on(2, load_config(["name=again"], base=config))
    first, second = (load_file(f"{config.runs}/{name}/{STATE_FILE}") for name in ("drawn", "again"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def read_rows(folder):
    with (folder / "predictions.csv").open() as file:
        return list(csv.DictReader(file))
