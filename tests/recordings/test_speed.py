"""Windows that share face crops are answered as if each stood alone."""

import pytest

from avser.inference import predict_clips, read_media
from avser.recordings.speed import WindowAnswers
from avser.structures import FUSED, MODALITIES


def test_answers_are_those_of_the_model_itself(models, tiny_corpus):
    model = models[FUSED]
    clips = [read_media(model, path) for path in sorted((tiny_corpus / "media").glob("*.mp4"))[:2]]
    expected = predict_clips(model, clips)
    answers, encoded = WindowAnswers(model), []
    encode = answers._encode
    answers._encode = lambda frames: encoded.append(len(frames)) or encode(frames)
    for _ in range(2):  # the second time from memory
        for one, other in zip(answers.ask(clips, [(1, 0.0), (2, 0.0)]), expected, strict=True):
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
            for modality in MODALITIES:
                assert one.salience[modality].values == pytest.approx(other.salience[modality].values, abs=1e-5)
    assert sum(encoded) == sum(clip.face.found.sum() for clip in clips)
    num_parts = len(encoded)
    answers.ask([clips[0], clips[0]], [(3, 1.0), (3, 1.0)])  # one crop in two windows of a batch
    assert sum(encoded[num_parts:]) == clips[0].face.found.sum()
    num_parts = len(encoded)
    elsewhere = answers.ask(clips[:1], [(1, 0.0333)])  # other moments, so other crops
    assert len(encoded) > num_parts
    assert elsewhere[0].probabilities == pytest.approx(expected[0].probabilities, abs=1e-5)
    asked = WindowAnswers(model, "grad_input").ask(clips[:1], [(1, 0.0)])
    assert asked[0].probabilities == pytest.approx(expected[0].probabilities, abs=1e-5)
