import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier

from corrigible._core.fixed_simplex import regular_simplex
from corrigible.compare import SimplexClassifier, compatibility_matrix
from corrigible.errors import DataError, InvalidParameterError

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def models():
    X, y = load_iris(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    old = SimplexClassifier(n_slots=6, max_iter=40, random_state=0).fit(X[y < 2], y[y < 2])
    return X, y, old


@pytest.mark.parametrize("k", [2, 3, 10, 200])
def test_corners_are_a_regular_simplex(k):
    corners = regular_simplex(k)
    gram = corners @ corners.T
    np.testing.assert_allclose(np.diag(gram), 1.0, atol=1e-12)
    np.testing.assert_allclose(gram[~np.eye(k, dtype=bool)], -1 / (k - 1), atol=1e-12)
    np.testing.assert_allclose(corners.sum(axis=0), 0.0, atol=1e-12)


def test_it_learns_and_puts_classes_at_their_corners(models):
    X, y, old = models
    assert old.score(X[y < 2], y[y < 2]) == 1.0
    features = old.transform(X[y < 2])
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    nearest = (features @ old.prototypes_.T).argmax(axis=1)
    np.testing.assert_array_equal(nearest, y[y < 2])
    np.testing.assert_allclose(old.predict_proba(X).sum(axis=1), 1.0)
    assert old.decision_function(X).shape == (150,)


def test_new_classes_take_free_corners_and_old_ones_stay(models):
    X, y, old = models
    new = SimplexClassifier(n_slots=6, old=old, max_iter=40, random_state=1).fit(X, y)
    assert {k: new.slots_[k] for k in old.slots_} == old.slots_
    assert new.slots_ == {0: 0, 1: 1, 2: 2}
    assert new.score(X, y) > 0.9
    chosen = SimplexClassifier(n_slots=6, slots={0: 5}, max_iter=1, random_state=0).fit(X, y)
    assert chosen.slots_ == {0: 5, 1: 0, 2: 1}


def test_training_lowers_the_contrastive_term(models):
    from corrigible.compare._simplex_classifier import _unit, hoc_loss

    X, y, old = models
    rows, labels = X[y < 2], y[y < 2]

    def loss(weight):
        new = SimplexClassifier(n_slots=6, old=old, warm_start_old=False, hoc_weight=weight, max_iter=40,
                                random_state=3).fit(rows, labels)  # fmt: skip
        features = [torch.tensor(_unit(m.transform(rows))) for m in (new, old)]
        return float(hoc_loss(*features, torch.tensor(labels), 10.0))

    assert loss(0.9) < loss(0.0)


def test_hoc_loss_is_the_formula_row_by_row(rng):
    from corrigible.compare._simplex_classifier import hoc_loss

    old, new = rng.normal(size=(2, 7, 4))
    labels = np.array([0, 0, 1, 1, 2, 2, 2])
    total = 0.0
    for i in range(7):
        other = [np.exp(3.0 * old[i] @ new[j]) for j in range(7) if labels[j] != labels[i]]
        total += -3.0 * old[i] @ new[i] + np.log(sum(other))
    found = hoc_loss(torch.tensor(new), torch.tensor(old), torch.tensor(labels), 3.0)
    assert float(found) == pytest.approx(total / 7)
    alone = hoc_loss(torch.tensor(new), torch.tensor(old), torch.zeros(7), 3.0)
    assert float(alone) == pytest.approx(-3.0 * (old * new).sum(axis=1).mean())


@pytest.mark.parametrize("templates", [False, True])
def test_matrix_is_that_of_nearest_neighbours(rng, templates):
    y, z = np.arange(40) % 4, np.arange(60) % 4
    queries = [rng.normal(size=(40, 5)) + 2 * np.eye(4, 5)[y] for _ in range(3)]
    galleries = [rng.normal(size=(60, 5)) + 2 * np.eye(4, 5)[z] for _ in range(3)]
    found = compatibility_matrix(queries, galleries, y, z, templates=templates)
    for i in range(3):
        for j in range(i + 1):
            entries, names = galleries[j], z
            if templates:
                unit = entries / np.linalg.norm(entries, axis=1, keepdims=True)
                entries, names = np.stack([unit[z == c].mean(axis=0) for c in range(4)]), np.arange(4)
            nearest = KNeighborsClassifier(1, metric="cosine").fit(entries, names)
            assert found.matrix[i, j] == pytest.approx(nearest.score(queries[i], y))
    assert np.isnan(found.matrix[np.triu_indices(3, 1)]).all()
    met = [found.matrix[i, j] > found.matrix[j, j] for i in range(3) for j in range(i)]
    assert found.average_compatibility == pytest.approx(np.mean(met))
    assert found.average_accuracy == pytest.approx(np.nanmean(found.matrix))


def test_one_model_has_no_pairs():
    assert np.isnan(compatibility_matrix([np.eye(2)], [np.eye(2)], [0, 1], [0, 1]).average_compatibility)


def test_what_is_refused(models):
    X, y, old = models
    with pytest.raises(DataError, match="corner of its own"):
        SimplexClassifier(n_slots=2, max_iter=1).fit(X, y)
    with pytest.raises(DataError, match="corner of its own"):
        SimplexClassifier(n_slots=6, slots={0: 1, 1: 1}, max_iter=1).fit(X, y)
    with pytest.raises(InvalidParameterError, match="'old'"):
        SimplexClassifier(n_slots=7, old=old).fit(X, y)
    with pytest.raises(InvalidParameterError, match="'hoc_weight'"):
        SimplexClassifier(hoc_weight=1.0).fit(X, y)
    with pytest.raises(DataError, match="one feature row"):
        compatibility_matrix([X], [X], y[:5], y)
    with pytest.raises(DataError, match="same number of columns"):
        compatibility_matrix([X], [X[:, :2]], y, y)
