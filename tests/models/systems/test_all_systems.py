"""What every published system has in common: any length, no trace of padding, learning, saving, moments in time."""

import copy
import inspect
import json
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
import torch

from avser.config import load_config
from avser.errors import ConfigError
from avser.models.build import build_model
from avser.models.systems import SYSTEMS
from avser.roi.intervals import describe_degenerate, find_regions
from avser.roi.salience.curves import salience_curve
from avser.structures import Batch
from avser.training.losses import TrainingLoss, relative_entropy

EMOTIONS = ["anger", "happiness", "neutral", "sadness"]
HZ = 16000
# Smaller or lighter than published where only the size of the network would make these tests slow.
SMALL_ACRNN = "{num_convs: 2, first_maps: 8, num_maps: 16, num_linear: 32, num_cells: 32}"
SMALL_ENSEMBLE = [f"model.options={{num_members: 2, member: {SMALL_ACRNN}}}"]
LIGHT: dict[str, list[str]] = {
    "blstm_rv_elm": ["model.options.warm_start_epochs=0"],
    "acrnn": [f"model.options={SMALL_ACRNN}"],
    "acrnn_bagging": SMALL_ENSEMBLE,
    "acrnn_redag": SMALL_ENSEMBLE,
    "acrnn_augag": SMALL_ENSEMBLE,
    "macnn_area": ["model.options.num_mels=32"],
    "eca_cnn6": ["model.options={num_mels: 32, num_columns: 64, multi_stft: none}"],
    "dcnn_blstmwa": ["model.options.image_px=96"],
    "coatt_mla": ["model.options={image_px: 128, pool: attention}"],
}
FACES = {"roi_lstm": ["crops", "landmarks", "blendshapes", "features"]}
FACES["roi_att_lstm"] = FACES["roi_lstm"]


def cases():
    """(system, overrides): each system once, those that read several modalities or forms of the face once each."""
    for name, system in SYSTEMS.items():
        if system.reads == ("audio",):
            yield pytest.param(name, (), id=name)
            continue
        for face in FACES.get(name, ["crops"]):
            yield pytest.param(name, ("model.modalities=[video]", f"model.face_input={face}"), id=f"{name}-{face}")
        if "audio" in system.reads:
            yield pytest.param(name, ("model.modalities=[audio]",), id=f"{name}-audio")
            yield pytest.param(name, ("model.modalities=[audio,video]",), id=f"{name}-fused")


every_system = pytest.mark.parametrize(("name", "overrides"), list(cases()))


def build(name, overrides):
    """The system after what it counts before training; every test gets a copy of its own."""
    return copy.deepcopy(_build(name, tuple(overrides)))


@cache
def _build(name, overrides):
    torch.manual_seed(0)
    config = load_config([name, *LIGHT.get(name, []), *overrides])
    model = build_model(config.model, EMOTIONS, sample_rate_hz=HZ).eval()
    batch = speaking_faces((1.0, 0.8, 1.3, 0.6))
    with torch.no_grad():
        model.prepare([batch])
        model.enter_stage(0)
        model.fit_readout([batch])
    return model


def speaking_faces(durations_s, *, extra_s=0.0, seed=0):
    """Clips whose voice and face differ from emotion to emotion, and that change in time."""
    longest = max(durations_s) + extra_s
    num_samples, num_frames = round(longest * HZ), max(1, round(longest * 10))
    frames_axis = torch.arange(num_frames) / 10
    size = len(durations_s)
    batch = Batch(
        [f"clip{i}" for i in range(size)],
        torch.zeros(size, num_samples),
        torch.zeros(size, num_samples, dtype=torch.bool),
        HZ,
        frames=torch.zeros(size, num_frames, 3, 64, 64, dtype=torch.uint8),
        frame_times=frames_axis.repeat(size, 1),
        frame_mask=torch.zeros(size, num_frames, dtype=torch.bool),
        landmarks=torch.zeros(size, num_frames, 478, 2),
        blendshapes=torch.zeros(size, num_frames, 52),
        face_features=torch.zeros(size, num_frames, 35),
        feature_times=frames_axis.repeat(size, 1),
        feature_mask=torch.zeros(size, num_frames, dtype=torch.bool),
        labels=torch.arange(size) % len(EMOTIONS),
    )
    for i, duration_s in enumerate(durations_s):
        _fill(batch, i, duration_s, torch.Generator().manual_seed(100 * seed + i))
    return batch


