from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avser.config import DataConfig, ProtocolConfig
from avser.data.manifest import ClipRow
from avser.data.splits import Split, Verdict, judge_split, make_split, speaker_key
from avser.errors import SplitError


def clips(num_speakers: int, per_speaker: int = 2, sexes: str = "fm") -> list[ClipRow]:
    return [
        ClipRow(
            f"s{s}_{i}", "toy", f"{s:02d}", "anger", f"s{s}_{i}.wav", sex={"f": "female", "m": "male", "-": ""}[sex]
        )
        for s in range(num_speakers)
        for i in range(per_speaker)
        for sex in [sexes[s % len(sexes)]]
    ]


def speakers(rows: list[ClipRow], ids: list[str]) -> set[str]:
    return {speaker_key(row) for row in rows if row.clip_id in ids}


@given(
    st.integers(3, 30),
    st.floats(0.05, 0.9),
    st.floats(0.05, 0.9),
    st.integers(0, 99),
    st.sampled_from(["fm", "f-", "ffm"]),
)
def test_holdout_covers_every_clip_once_with_disjoint_speakers(num_speakers, test, val, seed, sexes):
    rows = clips(num_speakers, sexes=sexes)
    split = make_split(rows, DataConfig(test_share=test, val_share=val, split_seed=seed))
    assert sorted(split.train + split.val + split.test) == sorted(row.clip_id for row in rows)
    parts = [speakers(rows, ids) for ids in split.parts().values()]
    assert all(parts)
    assert len(set().union(*parts)) == sum(map(len, parts)) == num_speakers


ORDERLESS = ["speaker_holdout", "speaker_kfold", "loso", "session_kfold", "group_kfold", "of_two"]


@given(st.randoms(use_true_random=False), st.sampled_from(ORDERLESS), st.booleans())
def test_the_order_of_the_rows_plays_no_part(random, protocol, hold_out):
    rows = [replace(row, session=row.speaker, sentence=row.clip_id[-1]) for row in clips(9)]
    shuffled = random.sample(rows, len(rows))
    data = DataConfig(
        protocol=protocol,
        protocols={"of_two": ProtocolConfig(test=["03, 05"])},
        test_sentences=["1"] if hold_out else [],
    )
    assert make_split(rows, data).fingerprint() == make_split(shuffled, data).fingerprint()


def test_holdout_takes_shares_of_speakers_and_of_both_sexes():
    rows = clips(20)
    for seed in range(20):
        split = make_split(rows, DataConfig(test_share=0.2, val_share=0.25, split_seed=seed))
        assert [len(speakers(rows, ids)) for ids in split.parts().values()] == [12, 4, 4]
        for ids in split.parts().values():
            sexes = [row.sex for row in rows if row.clip_id in ids]
            assert sexes.count("male") == sexes.count("female")
    assert split.protocol == "speaker_holdout(test=0.2,val=0.25,seed=19)"
    assert split.notes == ["speakers: train 12 (6 female, 6 male), val 4 (2 female, 2 male), test 4 (2 female, 2 male)"]


def test_seeds_differ():
    rows = clips(20)
    assert len({make_split(rows, DataConfig(split_seed=seed)).fingerprint() for seed in range(10)}) == 10


@given(st.integers(4, 24), st.integers(2, 24), st.integers(0, 5), st.sampled_from(["fm", "f-m"]))
def test_folds_test_every_speaker_once(num_speakers, num_folds, seed, sexes):
    rows = clips(num_speakers, sexes=sexes)
    num_folds = min(num_folds, num_speakers)
    tested: list[str] = []
    for fold in range(num_folds):
        split = make_split(rows, DataConfig(protocol="speaker_kfold", fold=fold, num_folds=num_folds, split_seed=seed))
        parts = [speakers(rows, ids) for ids in split.parts().values()]
        assert all(parts)
        assert sum(map(len, parts)) == num_speakers == len(set().union(*parts))
        tested += parts[2]
    assert sorted(tested) == sorted({speaker_key(row) for row in rows})


@pytest.mark.parametrize(
    ("data", "fingerprint"),
    [
        (DataConfig(), "93e339df90b7642d"),
        (DataConfig(protocol="speaker_kfold", num_folds=4, fold=1), "232a749ee79bf629"),
        (DataConfig(protocol="loso", fold=7, split_seed=3), "5c72c54516f69d45"),
        (
            DataConfig(protocol="own", fold=1, protocols={"own": ProtocolConfig(test=["00", "03, 05"])}),
            "ef60e2a4e04268eb",
        ),
    ],
)
def test_draws_stay_what_they_were(data, fingerprint):
    # Published results name these fingerprints: a change of the drawing is a change of every split in use.
    assert make_split(clips(12), data).fingerprint() == fingerprint


