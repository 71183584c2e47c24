"""What a saved state belongs to: settings that its weights depend on, whether they were there from the first or not."""

from avser.config import load_config
from avser.data.splits import Split
from avser.training.fit import state_key

SPLIT = Split(protocol="p", train=["a"], val=["b"], test=["c"])


def key(*sources):
    return state_key(load_config(list(sources)), SPLIT)


def test_what_weights_do_not_depend_on_may_change():
    same = key("name=other", "runs=elsewhere", "training.trackers=[]", "roi.kappa=2")
    assert same == key() != key("seed=1")


def test_every_setting_that_came_later_counts_where_it_is_not_at_its_default():
    assert len({key(), key("training.accumulate=2"), key("training.compile=true")}) == 3


def test_states_from_before_those_settings_are_still_of_the_same_run():
    """The key of the default configuration as it was before any of ADDED_SETTINGS was there."""
    assert key() == "1f5a66f3a95c5028"