def _fill(batch, i, duration_s, generator):
    """A voice of its own pitch and loudness that swells, a face of its own that moves."""
    label, n = int(batch.labels[i]), round(duration_s * HZ)
    seconds = torch.arange(n) / HZ
    pitch_hz = 120 + 45 * label + 15 * torch.sin(2 * torch.pi * 1.5 * seconds)
    phase = 2 * torch.pi * torch.cumsum(pitch_hz, 0) / HZ
    voice = sum(torch.sin(k * phase) / k for k in range(1, 12)) * (
        0.3 + torch.sin(torch.pi * seconds / duration_s) ** 2
    )
    batch.waveform[i, :n] = 0.1 * voice + 0.003 * torch.randn(n, generator=generator)
    batch.waveform_mask[i, :n] = True
    t = max(1, round(duration_s * 10))
    swell = torch.sin(torch.pi * (torch.arange(t) + 0.5) / t)
    face = torch.rand(478, 2, generator=torch.Generator().manual_seed(7))
    smile = torch.rand(478, 2, generator=torch.Generator().manual_seed(label))
    batch.landmarks[i, :t] = 100 + 50 * (face + 0.3 * swell[:, None, None] * smile)
    batch.blendshapes[i, :t] = swell[:, None] * torch.rand(52, generator=torch.Generator().manual_seed(label))
    batch.face_features[i, :t] = swell[:, None] * torch.rand(35, generator=torch.Generator().manual_seed(label))
    picture = (label + 1) / 4 * torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(label))
    frames = 255 * (0.2 + 0.8 * swell[:, None, None, None] * picture)
    batch.frames[i, :t] = frames.to(torch.uint8)
    batch.frame_mask[i, :t] = batch.feature_mask[i, :t] = True


def pad(batch, extra_s):
    """The same clips, padded further."""
    n, t = round(extra_s * HZ), round(extra_s * 10)
    changes = {}
    for name, amount, dim in [("waveform", n, 1), ("waveform_mask", n, 1), ("frames", t, 1), ("landmarks", t, 1)]:
        changes[name] = _longer(getattr(batch, name), amount, dim)
    for name in ("blendshapes", "face_features", "frame_mask", "feature_mask", "frame_times", "feature_times"):
        changes[name] = _longer(getattr(batch, name), t, 1)
    return replace(batch, **changes)


def _longer(x, amount, dim):
    return torch.cat([x, torch.zeros(x.shape[0], amount, *x.shape[2:], dtype=x.dtype)], dim=dim)


@every_system
def test_a_wish_for_few_regions_is_heard_or_refused(name, overrides):
    """`training.attention_entropy` reaches the loss, or the system says that its loss has no place for it."""
    model, batch = build(name, overrides).train(), speaking_faces((1.0, 0.8))
    with torch.no_grad():
        output = model(batch)
        plain, wished = (model.training_loss(output, batch, TrainingLoss(attention_entropy=w)) for w in (0.0, 0.5))
        looks_at_one_step = all(relative_entropy(part).abs().max() < 1e-6 for part in output.attended.values())
    assert plain != wished or model.has_own_loss or looks_at_one_step


@every_system
def test_any_length_gives_a_verdict_and_moments_within_the_clip(name, overrides):
    model = build(name, overrides)
    durations = (0.3, 2.0) if name not in ("macnn_area",) else (0.3, 3.0)
    for batch in (speaking_faces(durations), speaking_faces((15.0,))):
        with torch.no_grad():
            output = model(batch)
        assert output.logits.shape == (len(batch), len(EMOTIONS))
        assert torch.isfinite(output.logits).all()
        for part in output.attended.values():
            steps = part.mask.shape
            assert part.weights.shape == part.times.shape == steps
            assert part.sequence.shape[:2] == steps
            assert part.step_logits is None or part.step_logits.shape == (*steps, len(EMOTIONS))
            assert part.mask.any(dim=1).all()
            torch.testing.assert_close(part.weights.sum(dim=1), torch.ones(len(batch)), atol=1e-4, rtol=0)
            assert not part.weights[~part.mask].any()
            assert (part.weights >= 0).all()
            ends = batch.waveform_mask.sum(dim=1) / HZ
            for i, end_s in enumerate(ends.tolist()):
                times = part.times[i][part.mask[i]]
                assert (times.diff() > 0).all()
                assert times[0] >= -0.05
                assert times[-1] <= end_s + 0.35  # half a coarse step may reach beyond a very short clip


