"""The card says what the run measured, on whom and under which terms, and what the model is not for."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from avser.data.manifest import read_manifest, write_manifest
from avser.errors import CheckpointError
from avser.experiments.runs.result import read_run
from avser.sharing.card import build_card
from avser.sharing.facts import nameless_notes, read_facts
from avser.sharing.licences import LICENCES, licence_of
from avser.training.checkpoint import MODEL_FILE, load_trained, save_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def facts(tiny_ablation):
    return read_facts(tiny_ablation / "fused")


def card_of(facts, **options) -> ModelCard:
    return ModelCard(str(build_card(facts, "lab/tiny", **options)))  # as the hub reads it


def test_the_head_is_what_the_hub_reads(facts):
    data = card_of(facts, licence="cc-by-nc-sa-4.0").data
    assert (data.license, data.library_name, data.pipeline_tag) == ("cc-by-nc-sa-4.0", "avser", "video-classification")
    assert {"emotion-recognition", "voice-emotion", "face-emotion", "av_roi"} <= set(data.tags)
    values = {result.metric_type: result.metric_value for result in data.eval_results}
    test = facts.metrics["test"]
    assert values == {"recall": round(test["uar"]["value"], 2), "accuracy": round(test["wa"]["value"], 2)}
    assert data.eval_results[0].dataset_type == "synthetic"
    assert card_of(facts).data.to_dict()["license_name"] == "no-licence-given"


def test_numbers_stand_with_their_intervals_and_their_protocol(facts):
    text = card_of(facts).text
    uar = facts.metrics["test"]["uar"]
    assert f"| UAR, % | {uar['value']:.1f} [{uar['low']:.1f}, {uar['high']:.1f}] |" in text
    assert facts.metrics["protocol"] in text
    assert facts.metrics["split_fingerprint"] in text
    assert "The speakers of the test are new to the model" in text
    assert "calibration error" in text
    for emotion in facts.emotions:
        assert f"| {emotion} |" in text


def test_a_test_on_known_speakers_is_called_one(facts):
    verdict = {**facts.metrics["verdict"], "speakers_disjoint": False}
    told = card_of(replace(facts, metrics={**facts.metrics, "verdict": verdict})).text
    assert "speakers disjoint: no;" in told
    assert ". **This was no strict test**." in told


def test_groups_are_scored_and_people_are_not_named(facts, tiny_corpus):
    text = card_of(facts).text
    rows = read_manifest(tiny_corpus / "manifest.csv").rows
    tested = {row.sex for row in rows if row.clip_id in read_run(facts.folder, needs_timing=False).test.clip_ids}
    assert ("### By sex" in text) == (len(tested) > 1)
    assert "By speaker" not in text
    lowest, highest = facts.speaker_uars[0], facts.speaker_uars[-1]
    assert f"between {lowest:.1f} and {highest:.1f} %" in text


def test_groups_of_the_manifest_become_slices(tiny_ablation, tiny_corpus, tmp_path):
    rows = read_manifest(tiny_corpus / "manifest.csv").rows
    marked = [replace(row, intensity="strong" if i % 2 else "normal", session=f"s{i}") for i, row in enumerate(rows)]
    write_manifest(marked, tmp_path / "manifest.csv")
    facts = read_facts(tiny_ablation / "fused", manifest=tmp_path / "manifest.csv")
    found = {each.column: each for each in facts.slices}
    assert "intensity" in found
    assert {"speaker", "session"}.isdisjoint(found)
    assert "### By intensity" in card_of(facts).text


def test_without_its_manifest_the_card_says_what_it_does_not_know(tiny_ablation, tmp_path):
    shutil.copytree(tiny_ablation / "fused", tmp_path / "run")
    model, config, emotions = load_trained(tmp_path / "run" / MODEL_FILE)
    config.data.manifest = str(tmp_path / "gone.csv")
    save_model(tmp_path / "run" / MODEL_FILE, model, config, emotions)
    facts = read_facts(tmp_path / "run")
    assert facts.corpora == []
    text = card_of(facts).text
    assert "> **Not known:** on which corpora" in text
    assert "--manifest" in facts.warnings[0]
    assert "the terms are unknown: ask its owner" in text
    assert str(tmp_path) not in text


def test_the_terms_of_every_corpus_stand_in_the_card(facts):
    text = card_of(replace(facts, corpora=["ravdess", "our_own"])).text
    assert "| RAVDESS (Livingstone and Russo 2018) | CC BY-NC-SA 4.0 | https://zenodo.org/records/1188976 |" in text
    assert "| our_own | unknown |" in text
    assert "forbid commercial use" in text
    assert "the terms are unknown" in text
    assert "forbid commercial use" not in card_of(replace(facts, corpora=["cremad"])).text


def test_licences_are_those_of_the_documents_and_cover_every_corpus():
    known = {path.stem for path in (ROOT / "configs" / "corpora").glob("*.yaml")}
    assert known == set(LICENCES)
    documents = (ROOT / "docs" / "CORPORA.md").read_text(encoding="utf-8")
    for licence in LICENCES.values():
        if licence.link:
            assert f"{licence.terms} |" in documents
            assert licence.link in documents
    assert licence_of("ravdess_splice") == LICENCES["ravdess"]
    assert licence_of("elsewhere").terms == "unknown"


def test_refused_uses_are_named_with_their_law(facts):
    text = card_of(facts).text
    refused = text[text.index("## Refused uses") : text.index("## Limits")]
    assert "at work or in education" in refused
    assert "Article 5(1)(f)" in refused
    assert "https://eur-lex.europa.eu/eli/reg/2024/1689/oj" in text
    for number in set(re.findall(r"\[(\d)\]", text)):
        assert f"- [{number}] " in text[text.index("## Sources") :]


def test_regions_are_told_as_they_were_measured(tiny_ablation, tmp_path, facts):
    assert "Neither the place nor the faithfulness" in card_of(facts).text
    assert "no evidence that both carry the emotion" in card_of(facts).text
    score = {"value": 0.86, "low": 0.82, "high": 0.9}
    place = {"auroc": score, "iou": score, "chance_iou": {**score, "value": 0.17}, "num_clips": 12}
    test = {"modality": "audio", "sentences": ["It is faithful.", "E.g. s01_fear_01."], "verdicts": {"attention": {}}}
    study = {"num_clips": 12, "sources": {"audio": "fused"}, "localization": {"audio": place}, "faithfulness": [test]}
    (tmp_path / "study.json").write_text(json.dumps(study))
    told = read_facts(tiny_ablation / "fused", regions=tmp_path)
    text = card_of(told).text
    assert told.warnings == []
    assert re.search(r"\| voice \| 0\.860 \[0\.820, 0\.900\] \|.*\| 0\.170 \| 12 \|", text)
    assert "Voice: It is faithful." in text
    assert "s01_fear_01" not in text
    assert "trained beside this one" not in text
    assert "trained beside this one" in card_of(replace(told, study={**study, "sources": {"audio": "audio"}})).text
    with pytest.raises(CheckpointError, match="run `avser roi` again"):
        card_of(replace(told, study={**study, "localization": {"audio": {}}}))
    with pytest.raises(CheckpointError, match="avser roi RUN --out DIR"):
        read_facts(tiny_ablation / "fused", regions=tmp_path / "none")


def test_notes_lose_their_examples(tiny_ablation):
    result = read_run(tiny_ablation / "fused", needs_timing=False)
    speaker, clip_id = result.test.speakers[0], result.test.clip_ids[0]
    result.metrics["notes"] = [
        "speakers: train 3 (2 female, 1 male), val 1, test 2",
        f"3 of 36 clips have no votes_av and were left out, e.g. {clip_id}",
        f"2 speakers are in no list of emobox and left out: {speaker}, s99",
        f"val holds 1 recording twice: {clip_id} (val) and x (val) share 1.5 s",
        "tests ravdess/07 alone",
    ]
    assert nameless_notes(result) == [
        "speakers: train 3 (2 female, 1 male), val 1, test 2",
        "3 of 36 clips have no votes_av and were left out",
        "2 speakers are in no list of emobox and left out",
    ]
