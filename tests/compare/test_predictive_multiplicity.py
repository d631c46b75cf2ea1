import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from corrigible._core.logistic_level_set import LogisticLoss, extreme_models, principal_directions
from corrigible.compare import PredictiveMultiplicity
from corrigible.errors import DataError, InvalidParameterError


def table(rng, n=120, d=4):
    X = rng.normal(size=(n, d)) * np.geomspace(1, 100, d) + 5
    z = (X - X.mean(axis=0)) / X.std(axis=0) @ np.linspace(1, -1, d)
    return X, (z + rng.logistic(size=n) > 0).astype(int)


def objective(theta, design, y, l2):
    """Penalised mean log loss, a term at a time."""
    z = design @ theta
    return np.mean(np.logaddexp(0, -np.where(y == 1, z, -z))) + l2 / 2 * np.sum(theta[1:] ** 2)


def slope(theta, design, y, l2):
    return design.T @ (expit(design @ theta) - y) / len(y) + l2 * np.r_[0, theta[1:]]


def solved(x, start, level, *data):
    """Greatest score of x over the level set, by a general solver."""
    bound = {"type": "ineq", "fun": lambda t: level - objective(t, *data), "jac": lambda t: -slope(t, *data)}
    found = minimize(lambda t: -x @ t, start, jac=lambda t: -x, method="SLSQP", constraints=[bound],
                     options={"ftol": 1e-13, "maxiter": 500})  # fmt: skip
    return -found.fun


@pytest.mark.parametrize("epsilon", [1e-3, 0.05, 1.0])
def test_ranges_are_those_of_a_general_solver(rng, epsilon):
    X, y = table(rng)
    found = PredictiveMultiplicity(epsilon=epsilon, l2=0.01).fit(X, y)
    design = np.column_stack([np.ones(len(X)), (X - X.mean(axis=0)) / X.std(axis=0)])
    start = minimize(objective, np.zeros(5), args=(design, y, 0.01), jac=slope, tol=1e-12, method="BFGS").x
    least = objective(start, design, y, 0.01)
    assert found.loss_ == pytest.approx(least, rel=1e-9)
    for i in range(4):
        low, high = (s * solved(s * design[i], start, (1 + epsilon) * least, design, y, 0.01) for s in (-1, 1))
        assert found.ranges_[i] == pytest.approx(expit([low, high]), abs=1e-6)


def test_ranges_against_a_grid_of_models(rng):
    """One feature, no others: all models can be listed."""
    X, y = table(rng, n=60, d=1)
    found = PredictiveMultiplicity(epsilon=0.05, l2=0.01).fit(X, y)
    design = np.column_stack([np.ones(60), (X - X.mean()) / X.std()])
    theta = np.stack(np.meshgrid(np.linspace(-2, 2, 801), np.linspace(-1, 3, 801)), axis=-1).reshape(-1, 2)
    z = theta @ design.T
    loss = np.logaddexp(0, np.where(y == 1, -z, z)).mean(axis=1) + 0.005 * theta[:, 1] ** 2
    inside = z[loss <= 1.05 * loss.min()]
    listed = expit(np.column_stack([inside.min(axis=0), inside.max(axis=0)]))
    assert (listed[:, 0] >= found.ranges_[:, 0] - 1e-3).all()
    assert (listed[:, 1] <= found.ranges_[:, 1] + 1e-3).all()
    np.testing.assert_allclose(listed, found.ranges_, atol=5e-3)
    moved = np.abs(expit(inside) - found.proba_)
    low, high = found.discrepancy(0.05).low, found.discrepancy(0.05).high
    assert low == pytest.approx((moved >= 0.05).mean(axis=1).max(), abs=0.05)
    assert low <= high <= found.ambiguity(0.05)
    assert (moved >= 0.05).mean(axis=1).max() <= high
    assert found.ambiguity(0.05) == pytest.approx((moved.max(axis=0) >= 0.05).mean(), abs=0.03)


def test_baseline_is_the_penalised_regression(rng):
    X, y = table(rng)
    standard = (X - X.mean(axis=0)) / X.std(axis=0)
    reference = LogisticRegression(C=1 / (0.01 * len(y)), tol=1e-10, max_iter=1000).fit(standard, y)
    found = PredictiveMultiplicity(l2=0.01).fit(X, y)
    np.testing.assert_allclose(found.proba_, reference.predict_proba(standard)[:, 1], atol=1e-5)
    np.testing.assert_allclose(expit(X @ found.coef_ + found.intercept_), found.proba_, atol=1e-12)


