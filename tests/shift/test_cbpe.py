import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.isotonic import IsotonicRegression

from corrigible.errors import DataError, InvalidParameterError
from corrigible.shift import CBPE
from corrigible.shift._score_table import COARSE_SCORES, N_CELLS, cells_of, coarse_cells_of

ALL = ("accuracy", "roc_auc", "precision", "recall", "specificity", "f1", "log_loss", "brier", "confusion_matrix")


def drawn(rng, n, *, mean=0.0, sharp=1.5):
    logit = 1.5 * rng.normal(size=n) + mean
    y = (rng.uniform(size=n) < 1 / (1 + np.exp(-logit))).astype(int)
    return y, 1 / (1 + np.exp(-sharp * logit))


def realised(y, p, pred):
    confusion = sk.confusion_matrix(y, pred) / len(y)
    return {
        "accuracy": sk.accuracy_score(y, pred),
        "roc_auc": sk.roc_auc_score(y, p),
        "precision": sk.precision_score(y, pred),
        "recall": sk.recall_score(y, pred),
        "specificity": sk.recall_score(1 - y, 1 - pred),
        "f1": sk.f1_score(y, pred),
        "log_loss": sk.log_loss(y, p),
        "brier": sk.brier_score_loss(y, p),
        **{f"true_{a}_pred_{b}": confusion[a, b] for a, b in np.ndindex(2, 2)},
    }


@pytest.mark.parametrize("n", [900, 40_000])
def test_two_classes_against_draws_of_labels(rng, n):
    """With known probabilities, mean and spread of scikit-learn's metrics over drawn labels are the answer."""
    p = rng.beta(0.8, 1.2, size=n)
    pred = (p > 0.4).astype(int)
    estimator = CBPE(metric=ALL, calibration="none").fit(np.arange(1_000_000) % 2, np.full(1_000_000, 0.5))
    found = estimator.estimate(p, pred)
    draws = [realised((rng.uniform(size=n) < p).astype(int), p, pred) for _ in range(60 if n < 1000 else 8)]
    for name, estimate in found.items():
        values = np.array([d[name] for d in draws])
        assert abs(estimate.value - values.mean()) < 4 * values.std() / np.sqrt(len(draws)) + 2e-5, name
        assert 0.6 < estimate.standard_error / values.std() < 1.8, name


