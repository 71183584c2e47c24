"""Regions of many clips: from the right model, compared and scored where the truth is known, written as tables."""

import csv
import math

import numpy as np
import pytest

from avser.data.cache import ClipCache
from avser.data.manifest import read_manifest
from avser.experiments.regions.study import BEST_CORRELATION, BOXES, STRONGEST_REGIONS, study_regions, write_tables
from avser.inference import load_models, predict
from avser.roi.alignment.box_lag import box_lag_s
from avser.roi.alignment.compare import centre_prior, measure_alignment, region_lag_s
from avser.roi.intervals import smooth_curve
from avser.roi.localization import frame_auroc
from avser.structures import AUDIO, FUSED, MODALITIES, VIDEO, Curve


@pytest.fixture(scope="module")
def models(tiny_ablation):
    return load_models(tiny_ablation, "cpu")


@pytest.fixture(scope="module")
def corpus(tiny_corpus):
    """(row, clip) of two speakers, and the planted regions of all clips."""
    manifest = read_manifest(tiny_corpus / "manifest.csv")
    cache = ClipCache(tiny_corpus / "cache")
    rows = [row for row in manifest.rows if row.speaker in ("s01", "s02")]
    return [(row, cache.load(row.clip_id)) for row in rows], manifest.regions


@pytest.fixture(scope="module")
def study(models, corpus):
    return study_regions(models, corpus[0], corpus[1], batch_size=5, num_permutations=99)


def test_curves_come_from_the_models_of_one_modality(study, models, corpus):
    assert study.sources == {AUDIO: AUDIO, VIDEO: VIDEO}
    row, clip = corpus[0][7]
    for modality in MODALITIES:
        own = predict(models[modality], clip)
        np.testing.assert_allclose(
            study.salience[modality][row.clip_id].values, own.salience[modality].values, rtol=0.05
        )
    verdict = predict(models[FUSED], clip)
    assert study.predictions[row.clip_id].probabilities == pytest.approx(verdict.probabilities, abs=5e-3)


def test_a_single_fused_run_gives_both_curves(models, corpus):
    study = study_regions({FUSED: models[FUSED]}, corpus[0][:2], {})
    assert study.sources == {AUDIO: FUSED, VIDEO: FUSED}
    assert study.localization == {}
    assert study.lags == {}
    assert len(study.alignment.clips) == 2


def test_a_voice_only_run_has_no_alignment(models, corpus, tmp_path):
    study = study_regions({AUDIO: models[AUDIO]}, corpus[0][:3], corpus[1])
    assert list(study.regions) == [AUDIO]
    assert study.alignment is None
    assert list(study.localization) == [AUDIO]
    write_tables(study, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["regions.csv"]


def test_every_clip_is_found_compared_and_scored(study, models, corpus):
    pairs, truth = corpus
    clip_ids = [row.clip_id for row, _ in pairs]
    assert list(study.rows) == list(study.predictions) == list(study.alignment.clips) == clip_ids
    some = clip_ids[3]
    curves = study.salience[AUDIO][some], study.salience[VIDEO][some]
    controls = [centre_prior(*curves), study.loudness[some]]
    assert study.alignment.clips[some] == measure_alignment(*curves, controls=controls)
    planted = truth[some]
    assert study.planted_lag_s[some] == pytest.approx(planted[AUDIO][0].centre_s - planted[VIDEO][0].centre_s)
    found = {m: study.regions[m][some] for m in MODALITIES}
    between = region_lag_s(found[AUDIO], found[VIDEO])
    assert study.recovered_lag_s[STRONGEST_REGIONS][some] == pytest.approx(between, nan_ok=True)
    assert study.recovered_lag_s[BEST_CORRELATION][some] == study.alignment.clips[some].lag_s
    smooth_s = models[FUSED].config.roi.smooth_s
    assert study.recovered_lag_s[BOXES][some] == pytest.approx(box_lag_s(*curves, smooth_s=smooth_s), nan_ok=True)
    for modality in MODALITIES:
        assert study.localization[modality].num_clips == len(clip_ids)
        assert 0 <= study.localization[modality].auroc.value <= 1
    assert set(study.lags) == set(study.recovered_lag_s) == {BEST_CORRELATION, STRONGEST_REGIONS, BOXES}
    assert all(scores.num_clips + scores.num_left_out == len(clip_ids) for scores in study.lags.values())


def test_another_salience_gives_other_curves(study, models, corpus):
    other = study_regions(models, corpus[0][:2], {}, salience="att_value", num_permutations=9)
    assert other.salience_source == "att_value"
    for clip_id, curve in other.salience[AUDIO].items():
        assert len(curve) == len(study.salience[AUDIO][clip_id])
        assert not np.allclose(curve.values, study.salience[AUDIO][clip_id].values)


def test_a_clip_without_a_face_is_answered_and_left_out_of_the_comparison(models, corpus, tiny_corpus):
    pairs = [(row, ClipCache(tiny_corpus / "cache").load(row.clip_id)) for row, _ in corpus[0][:3]]
    pairs[1][1].face = None
    study = study_regions(models, pairs, corpus[1])
    lost = pairs[1][0].clip_id
    assert lost in study.predictions
    assert lost in study.regions[AUDIO]
    assert lost not in study.regions[VIDEO]
    assert lost not in study.alignment.clips


def test_the_tables_hold_what_was_found(study, tmp_path):
    write_tables(study, tmp_path / "new")
    with (tmp_path / "new" / "regions.csv").open() as file:
        regions = list(csv.DictReader(file))
    assert len(regions) == sum(len(found) for by_clip in study.regions.values() for found in by_clip.values()) > 0
    for row in regions:
        assert float(row["start_s"]) <= float(row["peak_s"]) <= float(row["end_s"])
    with (tmp_path / "new" / "alignment.csv").open() as file:
        alignment = list(csv.DictReader(file))
    assert [row["clip_id"] for row in alignment] == list(study.alignment.clips)
    first = study.alignment.clips[alignment[0]["clip_id"]]
    assert float(alignment[0]["r0"]) == pytest.approx(first.r0, abs=1e-4)
    assert alignment[0]["speaker"] == "s01"
    assert alignment[0]["predicted"] in {"anger", "disgust", "fear", "happiness", "sadness", "surprise"}
    assert not any(math.isinf(float(value)) for row in alignment for value in list(row.values())[4:] if value)


def test_of_a_signed_salience_the_part_above_zero_is_scored(models, corpus):
    pairs, truth = corpus
    study = study_regions(models, pairs, truth, salience="grad_input", num_permutations=9)
    aurocs = []
    for clip_id, curve in study.salience[AUDIO].items():
        positive = Curve(curve.times, np.maximum(curve.values, 0))
        aurocs.append(frame_auroc(smooth_curve(positive, models[AUDIO].config.roi.smooth_s), truth[clip_id][AUDIO]))
    assert min(curve.values.min() for curve in study.salience[AUDIO].values()) < 0
    assert study.localization[AUDIO].auroc.value == pytest.approx(np.mean(aurocs))
