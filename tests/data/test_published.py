"""Published splits: the lists in configs/corpora on the corpora that they are made for, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from avser.config import DataConfig, ProtocolConfig, list_configs, load_config
from avser.data.audit import audit_split
from avser.data.manifest import ClipRow, read_manifest
from avser.data.published import check_protocol, fold_names, read_split_file
from avser.data.splits import VERDICTS, Split, Verdict, make_split
from avser.errors import ConfigError, SplitError

CORPORA = [path.stem for path in list_configs()["corpora"]]
PUBLISHED = [
    (corpus, name) for corpus in CORPORA for name, p in load_config([corpus]).data.protocols.items() if p.by != "clips"
]


def split_of(rows: list[ClipRow], corpus: str, protocol: str, fold: int = 0, **settings: object) -> Split:
    data = load_config([corpus, f"data.protocol={protocol}", f"data.fold={fold}"]).data
    for name, value in settings.items():
        setattr(data, name, value)
    return make_split(rows, data)


def speakers(rows: list[ClipRow], ids: list[str]) -> set[str]:
    wanted = set(ids)
    return {row.speaker for row in rows if row.clip_id in wanted}


def numbered(text: str) -> set[str]:
    """Hand-written truth: "1 11 20" of RAVDESS."""
    return {f"{int(number):02d}" for number in text.split()}


# --- the real corpora --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ravdess(real_data, tmp_path_factory) -> list[ClipRow]:
    from preprocessing import ravdess as adapter

    out = tmp_path_factory.mktemp("ravdess") / "manifest.csv"
    assert adapter.main(["--raw", str(real_data / "ravdess_speech"), "--out", str(out)]) == 0
    rows = read_manifest(out).rows
    assert len(rows) == 1440
    return rows


@pytest.fixture(scope="module")
def cremad(real_data) -> list[ClipRow]:
    """A row for each of the 7442 names in the corpus's own table."""
    from preprocessing.cremad import EMOTIONS, SENTENCES

    with (real_data / "cremad/processedResults/summaryTable.csv").open() as file:
        names = [cells["FileName"] for cells in csv.DictReader(file)]
    assert len(set(names)) == 7442
    parts = [name.split("_") for name in names]
    return [
        ClipRow(name, "cremad", actor, EMOTIONS[emotion], f"{name}.wav", sentence=SENTENCES[sentence])
        for name, (actor, sentence, emotion, _) in zip(names, parts, strict=True)
    ]


RAVDESS = {
    "emobox": ["1 11 20 21", "4 10 12 14", "8 9 19 23", "3 5 7 24", "2 15 16 18", "6 13 17 22"],
    "hicmae": ["1 2 3 4", "5 6 7 8", "9 10 11 12", "13 14 15 16", "17 18 19 20", "21 22 23 24"],
    "luna_jimenez": ["2 5 14 15 16", "3 6 7 13 18", "10 11 12 19 20", "8 17 21 23 24", "1 4 9 22"],
}


@pytest.mark.parametrize("name", RAVDESS)
def test_ravdess_folds(ravdess, name):
    tested: list[str] = []
    for fold, actors in enumerate(RAVDESS[name]):
        split = split_of(ravdess, "ravdess", name, fold)
        assert speakers(ravdess, split.test) == numbered(actors)
        assert len(split.test) == 60 * len(actors.split())
        assert len(split.train) + len(split.val) + len(split.test) == 1440
        assert len(speakers(ravdess, split.val)) == 4  # 20 % of the 19 or 20 others
        assert split.verdict == Verdict(True, False, True)
        assert f"{name}(fold={fold},val=0.2,seed=0)" == split.protocol
        assert audit_split(ravdess, split) == ["2 of 2 test sentences are also said in train"]
        tested += split.test
    assert sorted(tested) == sorted(row.clip_id for row in ravdess)
    with pytest.raises(SplitError, match=f"folds count from 0 to {len(RAVDESS[name]) - 1} in {name}"):
        split_of(ravdess, "ravdess", name, len(RAVDESS[name]))


