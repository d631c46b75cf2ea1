import numpy as np
import pytest

from corrigible.compare import mil_bags, mil_unit_tests
from corrigible.errors import DataError, InvalidParameterError

TESTS = ("single_concept", "poisoned_threshold", "false_frequency")


class Rule:
    """A fixed score of a bag."""

    def __init__(self, score):
        self.score = score

    def fit(self, bags, y):
        return self

    def decision_function(self, bags):
        return np.array([self.score(bag) for bag in bags])


def verdicts(result):
    return [t.verdict for t in result.tests]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("test", TESTS)
def test_labels_follow_the_planted_concepts(test, turned):
    """The independent reference: concepts counted from the instances, a bag at a time."""
    bags, y = mil_bags(test, n_bags=100, turned=turned, rng=3)
    assert y.sum() == 50
    for bag, label in zip(bags, y, strict=True):
        # Tail of the background: a standard normal beyond 2.8 in 1 of 400 instances, so cells are told by both ends.
        a, b = (np.sort(bag[:, j])[::-1] for j in (0, 1))
        truth = a[0] > 2.8 if test == "single_concept" else min(a[0], b[0]) > 2.8
        if truth != label:  # only background may deceive, and then only just
            assert not label
            assert min(a[0], b[0] if test != "single_concept" else a[0]) < 4.0
        poison = (bag[:, 2] < -5).any()
        assert poison == (test != "false_frequency" and label == turned)
        assert bag.shape[1] == 16
        assert np.isfinite(bag).all()


def test_counts_turn_in_false_frequency():
    for turned in (False, True):
        bags, y = mil_bags("false_frequency", n_bags=60, turned=turned, rng=0)
        counts = np.array([(bag[:, :2] > 2.8).sum() for bag in bags])
        often = counts >= 6
        np.testing.assert_array_equal(often, (y == 1) != turned)


def test_a_conforming_rule_passes():
    result = mil_unit_tests(Rule(lambda bag: bag[:, :2].max(axis=0).sum()), rng=0)
    assert result.passed
    assert result.violated == ()
    assert verdicts(result) == ["passed"] * 3


def test_absence_of_poison_is_caught():
    """A rule that calls bags positive unless they hold poison is perfect in training and wrong everywhere after."""
    result = mil_unit_tests(Rule(lambda bag: float(not (bag[:, 2] < -5).any())), rng=0)
    assert verdicts(result)[:2] == ["violated", "violated"]
    assert [(t.train_auroc, t.test_auroc) for t in result.tests[:2]] == [(1.0, 0.0)] * 2
    assert result.tests[2].verdict == "not learnt"
    assert result.tests[2].train_auroc == 0.5


def test_counting_is_caught_by_false_frequency_alone():
    result = mil_unit_tests(Rule(lambda bag: float((bag[:, :2] > 2.8).sum())), rng=0)
    assert result.violated == ("false_frequency",)
    assert result.tests[2].train_auroc == 1.0
    assert result.tests[2].test_auroc == 0.0


def test_probabilities_serve_and_constant_scores_are_not_learnt():
    class Half:
        def fit(self, bags, y):
            return self

        def predict_proba(self, bags):
            return np.full((len(bags), 2), 0.5)

    assert verdicts(mil_unit_tests(Half(), n_bags=10, rng=0)) == ["not learnt"] * 3


def test_a_score_between_is_unclear():
    """Right on the concept, with noise of its own."""
    noise = np.random.default_rng(0)
    result = mil_unit_tests(Rule(lambda bag: bag[:, 0].max() + 1.5 * noise.normal()), rng=0, pass_at=1.0)
    assert result.tests[0].verdict == "unclear"


def test_the_model_given_stays_as_it_is():
    class Counts:
        fits = 0

        def fit(self, bags, y):
            self.fits += 1

        def decision_function(self, bags):
            assert self.fits == 1
            return np.arange(len(bags), dtype=float)

    model = Counts()
    mil_unit_tests(model, n_bags=4, rng=0)
    assert model.fits == 0


def test_same_seed_same_bags():
    first, second = (mil_bags("single_concept", n_bags=6, rng=7)[0] for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_bad_input():
    with pytest.raises(InvalidParameterError, match="single_concept"):
        mil_bags("single")
    with pytest.raises(InvalidParameterError, match="n_features"):
        mil_bags("single_concept", n_features=2)
    with pytest.raises(DataError, match="one finite score a bag"):
        mil_unit_tests(Rule(lambda bag: np.nan), n_bags=4, rng=0)
    with pytest.raises(InvalidParameterError, match="pass_at"):
        mil_unit_tests(Rule(lambda bag: 0.0), pass_at=0.2)