@every_system
def test_padding_and_company_change_nothing(name, overrides):
    model = build(name, overrides)
    for stage in range(model.num_stages + 1):  # in use, with all its parts
        model.enter_stage(stage)
    together = speaking_faces((1.7, 0.9))
    alone = speaking_faces((1.7,))
    with torch.no_grad():
        reference, padded, single = model(together), model(pad(together, 1.3)), model(alone)
    torch.testing.assert_close(padded.logits, reference.logits, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(single.logits[0], reference.logits[0], atol=2e-4, rtol=1e-3)
    for modality, part in reference.attended.items():
        other = padded.attended[modality]
        for i in range(2):
            real, real_too = part.mask[i], other.mask[i]
            assert real.sum() == real_too.sum()
            torch.testing.assert_close(other.weights[i][real_too], part.weights[i][real], atol=1e-4, rtol=1e-3)
            torch.testing.assert_close(other.times[i][real_too], part.times[i][real])
            if part.step_logits is not None and other.step_logits is not None:
                said, said_too = part.step_logits[i][real], other.step_logits[i][real_too]
                torch.testing.assert_close(said_too, said, atol=2e-4, rtol=1e-3)


@every_system
def test_every_parameter_learns(name, overrides):
    model = build(name, overrides)
    batch = speaking_faces((1.0, 0.8, 1.3, 0.6))
    touched = set()
    for stage in range(model.num_stages):
        model.enter_stage(stage)
        model.train()
        for epoch in (0, 99):  # a recipe may change in between
            model.begin_epoch(epoch, 100)
            model.zero_grad()
            torch.manual_seed(1)
            model.training_loss(model(batch), batch, TrainingLoss()).backward()
            touched |= {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    still = {n for n, _ in model.named_parameters()} - touched
    assert not still


@every_system
def test_one_batch_can_be_learnt_by_heart(name, overrides):
    model = build(name, overrides)
    batch = speaking_faces((1.0, 0.8, 1.3, 0.6))
    for stage in range(min(model.num_stages, 2)):
        model.enter_stage(stage)
        model.begin_epoch(99, 100)
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
                module.p = 0.0
            if isinstance(module, torch.nn.LSTM | torch.nn.GRU):
                module.dropout = 0.0
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(parameters, lr=2e-3)
        torch.manual_seed(0)
        for _ in range(80):
            output = model(batch)
            if (output.logits.argmax(dim=1) == batch.labels).all() and output.logits.softmax(1).amax(1).min() > 0.6:
                break
            optimizer.zero_grad()
            model.training_loss(output, batch, TrainingLoss()).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
        with torch.no_grad():
            model.eval().fit_readout([batch])
        assert (model.train()(batch).logits.argmax(dim=1) == batch.labels).all()


@every_system
def test_attention_and_salience_depend_on_the_clip(name, overrides):
    model = build(name, overrides)
    one, other = speaking_faces((2.0,)), speaking_faces((2.0, 2.0, 2.0))
    with torch.no_grad():
        for _ in range(10 if "crops" in str(overrides) else 0):  # batch normalisation gets used to these faces
            model.train()(other)
        model.eval()
        outputs = model(one), model(other)
    for modality, part in outputs[0].attended.items():
        curves = [salience_curve(part, 0, 1), salience_curve(outputs[1].attended[modality], 2, 1)]
        assert curves[0].values.sum() == pytest.approx(1, abs=1e-6)
        # An untrained network may attend almost evenly, which says nothing of when.
        assert find_regions(curves[0], modality, rule="coverage") or describe_degenerate(curves[0])
        # What listens to its last state alone has one curve for all; any other sees differences.
        if name not in LAST_STATE:
            assert abs(curves[0].values - curves[1].values).max() > 1e-6


LAST_STATE = {"roi_lstm", "spec_conv_lstm"}


@every_system
def test_weights_fit_a_newly_built_model(name, overrides):
    model = build(name, overrides)
    config = load_config([name, *LIGHT.get(name, []), *overrides])
    again = build_model(config.model, EMOTIONS, sample_rate_hz=HZ, pretrained=False)
    again.load_state_dict(model.state_dict())
    model.enter_stage(model.num_stages)
    again.enter_stage(again.num_stages)
    batch = speaking_faces((1.1,))
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(batch).logits, model.eval()(batch).logits)


@every_system
def test_a_batch_without_what_is_read_is_refused(name, overrides):
    model = build(name, overrides)
    nothing = speaking_faces((1.0,)).without("audio").without("video")
    with pytest.raises(ValueError, match=r"audio|video|voice|face"):
        model(nothing)


@pytest.mark.parametrize("name", [n for n, s in SYSTEMS.items() if set(s.reads) == {"audio", "video"}])
def test_a_fused_system_answers_with_either_modality_alone(name):
    model = build(name, ("model.modalities=[audio,video]",))
    batch = speaking_faces((1.0, 1.4))
    with torch.no_grad():
        both, voice, face = model(batch), model(batch.without("video")), model(batch.without("audio"))
    assert set(both.attended) == {"audio", "video"}
    assert set(voice.attended) == {"audio"}
    assert set(face.attended) == {"video"}
    assert not torch.allclose(both.logits, voice.logits)


@pytest.mark.parametrize("name", SYSTEMS)
def test_an_unknown_option_is_refused_with_the_nearest(name):
    config = load_config([name, "model.options.nonsense=1"])
    with pytest.raises(ConfigError, match=r"model.options.nonsense: .* has no such option; did you mean"):
        build_model(config.model, EMOTIONS, sample_rate_hz=HZ)


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_configuration_names_its_system_and_says_how_to_run_it(name):
    from avser.config import find_config

    assert load_config([name]).model.system == name
    head = find_config(name).read_text(encoding="utf-8").splitlines()[:2]
    assert head[0].startswith(f"# {name}")
    assert f"avser train {name} " in head[1]


# --- from a corpus to moments, by the commands' own functions ----------------------------------------------------


def train_briefly(name, overrides, sources, runs):
    """One epoch of a system on a corpus; the answer to one of its clips."""
    from avser.data.cache import ClipCache
    from avser.inference import load_model, predict
    from avser.training.run import train

    config = load_config(
        [name, *sources, *LIGHT.get(name, []), *overrides, "training.epochs=1", f"runs={runs}", "roi.rule=coverage"]
    )
    model = load_model(train(config))
    cache = ClipCache(Path(config.data.cache))
    clip_id = json.loads((Path(config.runs) / config.name / "split.json").read_text())["test"][0]
    return model, predict(model, cache.load(clip_id))


# Features are counted, stages follow one another, a read-out is solved for.
@pytest.mark.parametrize("name", ["roi_att_lstm", "acrnn_augag", "blstm_rv_elm"])
def test_training_leads_to_moments(name, tiny_corpus, tmp_path):
    sources = ["model.modalities=[audio]", *corpus_sources(tiny_corpus), f"data.cache={tiny_corpus / 'cache'}"]
    check_prediction(*train_briefly(name, (), sources, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "overrides"), list(cases()))
def test_every_system_trains_on_the_synthetic_corpus(name, overrides, tiny_corpus, measured_faces, tmp_path):
    if "features" in str(overrides):
        pytest.skip("the synthetic corpus comes without a table of action units")
    sources = [*corpus_sources(tiny_corpus), *MEASURED, f"data.cache={measured_faces}"]
    check_prediction(*train_briefly(name, overrides, sources, tmp_path))


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "overrides"), [case for case in cases() if SYSTEMS[case.values[0]].reads != ("audio",)]
)
def test_every_system_that_sees_trains_on_cremad(name, overrides, cremad, tmp_path):
    if "features" in str(overrides):
        pytest.skip("CREMA-D comes without a table of action units")
    split = tmp_path / "split.csv"
    parts = dict(zip(("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"), ("train",) * 4 + ("val", "test"), strict=True))
    split.write_text("clip_id,split\n" + "".join(f"1001_DFA_{e}_XX,{part}\n" for e, part in parts.items()))
    sources = ["cremad", f"data.manifest={cremad / 'six.csv'}", f"data.cache={cremad / 'cache'}", *MEASURED]
    sources += ["data.protocol=split_file", f"data.split_file={split}", "data.allow_shared_speakers=true"]
    check_prediction(*train_briefly(name, overrides, sources, tmp_path))


