"""Faithfulness in closed form: a model whose probability is a sum over moments."""

import numpy as np
import pytest
import torch

from avser.errors import AvserError
from avser.models.system import System
from avser.roi.trust.faithfulness import Faithfulness, average, concatenate, measure_faithfulness
from avser.structures import Batch, Output

NUM_STEPS = 20


class Linear(System):
    """The probability of emotion 1 is the sum of the face's one feature, exactly; each step may hold up to 1/20."""

    def __init__(self) -> None:
        super().__init__()
        self.num_rows = 0

    def forward(self, batch: Batch) -> Output:
        self.num_rows += len(batch)
        p = (batch.face_features[..., 0].double() * batch.feature_mask).sum(dim=1).clamp(1e-9, 1 - 1e-9)
        return Output(torch.stack([(1 - p).log(), p.log()], dim=1), {})


def faces(*values, num_steps=NUM_STEPS) -> Batch:
    x = torch.zeros(len(values), num_steps, 1, dtype=torch.float64)
    mask = torch.zeros(len(values), num_steps, dtype=torch.bool)
    for i, v in enumerate(values):
        x[i, : len(v), 0], mask[i, : len(v)] = torch.tensor(v, dtype=torch.float64), True
    times = (torch.arange(num_steps)[None] * 0.02).expand(len(values), -1)
    return Batch([f"c{i}" for i in range(len(values))], face_features=x, feature_times=times, feature_mask=mask)


def order(*ranks: list[int]) -> np.ndarray:
    return np.array(ranks)[None]


RISING = np.arange(1, 21) / 250  # sums to 0.84
BEST = list(range(19, -1, -1))  # the last step counts most
WORST = list(range(20))


def measure(batch, ranks, **options):
    return measure_faithfulness(
        Linear().eval(), batch, "video", [1] * len(batch), ranks, **{"operator": "silence", **options}
    )


def made(num_clips: int, value: float) -> Faithfulness:
    shapes = [(num_clips, 5), (num_clips, 5), (num_clips,), (num_clips,), *[(num_clips, 9)] * 3]
    return Faithfulness(*(np.full(shape, value) for shape in shapes))


def test_by_hand():
    found = measure(faces(RISING), {"best": order(BEST), "worst": order(WORST)})
    # Shares 1, 5, 10, 20 and 50 % of 20 steps are 1 (at least), 1, 2, 4 and 10 steps.
    top = np.array([20, 20, 39, 74, 155]) / 250
    low = np.array([1, 1, 3, 10, 55]) / 250
    np.testing.assert_allclose(found["best"].comprehensiveness[0], top, atol=1e-6)
    np.testing.assert_allclose(found["best"].sufficiency[0], 0.84 - top, atol=1e-6)
    np.testing.assert_allclose(found["worst"].comprehensiveness[0], low, atol=1e-6)
    np.testing.assert_allclose(found["worst"].sufficiency[0], 0.84 - low, atol=1e-6)
    assert found["best"].measures()["comprehensiveness"][0] == pytest.approx(top.mean(), abs=1e-6)
    assert found["best"].measures()["sufficiency"][0] == pytest.approx(0.84 - top.mean(), abs=1e-6)


def test_areas_by_hand():
    # With more levels the areas stand on 0, 1, 2, 4, 7, 10, 13, 16 and 20 of 20 steps.
    counts = np.array([0, 1, 2, 4, 7, 10, 13, 16, 20])
    held = np.array([RISING[::-1][:n].sum() for n in counts])
    found = measure(faces(RISING), {"best": order(BEST)})["best"]
    area = np.trapezoid(held, counts / 20)
    assert found.insertion_auc[0] == pytest.approx(area, abs=1e-6)
    assert found.deletion_auc[0] == pytest.approx(0.84 - area, abs=1e-6)
    coarse = measure(faces(RISING), {"best": order(BEST)}, fractions=[0.5], more_levels=[])["best"]
    assert coarse.insertion_auc[0] == pytest.approx((0.25 * 155 + 0.25 * (155 + 210)) / 250, abs=1e-6)


def test_a_clip_of_equal_moments_has_the_same_numbers_in_any_order():
    flat = [0.8 / 20] * 20
    found = measure(faces(flat), {"best": order(BEST), "worst": order(WORST)})
    for score in found.values():
        np.testing.assert_allclose(score.comprehensiveness[0], 0.8 * np.array([1, 1, 2, 4, 10]) / 20, atol=1e-6)
        assert score.deletion_auc[0] == pytest.approx(0.4, abs=1e-6)
        assert score.insertion_auc[0] == pytest.approx(0.4, abs=1e-6)