def test_ravdess_kateryna(ravdess):
    split = split_of(ravdess, "ravdess", "kateryna")
    assert speakers(ravdess, split.test) == numbered("5 10 16 19")
    assert speakers(ravdess, split.val) == numbered("11 13 18 22")
    assert [len(ids) for ids in split.parts().values()] == [960, 240, 240]
    assert split.protocol == "kateryna"
    assert split.notes == ["speakers: train 16 (8 female, 8 male), val 4 (2 female, 2 male), test 4 (2 female, 2 male)"]


def test_ravdess_with_a_statement_held_out(ravdess):
    dogs = "Dogs are sitting by the door"
    for fold in range(6):
        split = split_of(ravdess, "ravdess", "emobox", fold, test_sentences=[dogs])
        assert split.verdict == Verdict(True, True, True)
        assert len(split.test) == 4 * 30
        assert {row.sentence for row in ravdess if row.clip_id in split.test} == {dogs}
        assert "as published, sentences disjoint: no; here: yes" in split.notes
        assert audit_split(ravdess, split) == ["720 of 1440 clips are in no part of the split"]


def test_ravdess_leave_one_speaker_out(ravdess):
    for fold in range(24):
        split = split_of(ravdess, "ravdess", "loso", fold)
        assert speakers(ravdess, split.test) == {f"{fold + 1:02d}"}
        assert len(split.test) == 60


def test_cremad_hicmae(cremad):
    borders = [(1001, 1018), (1019, 1036), (1037, 1054), (1055, 1072), (1073, 1091)]
    tested: list[str] = []
    for fold, (first, last) in enumerate(borders):
        split = split_of(cremad, "cremad", "hicmae", fold)
        assert speakers(cremad, split.test) == {str(actor) for actor in range(first, last + 1)}
        assert split.verdict == Verdict(True, False, True)
        assert split.notes[1:] == [
            "as published, validation apart from test: no; here: yes",
            "published without a validation set of its own; here 20 % of the training speakers validate, never test "
            "clips",
        ]
        tested += split.test
    assert sorted(tested) == sorted(row.clip_id for row in cremad)


def test_cremad_audb(cremad):
    split = split_of(cremad, "cremad", "audb")
    assert [len(speakers(cremad, ids)) for ids in split.parts().values()] == [56, 17, 18]
    assert speakers(cremad, split.test) == set(
        "1063 1068 1069 1071 1074 1076 1077 1078 1079 1080 1082 1083 1084 1086 1087 1088 1089 1090".split()
    )
    assert speakers(cremad, split.val) >= {"1049", "1054", "1062", "1085"}
    assert split.verdict == Verdict(True, False, True)
    assert len(split.notes) == 1


def test_cremad_tfds_has_the_published_number_of_clips(cremad):
    dropped = {"1040_ITH_SAD_XX", "1006_TIE_NEU_XX", "1013_WSI_DIS_XX", "1017_IWW_FEA_XX"}
    split = split_of([row for row in cremad if row.clip_id not in dropped], "cremad", "tfds")
    assert [len(ids) for ids in split.parts().values()] == [5144, 738, 1556]
    assert [len(ids) for ids in split_of(cremad, "cremad", "tfds").parts().values()] == [5146, 738, 1558]


# --- every published split, on rows that look like its corpus ----------------------------------------------------

LOOKS_LIKE = {
    "cremad": [str(actor) for actor in range(1001, 1092)],
    "ravdess": [f"{actor:02d}" for actor in range(1, 25)],
    "emodb": "03 08 09 10 11 12 13 14 15 16".split(),
    "savee": "DC JE JK KL".split(),
    "tess": "OAF YAF".split(),
    "iemocap": [f"{session}{letter}" for session in range(1, 6) for letter in "FM"],
    "msp_improv": [f"{letter}0{session}" for session in range(1, 7) for letter in "FM"],
    "meld": "Chandler Joey Monica Phoebe Rachel Ross".split(),
}


def rows_like(corpus: str) -> list[ClipRow]:
    """Everybody says the same three sentences; sessions and parts as the corpus has them."""
    return [
        ClipRow(
            f"{speaker}_{i}",
            corpus,
            speaker,
            "anger",
            f"{speaker}_{i}.wav",
            sentence=sentence,
            session=f"session{speaker.strip('FM').lstrip('0')}" if corpus in ("iemocap", "msp_improv") else "",
            split=["train", "val", "test"][i] if corpus == "meld" else "",
        )
        for speaker in LOOKS_LIKE[corpus]
        for i, sentence in enumerate(["one", "two", "one"])
    ]