def test_small_tolerances_follow_the_quadratic_law(rng):
    """Near the minimum the set is an ellipsoid: the range of a score is twice sqrt(2 epsilon L x' H^-1 x)."""
    X, y = table(rng)
    found = PredictiveMultiplicity(epsilon=1e-8, l2=0.01).fit(X, y)
    design = np.column_stack([np.ones(len(X)), (X - X.mean(axis=0)) / X.std(axis=0)])
    curvature = found.proba_ * (1 - found.proba_) / len(X)
    inverse = np.linalg.inv((design * curvature[:, None]).T @ design + np.diag([0, *[0.01] * 4]))
    half = np.sqrt(2e-8 * found.loss_ * np.einsum("ij,jk,ik->i", design, inverse, design))
    np.testing.assert_allclose(np.diff(logit(found.ranges_))[:, 0], 2 * half, rtol=1e-3)


def test_units_order_and_repetition_change_nothing(rng):
    X, y = table(rng, n=60)
    found = PredictiveMultiplicity().fit(X, y)
    order = rng.permutation(60)
    for other, rows in ((PredictiveMultiplicity().fit(-1000 * X + 7, y), slice(None)),
                        (PredictiveMultiplicity().fit(X[order], y[order]), order),
                        (PredictiveMultiplicity().fit(np.tile(X, (3, 1)), np.tile(y, 3)), np.tile(np.arange(60), 3)),
                        (PredictiveMultiplicity().fit(np.column_stack([X, np.ones(60)]), y), slice(None)),
                        (PredictiveMultiplicity().fit(X.astype(np.float32).astype(float), y), slice(None))):  # fmt: skip
        np.testing.assert_allclose(other.ranges_, found.ranges_[rows], atol=1e-5)
    swapped = PredictiveMultiplicity().fit(X, 1 - y)
    np.testing.assert_allclose(swapped.ranges_, 1 - found.ranges_[:, ::-1], atol=1e-8)


def test_ranges_grow_with_the_tolerance_and_hold_the_baseline(rng):
    X, y = table(rng)
    widths = []
    for epsilon in (1e-4, 0.01, 0.1, 10.0):
        found = PredictiveMultiplicity(epsilon=epsilon).fit(X, y)
        low, high = found.ranges_.T
        assert ((low < found.proba_) & (found.proba_ < high)).all()
        widths.append(high - low)
        assert (found.ambiguous() == ((low < 0.5) & (high >= 0.5))).all()
        for delta in (0.01, 0.1):
            assert 0 <= found.discrepancy(delta).low <= found.discrepancy(delta).high <= found.ambiguity(delta)
    assert (np.diff(widths, axis=0) > 0).all()


def test_discrepancy_bounds_hold_any_model_of_the_set(rng):
    """Models drawn on the level set's border move no more rows than the upper bound, and few draws reach the lower."""
    X, y = table(rng, n=80)
    found = PredictiveMultiplicity(epsilon=0.02).fit(X, y)
    loss, best = found._loss, found._best
    models = extreme_models(loss, best, 1.02 * found.loss_, rng.normal(size=(2000, 5)))
    moved = np.abs(expit(models @ loss.design.T) - expit(best @ loss.design.T))
    for delta in (0.02, 0.05, 0.1):
        between = found.discrepancy(delta)
        low, high = between.low, between.high
        assert (moved >= delta).mean(axis=1).max() <= min(high, low + 0.05)
        assert high <= found.ambiguity(delta)
    assert found.discrepancy(0.1).high < found.ambiguity(0.1)


def test_new_rows_and_any_labels(rng):
    X, y = table(rng)
    found = PredictiveMultiplicity().fit(X, np.where(y == 1, "yes", "no"))
    np.testing.assert_array_equal(found.predict_range(X), found.ranges_)
    far = found.predict_range(X[:3] * 100)
    p = found.predict_proba(X[:3] * 100)[:, 1]
    assert (far[:, 0] <= p).all()
    assert (p <= far[:, 1]).all()
    assert set(found.predict(X)) <= {"yes", "no"}