def test_draws_are_averaged_and_do_not_mix_with_other_orders():
    both = np.array([[BEST], [WORST]])
    found = measure(faces(RISING), {"other": order(BEST), "drawn": both, "more": order(WORST)})
    for measured in ("comprehensiveness", "sufficiency", "deletion_auc", "insertion_auc"):
        best, drawn, worst = (getattr(found[n], measured) for n in ("other", "drawn", "more"))
        np.testing.assert_allclose(drawn, (best + worst) / 2)
        assert np.abs(best - worst).max() > 0.01


def test_shares_are_of_the_clips_own_time():
    batch = faces(RISING, [0.1, 0.3, 0.2, 0.1])
    ranks = order(BEST, [2, 0, 1, 3] + [20] * 16)
    found = measure(batch, {"a": ranks})["a"]
    np.testing.assert_allclose(found.comprehensiveness[1], [0.3, 0.3, 0.3, 0.3, 0.5], atol=1e-6)
    alone = measure(faces([0.1, 0.3, 0.2, 0.1], num_steps=4), {"a": ranks[:, 1:, :4]})["a"]
    assert found.insertion_auc[1] == pytest.approx(alone.insertion_auc[0])


def test_excision_agrees_where_what_is_gone_says_nothing():
    orders = {"best": order(BEST), "worst": order(WORST)}
    zeros, cut = (measure(faces(RISING), orders, operator=op) for op in ("silence", "excise"))
    for name in orders:
        np.testing.assert_allclose(zeros[name].comprehensiveness, cut[name].comprehensiveness, atol=1e-6)
        np.testing.assert_allclose(zeros[name].deletion_auc, cut[name].deletion_auc, atol=1e-6)


def test_deletion_and_comprehensiveness_share_answers():
    model = Linear().eval()
    measure_faithfulness(model, faces(RISING), "video", [1], {"a": order(BEST)}, operator="silence")
    # Counts 1, 2, 4, 7, 10, 13 and 16 without and alone, the clip itself and nothing at all.
    assert model.num_rows == 2 * 7 + 2


def test_the_emotion_asked_about_is_the_one_followed():
    batch = faces(RISING, RISING)
    found = measure_faithfulness(Linear().eval(), batch, "video", [1, 0], {"a": order(BEST, BEST)}, operator="silence")[
        "a"
    ]
    np.testing.assert_allclose(found.comprehensiveness[1], -found.comprehensiveness[0], atol=1e-9)


def test_a_clip_without_the_modality_has_no_numbers():
    batch = faces(RISING, [])
    found = measure(batch, {"a": order(BEST, [20] * 20)})["a"]
    assert np.isfinite(found.comprehensiveness[0]).all()
    assert all(np.isnan(values[1]).all() for values in vars(found).values())


def test_an_answer_that_is_no_number_is_an_error():
    class Divider(Linear):
        def forward(self, batch: Batch) -> Output:
            count = batch.feature_mask.sum(dim=1)
            mean = (batch.face_features[..., 0] * batch.feature_mask).sum(dim=1) / count
            return Output(torch.stack([mean, -mean], dim=1), {})

    with pytest.raises(AvserError, match="excise"):
        measure_faithfulness(Divider().eval(), faces(RISING), "video", [1], {"a": order(BEST)}, operator="excise")


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="fractions"):
        measure(faces(RISING), {"a": order(BEST)}, fractions=[0.0, 0.1])
    with pytest.raises(ValueError, match="between 0 and 1"):
        measure(faces(RISING), {"a": order(BEST)}, more_levels=[1.5])
    with pytest.raises(ValueError, match="ranks of a"):
        measure(faces(RISING), {"a": order(BEST[:5])})


def test_clips_follow_one_another():
    one, other = made(2, 1.0), made(1, 4.0)
    both = concatenate([one, other])
    assert both.comprehensiveness.shape == (3, 5)
    assert both.deletion_auc.tolist() == [1, 1, 4]
    assert both.without.shape == (3, 9)


def test_models_are_averaged_clip_by_clip():
    both = average([made(2, 1.0), made(2, 4.0)])
    assert all((values == 2.5).all() for values in vars(both).values())
    assert both.alone.shape == (2, 9)


def test_the_course_is_what_areas_are_taken_of():
    found = measure(faces(RISING, RISING[:4]), {"a": order(BEST, [*BEST[-4:], *[20] * 16])})["a"]
    for i, length in enumerate((20, 4)):
        held = np.array([RISING[:length][::-1][: round(n)].sum() for n in found.shares[i] * length])
        np.testing.assert_allclose(found.alone[i], held, atol=1e-6)
        np.testing.assert_allclose(found.without[i], RISING[:length].sum() - held, atol=1e-6)
        assert np.trapezoid(found.alone[i], found.shares[i]) == pytest.approx(found.insertion_auc[i])
    assert found.shares[0].tolist() == [0, 0.05, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 1]