def test_three_classes_against_draws_of_labels(rng):
    n = 800
    p = rng.dirichlet([1.0, 0.7, 0.5], size=n)
    pred = p.argmax(axis=1)
    every = rng.integers(3, size=300_000)
    estimator = CBPE(metric=("accuracy", "roc_auc", "f1", "log_loss", "brier"), calibration="none")
    found = estimator.fit(every, np.full((every.size, 3), 1 / 3)).estimate(p)
    draws = []
    for _ in range(60):
        y = (rng.uniform(size=(n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(max=2)
        draws.append([
            sk.accuracy_score(y, pred), sk.roc_auc_score(y, p, multi_class="ovr"),
            sk.f1_score(y, pred, average="macro"),
            sk.log_loss(y, p), ((np.eye(3)[y] - p) ** 2).sum(axis=1).mean(),
        ])  # fmt: skip
    for estimate, values in zip(found.values(), np.array(draws).T, strict=True):
        assert abs(estimate.value - values.mean()) < 4 * values.std() / np.sqrt(60) + 1e-3
        assert 0.7 < estimate.standard_error / values.std() < 1.5


def test_isotonic_map_is_scikit_learns(rng):
    y, p = drawn(rng, 5000)
    ours = CBPE(calibration="isotonic").fit(y, p).predict_proba(p)[:, 1]
    theirs = IsotonicRegression(out_of_bounds="clip", y_min=0, y_max=1).fit(p, y).predict(p)
    # Scores that share a cell are pooled first, so single blocks may differ by a row or two.
    assert np.abs(ours - theirs).mean() < 1e-3
    assert np.abs(ours.mean() - theirs.mean()) < 1e-4


def test_cells_agree_with_rows(rng):
    """From 16384 rows on, rows are summed by score cell; the same rows in small chunks are not."""
    (y, p), (_, q) = drawn(rng, 50_000), drawn(rng, 20_000, mean=0.5)
    estimator = CBPE(metric=ALL).fit(y, p)
    whole = estimator.estimate(q)
    parts = estimator.estimate(q, chunks=5_000)
    for name in ("accuracy", "log_loss", "brier", "true_1_pred_0"):
        assert np.mean([e.value for e in parts[name]]) == pytest.approx(whole[name].value, abs=5e-5)


def test_calibrates_only_where_it_helps(rng):
    assert CBPE().fit(*drawn(rng, 20_000, sharp=1.6)).calibrated_ == (True,)
    kept = [CBPE().fit(*drawn(rng, 2_000, sharp=1.0)).calibrated_ == (False,) for _ in range(30)]
    assert np.mean(kept) > 0.4


def test_batches_are_the_whole(rng):
    (y, p), (_, q) = drawn(rng, 30_000), drawn(rng, 30_000, mean=1.0)
    whole, streamed = CBPE().fit(y, p), CBPE()
    for rows in np.array_split(np.arange(30_000), [7, 1_000, 21_000]):
        streamed.partial_fit(y[rows], p[rows])
    expected = whole.estimate(q)
    found = streamed.estimate_batches(
        zip(np.array_split(q, 9), np.array_split((q > 0.5).astype(int), 9), strict=True)
    )
    for name, estimate in expected.items():
        assert found[name].value == pytest.approx(estimate.value, abs=1e-9)
        assert found[name].standard_error == pytest.approx(estimate.standard_error, rel=1e-6)


def test_interval_covers_realised_accuracy(rng):
    """Reference and chunk of equal size: the interval must hold both chances."""
    held = []
    for _ in range(100):
        (y, p), (z, q) = drawn(rng, 2_000), drawn(rng, 2_000, mean=0.4)
        e = CBPE(metric=("accuracy", "roc_auc"), calibration="isotonic").fit(y, p).estimate(q)
        truth = {"accuracy": ((q > 0.5) == z).mean(), "roc_auc": sk.roc_auc_score(z, q)}
        held.append([e[m].low <= truth[m] <= e[m].high for m in truth])
    assert (np.mean(held, axis=0) > 0.88).all()


def test_chunk_ids_and_business_value(rng):
    (y, p), (_, q) = drawn(rng, 4_000), drawn(rng, 3_000)
    estimator = CBPE(metric=("business_value", "confusion_matrix"), business_value=[[0, -2], [-5, 3]]).fit(y, p)
    ids = rng.choice(["b", "a", "c"], size=3_000)
    found = estimator.estimate(q, chunks=ids)
    assert len(found["business_value"]) == 3
    again = estimator.estimate(q[ids == "b"])
    assert found["business_value"][1] == again["business_value"]
    counts = [again[f"true_{a}_pred_{b}"].value for a, b in ((0, 1), (1, 0), (1, 1))]
    assert again["business_value"].value == pytest.approx(np.dot([-2, -5, 3], counts))


@pytest.mark.parametrize("loss", ["zero_one", "log", "brier"])
@pytest.mark.parametrize("k", [2, 4])
def test_expected_loss_averages_to_the_metric(rng, loss, k):
    p, y = rng.dirichlet(np.ones(k), size=2_000), rng.integers(k, size=2_000)
    estimator = CBPE(metric=("accuracy", "log_loss", "brier")).fit(y, p)
    found, rows = estimator.estimate(p), estimator.expected_loss(p, loss)
    metric = {
        "zero_one": 1 - found["accuracy"].value,
        "log": found["log_loss"].value,
        "brier": found["brier"].value,
    }
    assert rows.shape == (2_000,)
    assert rows.mean() == pytest.approx(metric[loss], abs=1e-9)


def test_cells_are_ordered_and_fine():
    p = np.sort(
        np.r_[0.0, 10.0 ** -np.arange(1.0, 300, 7), np.linspace(0, 1, 5001), 1 - 10.0 ** -np.arange(1.0, 16)]
    )
    cell = cells_of(p)
    assert (np.diff(cell) >= 0).all()
    assert (cell.min(), cell.max()) == (0, N_CELLS - 1)
    near = np.minimum(p, 1 - p)
    assert (np.abs(COARSE_SCORES[coarse_cells_of(p)] - p) <= 0.005 * near + 2e-16).all()


def test_extremes():
    y, p = np.array([0, 1]), np.array([0.0, 1.0])
    found = CBPE(metric=ALL).fit(y, p).estimate(p)
    assert found["accuracy"].value == 1
    assert np.isfinite([e.value for e in found.values()]).all()
    assert np.isnan(CBPE(metric="roc_auc").fit([1, 1], p).estimate([0.0]).value)


def test_errors(rng):
    y, p = drawn(rng, 100)
    with pytest.raises(InvalidParameterError, match="Did you mean 'roc_auc'"):
        CBPE(metric="rocauc").fit(y, p)
    with pytest.raises(InvalidParameterError, match="business_value"):
        CBPE(metric="business_value").fit(y, p)
    with pytest.raises(DataError, match="pred_proba"):
        CBPE().fit(y, p - 0.5)
    with pytest.raises(DataError, match="y_pred"):
        CBPE().fit(y, p).estimate(p, y[:7])


def test_one_metric_gives_one_estimate(rng):
    y, p = drawn(rng, 500)
    several = CBPE(metric=("accuracy", "confusion_matrix")).fit(y, p).estimate(p)
    alone = CBPE(metric="accuracy").fit(y, p, y_pred=(p > 0.5).astype(int))
    assert alone.estimate(p) == several["accuracy"]
    assert alone.estimate_batches([p[:200], p[200:]]).value == pytest.approx(several["accuracy"].value, abs=1e-4)
    assert [e.value for e in alone.estimate(p, chunks=250)] == [alone.estimate(q).value for q in (p[:250], p[250:])]
    matrix = CBPE(metric="confusion_matrix").fit(y, p).estimate(p)  # one metric, of several numbers
    assert matrix == {name: e for name, e in several.items() if name != "accuracy"}