def check_prediction(model, prediction):
    assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-4)
    for modality in model.modalities:
        curve = prediction.salience[modality]
        assert curve.values.sum() == pytest.approx(1, abs=1e-4)
        assert prediction.regions[modality] or len(curve) < 4 or any("degenerate" in w for w in prediction.warnings)


MEASURED = ["media.fps=10", "media.crop_px=48", "media.faces.tracker=mediapipe", "media.faces.every=1"]


def corpus_sources(corpus):
    return [
        *("media.fps=10", "media.crop_px=32", "media.faces.tracker=center", f"data.manifest={corpus / 'manifest.csv'}"),
        *("data.emotions=[anger,disgust,fear,happiness,sadness,surprise]", "data.test_share=0.34"),
        "training.batch_size=8",
    ]


@pytest.fixture(scope="session")
def measured_faces(tiny_corpus, real_data, tmp_path_factory):
    """Cache of the tiny corpus with landmarks and blendshapes of every frame."""
    return cache_measured(tiny_corpus / "manifest.csv", real_data, tmp_path_factory.mktemp("measured"))


@pytest.fixture(scope="session")
def cremad(real_data, run_module, tmp_path_factory):
    """Folder with the manifest of the six clips that have sound and picture, and their cache."""
    folder = tmp_path_factory.mktemp("cremad")
    run_module("preprocessing.cremad", "--raw", real_data / "cremad", "--out", folder / "cremad.csv", cwd=folder)
    rows = (folder / "cremad.csv").read_text().splitlines()
    (folder / "six.csv").write_text("\n".join([rows[0], *(row for row in rows if row.startswith("1001_"))]) + "\n")
    cache_measured(folder / "six.csv", real_data, folder / "cache")
    return folder