def test_separable_rows_stay_finite():
    X = np.r_[np.linspace(-2, -1, 10), np.linspace(1, 2, 10)][:, None]
    found = PredictiveMultiplicity(l2=1e-6).fit(X, X[:, 0] > 0)
    assert np.isfinite(found.ranges_).all()
    assert (found.ranges_[10:, 0] > 0.9).all()
    anything = PredictiveMultiplicity(epsilon=1e6).fit(X, X[:, 0] > 0)
    np.testing.assert_allclose(anything.ranges_, np.tile([0, 1], (20, 1)), atol=1e-6)


def test_sampled_ranges_lie_within_the_exact_ones(rng):
    """Refits of the same logistic regression that are as good on the training rows are within the set."""
    X, y = table(rng, n=200)
    exact = PredictiveMultiplicity(epsilon=0.05, l2=0.01).fit(X, y)
    standard = (X - X.mean(axis=0)) / X.std(axis=0)
    design = np.column_stack([np.ones(200), standard])
    for _ in range(30):
        rows = rng.integers(200, size=200)
        model = LogisticRegression(C=1 / (0.01 * 200)).fit(standard[rows], y[rows])
        theta = np.r_[model.intercept_, model.coef_[0]]
        if objective(theta, design, y, 0.01) <= 1.05 * exact.loss_:
            p = expit(design @ theta)
            assert (exact.ranges_[:, 0] - 1e-9 <= p).all()
            assert (p <= exact.ranges_[:, 1] + 1e-9).all()


def test_any_estimator(rng):
    X, y = table(rng, n=200)
    tree = DecisionTreeClassifier(max_depth=2)
    found = PredictiveMultiplicity(tree, epsilon=0.2, n_candidates=20, random_state=0).fit(X, y)
    assert not found.exact_
    assert 0 < found.n_competing_ <= 20
    assert (found.ranges_[:, 0] <= found.proba_).all()
    assert (found.proba_ <= found.ranges_[:, 1]).all()
    again = PredictiveMultiplicity(tree, epsilon=0.2, n_candidates=20, random_state=0).fit(X, y)
    np.testing.assert_array_equal(again.ranges_, found.ranges_)
    between = found.discrepancy(0.1)
    low, high = between.low, between.high
    assert 0 < low == high <= found.ambiguity(0.1)
    none = PredictiveMultiplicity(tree, epsilon=1e-9, n_candidates=1, random_state=1).fit(X, y)
    assert none.n_competing_ == 0
    assert none.ambiguity(0.01) == 0.0
    listed = [DecisionTreeClassifier(max_depth=k) for k in (1, 2, 3)]
    chosen = PredictiveMultiplicity(tree, epsilon=10.0, candidates=listed, random_state=0).fit(X, y)
    assert chosen.n_competing_ == 3


def test_level_set_of_a_zero_query_and_principal_directions(rng):
    X, y = table(rng, n=50)
    design = np.column_stack([np.ones(50), X])
    loss = LogisticLoss(design, np.full(50, 0.02), y / 50, np.r_[0, np.full(4, 0.1)])
    best = loss.minimise()
    np.testing.assert_array_equal(extreme_models(loss, best, 1.0, np.zeros((1, 5)))[0], best)
    # Small moves along a principal query are uncorrelated with those along the others, over the rows.
    queries = principal_directions(loss, best)
    level = float(loss.values(best[None], (best @ design.T)[None])[0]) * (1 + 1e-8)
    moves = (extreme_models(loss, best, level, queries) - best) @ design.T
    products = moves @ moves.T
    np.testing.assert_allclose(products - np.diag(np.diag(products)), 0, atol=1e-3 * products.max())


def test_errors(rng):
    X, y = table(rng, n=30)
    with pytest.raises(DataError, match="one class"):
        PredictiveMultiplicity().fit(X, np.zeros(30))
    with pytest.raises(ValueError, match="binary"):
        PredictiveMultiplicity().fit(X, np.arange(30) % 3)
    with pytest.raises(InvalidParameterError, match="epsilon"):
        PredictiveMultiplicity(epsilon=0).fit(X, y)
    with pytest.raises(InvalidParameterError, match="need an 'estimator'"):
        PredictiveMultiplicity(candidates=[DecisionTreeClassifier()]).fit(X, y)
    with pytest.raises(DataError, match="two rows of each class"):
        PredictiveMultiplicity(DecisionTreeClassifier()).fit(X, np.arange(30) == 3)
    with pytest.raises(InvalidParameterError, match="delta"):
        PredictiveMultiplicity().fit(X, y).ambiguity(0)