def test_folds_hold_both_sexes():
    rows = clips(24)
    for fold in range(6):
        split = make_split(rows, DataConfig(protocol="speaker_kfold", fold=fold, num_folds=6))
        sexes = [row.sex for row in rows if row.clip_id in split.test]
        assert sexes.count("male") == sexes.count("female") == 4
    assert split.protocol == "speaker_kfold(fold=5,num_folds=6,val=0.2,seed=0)"


def test_one_name_in_two_corpora_is_two_speakers():
    rows = [ClipRow(f"{c}{s}", c, s, "anger", "x.wav") for c in "pq" for s in "123"]
    assert len({speaker_key(row) for row in rows}) == 6
    split = make_split(rows, DataConfig(test_share=0.2, val_share=0.2))
    assert (len(split.train), len(split.val), len(split.test)) == (4, 1, 1)


def test_manifest_column():
    rows = [
        ClipRow(str(i), "toy", str(i), "anger", f"{i}.wav", split=part)
        for i, part in enumerate(["test", "train", "val"])
    ]
    split = make_split(rows, DataConfig(protocol="manifest"))
    assert (split.train, split.val, split.test) == (["1"], ["2"], ["0"])
    assert split.protocol == "manifest"


@pytest.mark.parametrize(
    ("data", "num_speakers", "words"),
    [
        (DataConfig(), 2, "at least 3 speakers.*has 2"),
        (DataConfig(test_share=0.0), 9, "data.test_share=0: must lie between"),
        (DataConfig(val_share=1.0), 9, "data.val_share=1: must lie between"),
        (DataConfig(protocol="speaker_kfold", num_folds=10), 9, "num_folds=10 needs.*9 speakers"),
        (DataConfig(protocol="speaker_kfold", num_folds=1), 9, "num_folds=1 needs"),
        (DataConfig(protocol="speaker_kfold", fold=5), 9, "fold=5: folds count from 0 to 4"),
        (DataConfig(protocol="speaker_kfold", num_folds=2), 3, "raise data.num_folds"),
        (DataConfig(protocol="manifest"), 3, "6 of 6 clips have an empty `split`"),
        (DataConfig(protocol="random"), 9, "'random' is not known; known are speaker_holdout"),
    ],
)
def test_impossible_splits_are_refused_with_advice(data, num_speakers, words):
    with pytest.raises(SplitError, match=words):
        make_split(clips(num_speakers), data)


@pytest.mark.parametrize("missing", ["train", "val", "test"])
def test_manifest_column_needs_every_part(missing):
    parts = [part for part in ("train", "val", "test") if part != missing]
    rows = [ClipRow(part, "toy", part, "anger", "x.wav", split=part) for part in parts]
    with pytest.raises(SplitError, match=f"no clip has split={missing}"):
        make_split(rows, DataConfig(protocol="manifest"))


def test_json_round_trip_and_fingerprint():
    split = make_split(clips(6), DataConfig())
    stored = json.loads(json.dumps(split.to_json()))
    assert Split.from_json(stored) == split
    assert stored["verdict"] == {"speakers_disjoint": True, "sentences_disjoint": None, "val_apart_from_test": True}
    del stored["verdict"]  # as written before splits were judged
    assert Split.from_json(stored) == replace(split, verdict=None)
    assert len(split.fingerprint()) == 16
    assert Split("other", split.train[::-1], split.val, split.test).fingerprint() == split.fingerprint()
    assert Split(split.protocol, split.val, split.train, split.test).fingerprint() != split.fingerprint()


VERDICT = ["speakers_disjoint", "sentences_disjoint", "val_apart_from_test"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protocol": None}, "no 'protocol'"),
        ({"val": None}, "'val' must be a list"),
        ({"test": [1]}, "'test' must be a list"),
        ({"train": ["s0_0"]}, "fingerprint .* does not fit"),
        ({"verdict": {"speakers_disjoint": True}}, "'verdict' must say"),
        ({"verdict": {**dict.fromkeys(VERDICT, True), "speakers_disjoint": "yes"}}, "'verdict' must say"),
    ],
)
def test_damaged_json_is_refused(change, words):
    with pytest.raises(SplitError, match=words):
        Split.from_json({**make_split(clips(6), DataConfig()).to_json(), **change})


# --- what a split keeps apart ------------------------------------------------------------------------------------


