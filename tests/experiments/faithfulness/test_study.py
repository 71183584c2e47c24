"""Models that read a known stretch: the truth beats every control, its reverse does not; and the checks around it."""

import copy
import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from avser.data.manifest import ClipRow
from avser.errors import ConfigError
from avser.experiments.faithfulness.clips import Measured, choose_rows, measure_clips, permuted_name
from avser.experiments.faithfulness.folds import FoldRuns, sort_folds
from avser.experiments.faithfulness.results import BETTER, MAIN
from avser.experiments.faithfulness.study import speaker_means, study_faithfulness, summarise
from avser.experiments.faithfulness.tables import (
    faithfulness_figures,
    faithfulness_markdown,
    faithfulness_rows,
    faithfulness_tables,
)
from avser.experiments.held_out import load_test_clips
from avser.inference import load_models
from avser.models.system import System
from avser.roi.report.sentences import faithfulness_warnings
from avser.roi.report.tables import format_p
from avser.roi.salience.sources import SOURCES
from avser.roi.trust.controls import CONTROLS
from avser.roi.trust.faithfulness import Faithfulness
from avser.roi.trust.sanity_checks import randomised
from avser.structures import Attended, Batch, Curve, Output

RATE = 2000
NUM_SPEAKERS = 8


class MarkReader(System):
    """Hears nothing but how long the voice stands at 0.3: 0.1 s of it are emotion 1 for sure, none is emotion 0."""

    def forward(self, batch: Batch) -> Output:
        marked = ((batch.waveform - 0.3).abs() < 1e-6).sum(dim=1) / RATE
        return Output(torch.stack([torch.zeros_like(marked), 60 * marked - 3], dim=1), {})