@pytest.mark.parametrize(("corpus", "name"), PUBLISHED)
def test_every_published_split_keeps_apart_what_it_says(corpus, name):
    rows, protocol = rows_like(corpus), load_config([corpus]).data.protocols[name]
    allowed = corpus in ("meld", "tess")
    tested: list[str] = []
    for fold in range(max(1, len(protocol.test))):
        split = split_of(rows, corpus, name, fold)
        for verdict in VERDICTS:
            declared, found = getattr(protocol, verdict), getattr(split.verdict, verdict)
            if (verdict, declared) == ("val_apart_from_test", False):
                assert found is True  # a publication that validated on its test clips is not followed in that
            elif declared is not None:
                assert found == declared, verdict
        audit_split(rows, split, allow_shared_speakers=allowed)
        if allowed:
            with pytest.raises(SplitError, match="allow_shared_speakers"):
                audit_split(rows, split)
        tested += split.test
    assert len(tested) == len(set(tested))
    if len(protocol.test) > 1:
        assert set(tested) == {row.clip_id for row in rows}
    assert protocol.source


def test_iemocap_folds():
    rows = rows_like("iemocap")
    for fold in range(5):
        split = split_of(rows, "iemocap", "sessions", fold)
        assert speakers(rows, split.test) == {f"{fold + 1}F", f"{fold + 1}M"}
        assert len({name[0] for name in speakers(rows, split.val)}) == 1  # a whole session: both people of a dialogue
        assert len(speakers(rows, split.val)) == 2
        assert len(speakers(rows, split.train)) == 6
    for fold in range(10):
        split = split_of(rows, "iemocap", "session_speakers", fold)
        session, letter = fold // 2 + 1, "FM"[fold % 2]
        assert speakers(rows, split.test) == {f"{session}{letter}"}
        assert speakers(rows, split.val) == {f"{session}{'MF'[fold % 2]}"}
        assert len(speakers(rows, split.train)) == 8


def test_emodb_and_savee_name_their_speakers():
    rows = rows_like("emodb")
    split = split_of(rows, "emodb", "autrainer")
    assert speakers(rows, split.train) == {"03", "08", "09", "10", "11", "12"}
    assert (speakers(rows, split.val), speakers(rows, split.test)) == ({"13", "14"}, {"15", "16"})
    rows = rows_like("savee")
    tested = [speakers(rows, split_of(rows, "savee", "emobox", fold).test) for fold in range(4)]
    assert tested == [{"JE"}, {"KL"}, {"DC"}, {"JK"}]
    assert speakers(rows, split_of(rows, "savee", "nkululeko").test) == {"KL"}


def test_tess_validates_on_words_of_the_speaker_who_trains():
    rows = [
        ClipRow(f"{s}_{w}_{e}", "tess", s, e, f"{s}_{w}_{e}.wav", sentence=f"Say the word {w}")
        for s in ("OAF", "YAF")
        for w in range(10)
        for e in ("anger", "fear")
    ]
    split = split_of(rows, "tess", "one_of_two", 1)
    assert speakers(rows, split.test) == {"YAF"}
    assert (len(split.train), len(split.val), len(split.test)) == (16, 4, 20)
    said = [{row.sentence for row in rows if row.clip_id in ids} for ids in (split.train, split.val)]
    assert said[0].isdisjoint(said[1])
    assert split.verdict == Verdict(True, False, True)
    assert "20 % of the training sentences validate" in split.notes[-1]
    with pytest.raises(SplitError, match="leaves 1 speaker for train and val"):
        split_of(rows, "tess", "loso")


# --- lists of clips ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("corpus", "name"), [("cremad", "emobox"), ("cremad", "ogm_ge"), ("emodb", "emobox")])
def test_a_list_of_clips_is_asked_for(corpus, name):
    with pytest.raises(SplitError, match=r"not part of avser.*data\.split_file=FILE.*allow_shared_speakers=true too"):
        split_of(rows_like(corpus), corpus, name)