def cache_measured(manifest, real_data, folder):
    from avser.data.cache import build_cache
    from avser.data.manifest import read_manifest

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVSER_MODELS", str(real_data / "models"))
        report = build_cache(read_manifest(manifest), folder, load_config(MEASURED).media, progress=False)
    assert not report.failures
    return folder


SCALED = sorted(name for name, system in SYSTEMS.items() if "normalize" in inspect.signature(system).parameters)


@pytest.mark.parametrize("name", SCALED)
def test_descriptors_come_to_the_scale_that_is_asked_for(name):
    batch, seen = speaking_faces((1.0, 0.8), extra_s=0.3), {}
    for normalize in ("utterance", "minmax_train"):
        model = build(name, ["model.modalities=[audio]", f"model.options.normalize={normalize}"])
        (scale,) = [part for path, part in model.named_modules() if path.endswith("statistics")]
        with torch.no_grad():
            model.prepare([batch])
            scale.register_forward_hook(partial(note, seen, normalize))
            model(batch)
    for clip, mask in zip(*seen["utterance"], strict=True):
        rows = clip[mask]
        moves = rows.std(dim=0) > 0
        assert moves.sum() > 5
        torch.testing.assert_close(rows.mean(dim=0), torch.zeros(rows.shape[1]), atol=1e-3, rtol=0)
        torch.testing.assert_close(rows.std(dim=0, correction=0), moves.float(), atol=1e-3, rtol=0)
    x, mask = seen["minmax_train"]
    torch.testing.assert_close(x[mask].amin(dim=0), torch.zeros(x.shape[2]), atol=1e-5, rtol=0)
    assert ((x[mask].amax(dim=0) - 1).abs() < 1e-4).sum() > 5
    assert x[mask].max() < 1 + 1e-4


def note(seen, key, scale, given, x):
    seen[key] = (x, given[1])


def test_the_systems_that_read_descriptors_let_their_scale_be_chosen():
    assert SCALED == ["attentive_cnn", "blstm_rv_elm", "byun_feat_rnn", "dnn_elm", "pcrn", "roi_att_lstm", "roi_lstm"]