def row(clip_id: str, speaker: str, sentence: str = "", performance: str = "", corpus: str = "toy") -> ClipRow:
    return ClipRow(
        clip_id, corpus, speaker, "anger", f"{clip_id}.wav", sentence=sentence, performance=performance or clip_id
    )


THREE = Split("x", ["a"], ["b"], ["c"])


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ([row("a", "1", "p"), row("b", "2", "q"), row("c", "3", "r")], Verdict(True, True, True)),
        ([row("a", "1", "p"), row("b", "2", "q"), row("c", "1", "r")], Verdict(False, True, True)),
        ([row("a", "1", "p"), row("b", "3", "q"), row("c", "3", "r")], Verdict(False, True, True)),
        ([row("a", "1", "p"), row("b", "1", "q"), row("c", "3", "r")], Verdict(True, True, True)),
        ([row("a", "1", "p"), row("b", "2", "q"), row("c", "3", "p")], Verdict(True, False, True)),
        ([row("a", "1", "p"), row("b", "2", "q"), row("c", "3", "q")], Verdict(True, False, True)),
        ([row("a", "1", "p"), row("b", "2", "p"), row("c", "3", "r")], Verdict(True, True, True)),
        ([row("a", "1", ""), row("b", "2", "q"), row("c", "3", "r")], Verdict(True, None, True)),
        ([row("a", "1", ""), row("b", "2", "q"), row("c", "3", "q")], Verdict(True, False, True)),
        ([row("a", "1"), row("b", "2"), row("c", "3")], Verdict(True, None, True)),
        ([row("a", "1", "p"), row("b", "2", "q", "z"), row("c", "3", "r", "z")], Verdict(True, True, False)),
        ([row("a", "1", "p", "z"), row("b", "2", "q"), row("c", "3", "r", "z")], Verdict(True, True, True)),
        ([row("a", "1", "p"), row("b", "2", "q"), row("c", "1", "r", corpus="other")], Verdict(True, True, True)),
    ],
)
def test_the_verdict_comes_from_the_rows(rows, verdict):
    assert judge_split(rows, THREE) == verdict


def test_validation_on_test_clips_is_seen():
    rows = [row("a", "1", "p"), row("b", "2", "q"), row("c", "3", "r")]
    assert judge_split(rows, Split("x", ["a"], ["c"], ["c"])).val_apart_from_test is False


def test_clips_in_no_part_play_no_part_in_the_verdict():
    rows = [row("a", "1", "p"), row("b", "2", "q"), row("c", "3", "r"), row("d", "3", "p", "c")]
    assert judge_split(rows, THREE) == Verdict(True, True, True)


def test_a_verdict_is_one_line():
    assert str(Verdict(True, False, None)) == (
        "speakers disjoint: yes; sentences disjoint: no; validation apart from test: not known"
    )
    split = make_split(clips(6), DataConfig())
    assert split.describe() == f"{split.protocol}; {split.verdict}"
    assert THREE.describe() == "x"


# --- held-out sentences ------------------------------------------------------------------------------------------


def test_held_out_sentences_are_said_in_test_alone():
    rows = [row(f"{s}{t}", str(s), t) for s in range(10) for t in "pqr"]
    data = DataConfig(test_sentences=["q", "r"])
    split = make_split(rows, data)
    said = {part: {r.sentence for r in rows if r.clip_id in ids} for part, ids in split.parts().items()}
    assert said == {"train": {"p"}, "val": {"p"}, "test": {"q", "r"}}
    assert split.verdict == Verdict(True, True, True)
    assert split.protocol == "speaker_holdout(test=0.2,val=0.2,seed=0,test_sentences=2)"
    free = make_split(rows, DataConfig())
    assert free.verdict == Verdict(True, False, True)
    assert {clip[0] for clip in split.test} == {clip[0] for clip in free.test}
    assert "test says only 'q', 'r', train and val never: 18 clips are left out" in split.notes
    assert sum(map(len, split.parts().values())) == 30 - 18


@pytest.mark.parametrize(
    ("sentences", "spoken", "words"),
    [
        (["pp"], "pq", "nobody says 'pp'; did you mean 'p'"),
        (["p"], ["p", "q", ""], "6 clips have no `sentence`"),
        (["p", "q"], "pq", "no clip of the manifest is in train"),
    ],
)
def test_impossible_held_out_sentences_are_refused(sentences, spoken, words):
    rows = [row(f"{s}{i}", str(s), t) for s in range(6) for i, t in enumerate(spoken)]
    with pytest.raises(SplitError, match=words):
        make_split(rows, DataConfig(test_sentences=sentences))
