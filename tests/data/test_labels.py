from __future__ import annotations

import csv
import json

import pytest

from avser.config import DataConfig
from avser.data.labels import label_clips
from avser.data.manifest import ClipRow
from avser.errors import ConfigError, ManifestError
from preprocessing.cremad import VOTE_COLUMNS, VOTE_EMOTIONS


def rows(*emotions: str) -> list[ClipRow]:
    return [ClipRow(str(i), "toy", "s", emotion, f"{i}.wav") for i, emotion in enumerate(emotions)]


def voted(*votes: dict[str, int] | None) -> list[ClipRow]:
    """Clips that were all meant as calm, with these votes on the face."""
    cells = ["" if v is None else json.dumps(v) for v in votes]
    return [ClipRow(str(i), "toy", "s", "calm", f"{i}.wav", votes_video=cell) for i, cell in enumerate(cells)]


# --- intended ---


def test_label_set_from_the_manifest_is_sorted():
    labels = label_clips(rows("sadness", "anger", "sadness"), DataConfig())
    assert labels.emotions == ["anger", "sadness"]
    assert len(labels.rows) == 3


def test_label_set_keeps_the_order_asked_for_and_merges():
    data = DataConfig(emotions=["neutral", "anger"], merge={"calm": "neutral"})
    labels = label_clips(rows("calm", "anger", "neutral"), data)
    assert labels.emotions == ["neutral", "anger"]
    assert [row.emotion for row in labels.rows] == ["neutral", "anger", "neutral"]
    assert label_clips(rows("calm", "anger"), DataConfig(merge={"calm": "neutral"})).emotions == ["anger", "neutral"]


def test_other_emotions_are_dropped_only_when_asked_for():
    clips = rows("anger", "fear", "fear", "calm", "neutral")
    with pytest.raises(ManifestError, match=r"outside data.emotions=.*calm 1, fear 2 clips.*drop_other_emotions=true"):
        label_clips(clips, DataConfig(emotions=["anger", "neutral"]))
    data = DataConfig(emotions=["anger", "neutral"], drop_other_emotions=True)
    assert [row.clip_id for row in label_clips(clips, data).rows] == ["0", "4"]


@pytest.mark.parametrize(
    ("emotions", "data", "words"),
    [
        (["anger", "", ""], DataConfig(), "2 of 3 clips have no emotion, e.g. 1"),
        (["anger", "anger"], DataConfig(), "needs at least two"),
        (["anger", "fear"], DataConfig(emotions=["anger", "fear", "calm"]), "no clip shows calm"),
        (["anger", "fear"], DataConfig(emotions=["anger", "feer"]), "data.emotions: 'feer' is no emotion"),
        (["anger", "fear"], DataConfig(merge={"fear": "angst"}), "data.merge: 'angst' is no emotion"),
        (["anger", "fear"], DataConfig(emotions=["anger", "anger"]), "names an emotion twice"),
        (["anger", "fear"], DataConfig(emotions=["anger", "fear"], merge={"fear": "anger"}), "no clip of fear is left"),
        (["anger", "fear"], DataConfig(merge={"fear": "calm", "calm": "anger"}), "no clip of calm is left"),
    ],
)
def test_impossible_label_sets_are_refused(emotions, data, words):
    with pytest.raises(ManifestError, match=words):
        label_clips(rows(*emotions), data)


# --- perceived ---

VOTES = voted(
    {"anger": 3, "fear": 1}, {"fear": 4, "sadness": 1}, {"anger": 2, "fear": 2}, None, {"anger": 0, "fear": 0}
)


def test_the_majority_is_the_label_and_what_has_none_is_left_out_and_said():
    labels = label_clips(VOTES, DataConfig(target="perceived_video"))
    assert [(row.clip_id, row.emotion) for row in labels.rows] == [("0", "anger"), ("1", "fear")]
    assert labels.emotions == ["anger", "fear"]
    assert labels.targets == {}
    assert labels.notes == [
        "labels: perceived_video, the majority of the votes",
        "2 of 5 clips have no votes_video and were left out, e.g. 3",
        "1 clips have no majority in votes_video and were left out, e.g. 2",
    ]