def listing(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "list.csv"
    path.write_text("\n".join(["clip_id,split", *lines, ""]))
    return str(path)


def test_a_list_of_clips_is_followed(tmp_path):
    rows = rows_like("cremad")[:9]  # three actors, three clips each
    lines = [f"{row.clip_id},{'test' if row.clip_id[-1] == '0' else 'train'}" for row in rows[:-1]]
    path = listing(tmp_path, *lines, "9999_0,test")
    split = split_of(rows, "cremad", "ogm_ge", split_file=path)
    assert split.test == [row.clip_id for row in rows if row.clip_id[-1] == "0"]
    assert len(split.train) + len(split.val) == 5
    assert len(speakers(rows, split.val)) == 1
    assert split.verdict == Verdict(False, False, True)
    assert split.protocol == "ogm_ge(val=0.2,seed=0)"
    assert f"1 of 9 clips in {path} are not there: 9999_0" in split.notes
    with pytest.raises(SplitError, match="3 of 3 speakers are in more than one part"):
        audit_split(rows, split)
    notes = audit_split(rows, split, allow_shared_speakers=True)
    assert notes[0] == "speaker-dependent: 3 speakers shared"
    assert notes[-1] == "1 of 9 clips are in no part of the split"


def test_a_list_of_ones_own_may_name_all_parts(tmp_path):
    rows = rows_like("savee")
    part = {"DC": "train", "JE": "train", "JK": "val", "KL": "test"}
    path = listing(tmp_path, *(f"{row.clip_id},{part[row.speaker]}" for row in rows))
    split = make_split(rows, DataConfig(protocol="split_file", split_file=path))
    assert speakers(rows, split.val) == {"JK"}
    assert split.protocol == "split_file"
    assert split.verdict == Verdict(True, False, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clip,split\n", "column 'clip_id' is missing"),
        ("clip_id,split\na,dev\n", "line 2, column split: got 'dev', allowed: train, val, test"),
        ("clip_id,split\na,train\na,test\n", "line 3, column clip_id: 'a' is empty or there twice"),
        ("clip_id,split\n,train\n", "line 2, column clip_id"),
        ("clip_id,split\na\n", "line 2, column split: got None"),
        ('clip_id,split\n"a,train\n', "not readable as CSV"),
        ("", "column 'clip_id' is missing"),
        ("\x00\xff", "not readable as CSV|is missing"),
    ],
)
def test_damaged_lists_are_refused(tmp_path, text, words):
    path = tmp_path / "list.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SplitError, match=words):
        read_split_file(path)


def test_lists_that_are_not_there_or_of_another_corpus_are_refused(tmp_path):
    with pytest.raises(SplitError, match=r"nowhere\.csv: not readable as CSV"):
        read_split_file("nowhere.csv")
    for lines in (["x,train", "y,test"], []):
        data = DataConfig(protocol="split_file", split_file=listing(tmp_path, *lines))
        with pytest.raises(SplitError, match="none of its clips is in the manifest"):
            make_split(rows_like("savee"), data)


@pytest.mark.parametrize(("part", "lacking"), [("train", "test"), ("test", "train"), ("val", "train")])
def test_a_list_without_a_part_is_refused(tmp_path, part, lacking):
    rows = rows_like("savee")
    path = listing(tmp_path, *(f"{row.clip_id},{part}" for row in rows))
    with pytest.raises(SplitError, match=f"split_file: no clip of the manifest is in {lacking}"):
        make_split(rows, DataConfig(protocol="split_file", split_file=path))


# --- refusals and remarks ----------------------------------------------------------------------------------------


def own(rows: list[ClipRow], **lists: object) -> Split:
    return make_split(rows, DataConfig(protocol="own", protocols={"own": ProtocolConfig(**lists)}))  # type: ignore


def test_a_protocol_of_another_corpus_names_speakers_that_are_missing():
    with pytest.raises(SplitError, match=r"hicmae names 91 speakers .* ravdess does not have: 1001, 1002, 1003, 1004"):
        split_of(rows_like("ravdess"), "cremad", "hicmae")
    with pytest.raises(SplitError, match=r"hicmae names 1 speakers .* cremad does not have: 1091"):
        split_of(rows_like("cremad")[:-3], "cremad", "hicmae")
    rows = [ClipRow(s, "duo", s, "", session=s) for s in "abc"]
    with pytest.raises(SplitError, match=r"names 5 sessions .*: session1, session2, session3, session4 and 1 more"):
        split_of(rows, "iemocap", "sessions")


