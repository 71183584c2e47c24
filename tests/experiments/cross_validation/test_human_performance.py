"""How well people do: votes counted by hand, and published numbers that say where they are from."""

import pytest

from avser.data.manifest import ClipRow
from avser.experiments.cross_validation.human_performance import PUBLISHED, published_scores, voted_scores
from avser.structures import AUDIO, FUSED, VIDEO

EMOTIONS = ["anger", "fear"]


def clip(name: str, speaker: str, emotion: str, **votes: str) -> ClipRow:
    return ClipRow(name, "x", speaker, emotion, **votes)


def test_votes_count_by_hand_and_those_for_other_emotions_are_wrong():
    rows = [
        clip("a", "1", "anger", votes_audio='{"anger": 3, "fear": 1}'),
        clip("b", "2", "anger", votes_audio='{"anger": 1, "boredom": 1}'),
        clip("c", "2", "fear", votes_audio='{"surprise": 4}', votes_av='{"fear": 2}'),
        clip("d", "1", "fear"),
    ]
    heard, both = voted_scores(rows, EMOTIONS, {})
    assert (heard.modality, both.modality) == (AUDIO, FUSED)
    assert heard.wa.value == pytest.approx(100 * (3 / 4 + 1 / 2 + 0) / 3)
    assert heard.uar.value == pytest.approx(100 * ((3 / 4 + 1 / 2) / 2 + 0) / 2)
    assert heard.wa.low <= heard.wa.value <= heard.wa.high
    assert "3 test clips" in heard.source
    assert both.wa.value == 100
    merged, _ = voted_scores(rows, EMOTIONS, {"surprise": "fear"})
    assert merged.wa.value == pytest.approx(100 * (3 / 4 + 1 / 2 + 1) / 3)


def test_without_votes_nobody_is_counted():
    assert voted_scores([clip("a", "1", "anger")], EMOTIONS, {}) == []


def test_published_scores_are_of_one_corpus():
    assert [(each.modality, each.wa.value) for each in published_scores(["cremad", "cremad"])] == [
        (AUDIO, 40.9),
        (VIDEO, 58.2),
        (FUSED, 63.6),
    ]
    assert published_scores(["cremad", "ravdess"]) == published_scores(["mine"]) == []


def test_every_published_score_says_where_it_is_from():
    for scores in PUBLISHED.values():
        for score in scores:
            assert score.source
            assert score.remark
            assert 0 < score.wa.value < 100
            assert score.num_emotions > 1