def test_soft_labels_are_shares_and_ties_may_train():
    data = DataConfig(target="perceived_video", soft_labels=True, emotions=["fear", "anger", "sadness"])
    with pytest.raises(ManifestError, match="no clip shows sadness"):
        label_clips(VOTES, data)
    data.emotions = ["fear", "anger"]
    labels = label_clips(VOTES, data)
    assert [(row.clip_id, row.emotion) for row in labels.rows] == [("0", "anger"), ("1", "fear"), ("2", "")]
    assert labels.targets["0"].tolist() == [0.25, 0.75]
    assert labels.targets["1"].tolist() == [1.0, 0.0]  # the vote for sadness is outside the label set
    assert labels.targets["2"].tolist() == [0.5, 0.5]
    assert "1 clips have no majority in votes_video and only train, e.g. 2" in labels.notes


def test_votes_are_merged_before_they_are_counted():
    clips = voted({"calm": 2, "neutral": 2, "anger": 3}, {"anger": 5})
    with pytest.raises(ManifestError, match="at least two"):
        label_clips(clips, DataConfig(target="perceived_video"))
    labels = label_clips(clips, DataConfig(target="perceived_video", merge={"calm": "neutral"}))
    assert [row.emotion for row in labels.rows] == ["neutral", "anger"]


def test_a_majority_outside_the_label_set_is_an_error_unless_dropped():
    clips = voted({"anger": 3}, {"fear": 3}, {"disgust": 3, "fear": 1})
    data = DataConfig(target="perceived_video", emotions=["anger", "fear"])
    with pytest.raises(ManifestError, match=r"outside data\.emotions"):
        label_clips(clips, data)
    data.drop_other_emotions = True
    assert [row.clip_id for row in label_clips(clips, data).rows] == ["0", "1"]


def test_targets_without_votes_are_refused():
    with pytest.raises(ManifestError, match=r"perceived_av: no clip has votes_av; take data.target=intended"):
        label_clips(VOTES, DataConfig(target="perceived_av"))
    with pytest.raises(ConfigError, match=r"data\.soft_labels needs votes"):
        label_clips(rows("anger", "fear"), DataConfig(soft_labels=True))


@pytest.mark.real_data
def test_the_perceived_emotions_of_cremad(real_data):
    """Against the corpus's own summary of its votes: the winners, ties written as A:D."""
    folder = real_data / "cremad" / "processedResults"
    votes: dict[str, dict[str, str]] = {}
    with (folder / "tabulatedVotes.csv").open(encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            counts = {emotion: int(row[letter]) for letter, emotion in VOTE_EMOTIONS.items()}
            votes.setdefault(row["fileName"], {})[VOTE_COLUMNS[row[""][:1]]] = json.dumps(counts)
    clips = [ClipRow(name, "cremad", name[:4], "", f"{name}.wav", **columns) for name, columns in votes.items()]
    with (folder / "summaryTable.csv").open(encoding="utf-8-sig") as file:
        summary = {row["FileName"]: row for row in csv.DictReader(file)}
    columns = {"perceived_audio": "VoiceVote", "perceived_video": "FaceVote", "perceived_av": "MultiModalVote"}
    for target, column in columns.items():
        labels = label_clips(clips, DataConfig(target=target))
        expected = {name: VOTE_EMOTIONS[row[column]] for name, row in summary.items() if ":" not in row[column]}
        assert {row.clip_id: row.emotion for row in labels.rows} == expected
        soft = label_clips(clips, DataConfig(target=target, soft_labels=True))
        assert len(soft.targets) == len(soft.rows) == 7442
        assert all(shares.sum() == pytest.approx(1) for shares in soft.targets.values())