def test_a_published_split_is_of_one_corpus():
    with pytest.raises(SplitError, match="one corpus, the manifest holds emodb, savee"):
        split_of([*rows_like("savee"), *rows_like("emodb")], "savee", "emobox")


def test_who_is_in_no_list_trains_unless_those_who_train_are_listed():
    rows = rows_like("emodb")
    free = own(rows, test=["15, 16"], val=["13"])
    assert speakers(rows, free.train) == {"03", "08", "09", "10", "11", "12", "14"}
    strict = own(rows, test=["15, 16"], val=["13"], train=["03, 08-11"])
    assert speakers(rows, strict.train) == {"03", "08", "09", "10", "11"}
    assert "2 speakers are in no list of own and left out: emodb/12, emodb/14" in strict.notes


def test_what_differs_from_the_publication_is_noted():
    rows = rows_like("savee")
    split = own(rows, test=["KL"], val=["JK"], speakers_disjoint=False, sentences_disjoint=True)
    assert split.notes[1:] == [
        "as published, speakers disjoint: no; here: yes",
        "as published, sentences disjoint: yes; here: no",
    ]


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ({}, r"own\.test: lists nobody"),
        ({"test": ["a", "b"], "val": ["c"]}, r"own\.val: has 1 folds, test has 2"),
        ({"test": ["a, b"], "val": ["b"]}, "fold 0 has 'b' in val and in test"),
        ({"test": ["a, a"]}, "fold 0 has 'a' in test and in test"),
        ({"test": ["04-02"]}, r"own\.test: the range '04-02' does not rise"),
        ({"test": [" , "]}, r"own\.test: a fold without a name"),
        ({"test": [["a"]]}, r"own\.test: \['a'\] is no text"),
        ({"by": "clips", "test": ["a"]}, r"own\.test: by=clips takes no lists"),
    ],
)
def test_lists_that_contradict_themselves_are_refused(lists, words):
    with pytest.raises(ConfigError, match=words):
        check_protocol("own", ProtocolConfig(**lists))
    with pytest.raises(ConfigError, match=words):
        own(rows_like("savee"), **lists)


def test_a_published_name_may_not_hide_a_general_one():
    with pytest.raises(ConfigError, match=r"data\.protocols\.loso: this name means a protocol for any manifest"):
        check_protocol("loso", ProtocolConfig(test=["a"]))


@pytest.mark.parametrize(("corpus", "name"), [(c, n) for c in CORPORA for n in load_config([c]).data.protocols])
def test_every_list_in_the_configurations_is_sound(corpus, name):
    check_protocol(name, load_config([corpus]).data.protocols[name])


def test_fold_texts():
    assert fold_names("03, 08-11") == ["03", "08", "09", "10", "11"]
    assert fold_names("9-11") == ["9", "10", "11"]
    assert fold_names("Mr. Heckles, F01-x") == ["Mr. Heckles", "F01-x"]


# --- as configured -----------------------------------------------------------------------------------------------


def test_an_unknown_protocol_is_refused_before_data_are_read(tmp_path):
    with pytest.raises(ConfigError, match=r"'hicmea' is not known; did you mean hicmae\? known are speaker_holdout"):
        load_config(["cremad", "data.protocol=hicmea"])
    with pytest.raises(ConfigError, match="'hicmae' is not known"):
        load_config(["data.protocol=hicmae"])
    path = tmp_path / "mine.yaml"
    path.write_text("data: {protocols: {mine: {tset: ['1']}}}")
    with pytest.raises(ConfigError, match=r"mine\.yaml: data\.protocols\.mine\.tset.*Did you mean: 'test'"):
        load_config([path])
    path.write_text("data: {protocol: mine, protocols: {mine: {test: ['1, 2']}}}")
    assert load_config([path]).data.protocols["mine"].test == ["1, 2"]