class TinyAttention(System):
    """Attention by a linear score of 64 face features, under a linear head."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.score, self.head = nn.Linear(64, 1), nn.Linear(64, 3)
        generator = torch.Generator().manual_seed(seed)
        for weights in self.parameters():
            weights.data = 0.3 * torch.randn(weights.shape, generator=generator)

    def forward(self, batch: Batch) -> Output:
        x, mask = batch.face_features, batch.feature_mask
        scores = self.score(x)[..., 0].masked_fill(~mask, -1e4)
        weights, steps = scores.softmax(dim=1), self.head(x)
        logits = (weights[..., None] * steps).sum(dim=1)
        pooled = (weights[..., None] * x).sum(dim=1)
        return Output(logits, {"video": Attended(x, weights, steps, batch.feature_times, mask, pooled, logits)})


def voices(generator: np.random.Generator) -> tuple[list[Batch], dict[str, float]]:
    """Hiss with a stretch of 0.3 (0.1 s) and a louder burst elsewhere; and where the stretches begin, in seconds."""
    batches, starts = [], {}
    for b in range(2):
        x = 0.01 * generator.standard_normal((4, RATE))
        for i, row in enumerate(x):
            start, burst = generator.permutation([0.04, 0.24, 0.64, 0.84])[:2]
            row[round(burst * RATE) :][: round(0.1 * RATE)] = 0.6 * generator.choice([-1, 1], round(0.1 * RATE))
            row[round(start * RATE) :][: round(0.1 * RATE)] = 0.3
            starts[f"clip{b}{i}"] = start
        waveform = torch.from_numpy(x).float()
        names = [f"clip{b}{i}" for i in range(4)]
        batches.append(Batch(names, waveform, torch.ones_like(waveform, dtype=torch.bool), RATE))
    return batches, starts


@pytest.fixture(scope="module")
def measured() -> Measured:
    batches, starts = voices(np.random.default_rng(0))

    def truth(model, batch, modality, emotions, sign=1.0):
        assert emotions == [1] * len(batch)
        times = np.arange(100) * 0.01 + 0.005
        inside = [(times > starts[c]) & (times < starts[c] + 0.1) for c in batch.clip_ids]
        return [Curve(times, sign * row) for row in inside]

    def flat(model, batch, modality, emotions):
        return [Curve(np.arange(4) * 0.25, np.ones(4)) for _ in emotions]

    sources = {"truth": truth, "reverse": lambda *args: truth(*args, sign=-1.0), "flat": flat}
    return measure_clips(
        MarkReader().eval(), batches, "audio", sources, operators=["mean", "excise"], num_draws=2, shares=[]
    )


@pytest.fixture(scope="module")
def study(measured):
    return summarise(measured, [f"s{i}" for i in range(8)], "audio", runs=["a model"], num_resamples=20)


def test_the_true_stretch_beats_every_control_and_its_reverse_none(study):
    assert study.num_speakers == NUM_SPEAKERS
    assert study.operators == ["mean", "excise"]
    assert study.verdicts["truth"].beats_controls
    assert study.verdicts["truth"].not_beaten == []
    assert not study.verdicts["reverse"].beats_controls
    assert study.verdicts["reverse"].not_beaten == list(CONTROLS)
    for contrast in study.contrasts:
        sign = {"truth": 1, "reverse": -1}.get(contrast.source, 0)
        if sign:
            better = 1 if BETTER[contrast.measure] == "greater" else -1
            assert sign * better * contrast.difference.value > 0, contrast
            assert (contrast.p_value < 0.05) == (sign > 0)


def test_the_first_sentences_are_the_verdicts(study):
    first, second, third = study.sentences()[:3]
    assert first.startswith(
        "The truth of this model is more faithful than moments at random, a stretch at random, loud"
    )
    assert second.startswith("The reverse of this model is not more faithful than moments at random, ")
    assert ", the middle of the clip or moments spread evenly: do not read its regions as causes" in second
    assert third.startswith(
        "The flat of this model says nothing about when, in any of 8 clips of 8 speakers, e.g. because all"
    )


def test_numbers_of_the_known_model(study):
    """Of 50 cells 5 hold the stretch. Without it the odds fall from e^3 to e^-3."""
    p = 1 / (1 + np.exp(-np.array([3.0, -3.0])))
    score = next(s for s in study.scores if s.name == "truth" and s.operator == "excise")
    for share in (0.1, 0.2, 0.5):
        assert score.by_fraction[share][0] == pytest.approx(p[0] - p[1], abs=1e-3)
        assert score.by_fraction[share][1] == pytest.approx(0, abs=0.02)  # the joints of cut voices cost a little
    reverse = next(s for s in study.scores if s.name == "reverse" and s.operator == "excise")
    assert reverse.by_fraction[0.5] == pytest.approx((0, p[0] - p[1]), abs=0.02)


def test_flat_curves_are_counted_and_told(study):
    assert list(study.degenerate["flat"]) == [f"clip{b}{i}" for b in range(2) for i in range(4)]
    assert study.degenerate["truth"] == {}
    assert study.verdicts["flat"].is_degenerate
    assert not study.verdicts["truth"].is_degenerate
    assert not any("is degenerate in" in sentence for sentence in study.sentences())


def test_a_flat_curve_is_worth_as_much_as_moments_at_random(study):
    values = {s.name: s.measures[MAIN].value for s in study.scores if s.operator == "excise"}
    assert values["flat"] == pytest.approx(values["random"], abs=0.1)
    assert "random" in study.verdicts["flat"].not_beaten


def test_few_speakers_cannot_tell(measured):
    study = summarise(measured, [f"s{i % 6}" for i in range(8)], "audio", num_resamples=20)
    verdict = study.verdicts["truth"]  # 5 controls and 6 speakers: 5 / 64 is above 0.05
    assert not verdict.beats_controls
    assert not verdict.can_tell
    assert "too few speakers" in study.sentences()[0]
    assert summarise(measured, [f"s{i % 7}" for i in range(8)], "audio", num_resamples=20).verdicts["truth"].can_tell


def scores(comprehensiveness: np.ndarray) -> Faithfulness:
    of_shares, zeros = np.repeat(comprehensiveness[:, None], 5, axis=1), np.zeros(len(comprehensiveness))
    course = np.zeros((len(zeros), 3))
    return Faithfulness(of_shares, np.zeros_like(of_shares), zeros, zeros, course, course, course)


def made(by_operator: dict[str, dict[str, np.ndarray]], sources=("a",)) -> Measured:
    parts = {op: {name: scores(v) for name, v in by_name.items()} for op, by_name in by_operator.items()}
    count = len(next(iter(next(iter(by_operator.values())).values())))
    return Measured([f"c{i}" for i in range(count)], parts, {}, {}, {source: [None] * count for source in sources})


def test_one_operator_is_not_enough():
    better, worse = {"a": np.ones(10), "random": np.zeros(10)}, {"a": np.zeros(10), "random": np.ones(10)}
    speakers = [f"s{i}" for i in range(10)]
    assert summarise(made({"x": better, "y": better}), speakers, "audio", num_resamples=20).verdicts["a"].beats_controls
    verdict = summarise(made({"x": better, "y": worse}), speakers, "audio", num_resamples=20).verdicts["a"]
    assert not verdict.beats_controls
    assert verdict.not_beaten == ["random"]


def test_speakers_count_alike_and_holm_is_over_controls():
    speakers = ["a"] * 6 + ["b", "c", "d", "e", "f"]
    ours = np.array([0.6] * 6 + [0.1] * 5)
    by_name = {"a": ours, "random": np.zeros(11), "loudness": ours - np.array([0.3] * 6 + [-0.1] * 5)}
    study = summarise(made({"x": by_name, "y": by_name}), speakers, "audio", num_resamples=20)
    first, second = (c for c in study.contrasts if c.operator == "x" and c.measure == MAIN)
    assert first.difference.value == pytest.approx((0.6 + 5 * 0.1) / 6)
    assert first.p_value == pytest.approx(1 / 64)
    assert first.holm_p == pytest.approx(2 / 64)
    assert second.difference.value == pytest.approx((0.3 - 0.5) / 6)
    assert second.holm_p == second.p_value > 0.5
    means, names = speaker_means(ours, speakers)
    assert names == list("abcdef")
    np.testing.assert_allclose(means, [0.6, 0.1, 0.1, 0.1, 0.1, 0.1])


def test_a_model_of_permuted_labels_is_a_control_of_its_own_salience_alone():
    by_name = {"a": np.ones(10), "b": np.ones(10), "random": np.zeros(10)}
    by_name |= {permuted_name("a"): np.ones(10), permuted_name("b"): np.zeros(10)}
    study = summarise(
        made({"x": by_name, "y": by_name}, ("a", "b")), [f"s{i}" for i in range(10)], "audio", num_resamples=20
    )
    assert study.verdicts["a"].not_beaten == ["permuted labels"]
    assert study.verdicts["b"].beats_controls
    assert {c.control for c in study.contrasts} == {"random", "permuted labels"}
    assert "not more faithful than the same of a model of permuted labels" in study.sentences()[0]


# --- does it depend on what was learned? --------------------------------------------------------------------------


def faces(num_clips: int = 12) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(num_clips, 30, 64, generator=generator)
    times = (torch.arange(30)[None] * 0.04).expand(num_clips, -1)
    mask = torch.ones(num_clips, 30, dtype=torch.bool)
    names = [f"c{i}" for i in range(num_clips)]
    whole = Batch(names, face_features=x, feature_times=times, feature_mask=mask)
    return [
        dataclasses.replace(
            whole,
            clip_ids=names[i : i + 6],
            **{f: getattr(whole, f)[i : i + 6] for f in ("face_features", "feature_times", "feature_mask")},
        )
        for i in range(0, num_clips, 6)
    ]


def input_energy(model, batch, modality, emotions):
    energy = batch.face_features.double().square().sum(dim=2)
    return [Curve(t.double().numpy(), x.numpy()) for t, x in zip(batch.feature_times, energy, strict=True)]


@pytest.fixture(scope="module")
def checked():
    sources = {"attention": SOURCES["attention"].compute, "energy": input_energy}
    measured = measure_clips(
        TinyAttention(0).eval(),
        faces(),
        "video",
        sources,
        operators=["freeze", "mean"],
        seeds=[TinyAttention(0).eval(), TinyAttention(1).eval()],
        permuted=TinyAttention(2).eval(),
        fractions=[0.2, 0.5],
        num_draws=2,
        shares=[0.5, 1.0],
    )
    return measured, summarise(
        measured,
        [f"s{i}" for i in range(12)],
        "video",
        fractions=[0.2, 0.5],
        num_models=3,
        num_resamples=20,
    )


def test_a_salience_that_ignores_the_model_is_found_out(checked):
    found = {(c.source, c.share): c for c in checked[1].weight_checks}
    assert found["energy", 1.0].spearman == pytest.approx(1)
    assert found["energy", 1.0].kendall == pytest.approx(1)
    assert abs(found["attention", 1.0].spearman) < 0.4
    assert found["attention", 0.5].spearman == pytest.approx(1)  # the head alone: attention does not pass through it
    assert found["attention", 1.0].num_clips == 12
    sentences = checked[1].sentences()
    assert any(s.startswith("The energy hardly changes when all weights are drawn anew") for s in sentences)
    assert any(s.startswith("The attention changes when all weights") for s in sentences)


def test_seeds_that_disagree_are_told(checked):
    measured, study = checked
    found = {c.source: c for c in study.seed_checks}
    assert found["energy"].tau.value == pytest.approx(1)
    # Of the three pairs of models one is the same twice (tau 1), and the other two are the same pair.
    assert found["attention"].tau.value < 0.6
    pair = 3 * measured.seed_agreement["attention"].mean() - 1
    assert abs(pair / 2) < 0.25
    assert found["attention"].num_models == 3


def test_the_permuted_model_is_measured_on_the_first_one(checked):
    measured, study = checked
    own, other = (measured.scores["mean"][n].measures()[MAIN] for n in ("attention", permuted_name("attention")))
    assert np.abs(own - other).max() > 1e-3
    np.testing.assert_allclose(
        measured.scores["mean"]["energy"].deletion_auc, measured.scores["mean"][permuted_name("energy")].deletion_auc
    )
    assert {c.control for c in study.contrasts if c.source == "attention"} == {*CONTROLS, "permuted labels"}


def test_seeds_below_the_limit_are_not_to_be_interpreted():
    measured = made({op: {"a": np.ones(8), "random": np.zeros(8)} for op in "xy"})
    for tau, expected in ((0.29, "do not agree on the a (Kendall's tau 0.29"), (0.31, "alone agree on the a")):
        measured.seed_agreement = {"a": np.array([tau] * 7 + [np.nan])}
        study = summarise(measured, [f"s{i}" for i in range(8)], "audio", num_models=2, num_resamples=20)
        assert study.seed_checks[0].num_clips == 7
        assert expected in study.sentences()[-1]


# --- clips, tables, the door --------------------------------------------------------------------------------------


def test_clips_are_spread_over_speakers_and_emotions():
    rows = [
        ClipRow(f"{speaker}{emotion}{take}", "c", speaker, emotion)
        for speaker in "abcd"
        for emotion in ("anger", "fear", "joy")
        for take in range(20 if speaker == "a" else 3)
    ]
    chosen = choose_rows(rows, 14, seed=0)
    assert len({row.clip_id for row in chosen}) == 14
    assert [row.clip_id for row in chosen] == [row.clip_id for row in rows if row in chosen]
    assert sorted(Counter(row.speaker for row in chosen).values()) == [3, 3, 4, 4]
    assert sorted(Counter(row.emotion for row in chosen).values()) == [4, 5, 5]
    for speaker in "abcd":
        assert len({row.emotion for row in chosen if row.speaker == speaker}) == 3
    assert chosen == choose_rows(rows, 14, seed=0) != choose_rows(rows, 14, seed=1)
    assert choose_rows(rows, 1000) == rows


def test_tables_and_json_say_the_same(checked, tmp_path):
    study = checked[1]
    values, contrasts, areas, comp, suff, sanity = faithfulness_tables(study)
    assert [row[0] for row in values.rows[:3]] == ["attention", "energy", "(moments at random)"]
    assert len(values.rows) == 2 * (2 + len(CONTROLS) + 2)
    assert "(motion)" in [row[0] for row in values.rows]
    assert len(contrasts.rows) == len(areas.rows) == 2 * 2 * (len(CONTROLS) + 1)
    first = study.contrasts[0]
    assert contrasts.rows[0][3:5] == [first.difference, format_p(first.holm_p)]
    assert comp.columns == suff.columns == ["", "replaced by", "20 %", "50 %"]
    assert np.mean(comp.rows[0][2:]) == pytest.approx(values.rows[0][2].value)
    assert np.mean(suff.rows[0][2:]) == pytest.approx(values.rows[0][3].value)
    assert sanity.rows[1][:2] == ["energy", "0 of 12"]
    assert sanity.rows[1][2:6] == pytest.approx([1, 1, 1, 1])
    page = faithfulness_markdown(study, "this command")
    assert page.splitlines()[2] == study.sentences()[0]
    assert "`this command`" in page
    plain = json.loads(json.dumps(study.to_dict()))
    assert plain["sentences"] == study.sentences()
    assert plain["contrasts"][0]["difference"]["value"] == first.difference.value


@pytest.fixture(scope="module")
def voice(tiny_ablation):
    model = load_models(tiny_ablation, "cpu")["audio"]
    return model, load_test_clips({"audio": model})


SMALL = {"fractions": (0.1, 0.5), "num_draws": 1, "shares": (1.0,), "num_resamples": 20}


def other_run(model, /, *, seed=1, anew=1, **changed):
    """A run that was trained alike: other weights, a folder and a seed of its own."""
    config = dataclasses.replace(copy.deepcopy(model.config), name=f"seed{seed}", seed=seed, **changed)
    network = randomised(model.network, seed=anew).eval()
    return dataclasses.replace(model, network=network, config=config, folder=Path(f"seed{seed}"))


def part(clips, *speakers):
    return dataclasses.replace(clips, rows=[row for row in clips.rows if row.speaker in speakers])


def test_on_a_trained_run(voice):
    model, clips = voice
    study = study_faithfulness(
        [FoldRuns([model, model], clips)], "audio", ["attention", "att_value"], max_clips=3, batch_size=2, **SMALL
    )
    assert (study.num_clips, study.num_speakers) == (3, len({row.speaker for row in clips.rows}))
    assert study.seed_checks[0].tau.value == pytest.approx(1)
    assert study.fractions == [0.1, 0.5]
    assert len(study.scores) == 2 * (2 + len(CONTROLS))
    with pytest.raises(ConfigError, match="two at least"):
        study_faithfulness([FoldRuns([model], clips)], "audio", operators=["mean", "mean"])
    with pytest.raises(ConfigError, match="gradcam"):
        study_faithfulness([FoldRuns([model], clips)], "audio", ["gradcam"])
    with pytest.raises(ConfigError, match="reads audio, not video"):
        study_faithfulness([FoldRuns([model], clips)], "video")


def test_each_clip_is_asked_of_the_models_of_its_own_fold(voice):
    model, clips = voice
    one, two = (part(clips, speaker) for speaker in dict.fromkeys(row.speaker for row in clips.rows))
    other, seed = other_run(model, seed=0), other_run(model, seed=1, anew=2)
    folds = [FoldRuns([model], one), FoldRuns([other, seed], two)]
    found = study_faithfulness(folds, "audio", **SMALL)
    alone = [
        study_faithfulness([FoldRuns([m], c)], "audio", **SMALL) for m, c in ((model, one), (other, two), (seed, two))
    ]
    assert found.num_clips == len(clips.rows)
    assert found.num_speakers == 2
    assert found.runs == [str(m.folder) for m in (model, other, seed)]
    for i, score in enumerate(found.scores):
        first, second, third = (study.scores[i].measures[MAIN].value for study in alone)
        assert score.measures[MAIN].value == pytest.approx((first + (second + third) / 2) / 2)
    (check,) = found.seed_checks
    assert (check.num_models, check.num_clips) == (2, len(two.rows))
    assert -1 <= check.tau.value < 0.9
    assert any(f"between 2 models of one fold, {len(two.rows)} clips" in sentence for sentence in found.sentences())
    assert "of these 3 models" in found.sentences()[0]
    assert "3 runs" in faithfulness_markdown(found).splitlines()[0]


def test_runs_are_sorted_by_their_test_clips(voice):
    model, clips = voice
    one, two = (part(clips, speaker) for speaker in dict.fromkeys(row.speaker for row in clips.rows))
    seed = other_run(model)
    folds = sort_folds([(model, one), (model, two), (seed, one)], permuted=[(seed, two), (seed, one)])
    assert [fold.models for fold in folds] == [[model, seed], [model]]
    assert [fold.clips for fold in folds] == [one, two]
    assert all(fold.permuted is seed for fold in folds)
    longer = dataclasses.replace(seed.config.training, epochs=99)
    with pytest.raises(ConfigError, match=r"share 6 of their test clips, but not all"):
        sort_folds([(model, one), (seed, clips)])
    with pytest.raises(ConfigError, match="the same training twice"):
        sort_folds([(model, one), (model, one)])
    with pytest.raises(ConfigError, match="differ in `training`: they are no seeds"):
        sort_folds([(model, one), (other_run(model, training=longer), one)])
    elsewhere = dataclasses.replace(model.config.model, modalities=["audio", "video"])
    with pytest.raises(ConfigError, match="give runs of one system"):
        sort_folds([(model, one), (other_run(model, seed=0, model=elsewhere), two)])
    with pytest.raises(ConfigError, match="one for each fold, or none"):
        sort_folds([(model, one), (model, two)], permuted=[(seed, two)])
    with pytest.raises(ConfigError, match="no run, or a second one"):
        sort_folds([(model, one)], permuted=[(seed, two)])


def test_figures_show_saliences_over_their_controls(checked):
    study = checked[1]
    figures = faithfulness_figures(study)
    assert list(figures) == ["freeze", "mean"]
    removed, alone = figures["mean"].axes
    lines = {line.get_label(): line for line in removed.get_lines()}
    assert {"attention", "energy", "motion", "moments at random"} <= set(lines)
    score = next(s for s in study.scores if s.name == "energy" and s.operator == "mean")
    np.testing.assert_allclose(lines["energy"].get_xdata(), 100 * np.array(score.course.shares))
    np.testing.assert_allclose(lines["energy"].get_ydata(), score.course.without)
    shown = next(line for line in alone.get_lines() if line.get_label() == "energy")
    np.testing.assert_allclose(shown.get_ydata(), score.course.alone)
    assert score.course.without[0] == pytest.approx(score.course.alone[-1])  # both are the clip itself
    assert score.course.without[0] - score.course.without[-1] == pytest.approx(
        score.course.alone[-1] - score.course.alone[0]
    )


def one_step_each() -> list[Batch]:
    whole = faces(8)
    return [
        dataclasses.replace(
            batch,
            face_features=batch.face_features[:, 15:16],
            feature_times=batch.feature_times[:, 15:16],
            feature_mask=batch.feature_mask[:, 15:16],
        )
        for batch in whole
    ]


@pytest.mark.parametrize("operator_pair", [("freeze", "mean"), ("silence", "excise")])
def test_a_face_of_one_step_is_degenerate_for_every_salience(operator_pair):
    """Also for one that a wrong model of time would give a peak: a whole curve over a clip of a single moment."""

    def peak(model, batch, modality, emotions):
        return [Curve(np.arange(20) * 0.05, np.exp(-((np.arange(20) - 9.0) ** 2))) for _ in emotions]

    sources = {"attention": SOURCES["attention"].compute, "occlusion": SOURCES["occlusion"].compute, "peak": peak}
    measured = measure_clips(
        TinyAttention(0).eval(), one_step_each(), "video", sources, operators=operator_pair, num_draws=1, shares=[]
    )
    study = summarise(measured, [f"s{i}" for i in range(8)], "video", num_resamples=20)
    for source, verdict in study.verdicts.items():
        assert verdict.is_degenerate
        assert not verdict.beats_controls
        assert len(study.degenerate[source]) == 8
    first, _, third = study.sentences()[:3]
    assert "says nothing about when, in any of 8 clips of 8 speakers, e.g. because there is only 1 step" in first
    assert "the clip has only 1 moment" in third
    rows = faithfulness_rows(study)
    assert {row.verdict for row in rows} == {"says nothing about when"}
    assert faithfulness_warnings(rows)[0] == "The face salience (attention) says nothing about when."
