"""Bad input that any detector of wrong labels may get: an error of one sentence that names the argument, or a result."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from corrigible.data import (
    ActiveRelabelling,
    AreaUnderMargin,
    CellErrors,
    ClassImbalance,
    ConfidentLearning,
    DataMap,
    KNNShapley,
    LabelQuality,
    LabelQualityBenchmark,
    MultiAnnotator,
    NearDuplicates,
    NeighbourAgreement,
    NonIIDTest,
    OutlierScores,
    ZeroImputedSGD,
    missingness_report,
    missingness_study,
)
from corrigible.errors import DataError
from corrigible.models import TrainingDynamics

PROBA = np.full((6, 3), 1 / 3)
BAD_LABELS = {
    "beyond the classes": [0, 1, 2, 0, 1, 3],
    "below the classes": [0, 1, 2, 0, 1, -1],
    "fractions": [0, 1, 2, 0, 1, 0.5],
    "missing": [0, 1, 2, 0, 1, np.nan],
    "words": list("abcabc"),
    "too few": [0, 1, 2],
}


@pytest.mark.parametrize("labels", BAD_LABELS.values(), ids=BAD_LABELS)
@pytest.mark.parametrize("detector", [ConfidentLearning, LabelQuality])
def test_labels_that_do_not_number_the_columns(detector, labels):
    with pytest.raises(DataError, match=f"'labels' of {detector.__name__} must"):
        detector().fit(labels, PROBA)


@pytest.mark.parametrize("labels", [v for k, v in BAD_LABELS.items() if k != "beyond the classes"])
@pytest.mark.parametrize("detector", [NeighbourAgreement(k=2), ActiveRelabelling(n_folds=2)])
def test_labels_that_are_no_class_numbers(rng, detector, labels):
    with pytest.raises(DataError, match=f"'labels' of {type(detector).__name__} must"):
        detector.fit(rng.normal(size=(6, 2)), labels)


def test_whole_numbers_stored_as_floats_are_class_numbers():
    whole = [0, 1, 2, 0, 1, 2]
    for detector in (ConfidentLearning(random_state=0), LabelQuality()):
        as_int = detector.fit(whole, PROBA).issue_scores
        np.testing.assert_array_equal(detector.fit(np.array(whole, dtype=float), PROBA).issue_scores, as_int)


def test_probabilities_of_the_wrong_width():
    for detector in (ConfidentLearning(), LabelQuality()):
        with pytest.raises(DataError, match=r"must lie in 0 … 2 - 1"):
            detector.fit([0, 1, 2], np.full((3, 2), 0.5))
    batches = [([0, 1], np.full((2, 2), 0.5)), ([0, 1], np.full((2, 3), 1 / 3))]
    with pytest.raises(DataError, match="must have 2 columns"):
        ConfidentLearning().fit_batches(batches)
    with pytest.raises(DataError, match="must have shape"):
        DataMap().fit([0, 1], np.full((4, 2, 2, 2), 0.5))


def test_one_example_of_a_class(rng):
    X, y = rng.normal(size=(30, 3)), np.r_[np.zeros(15, int), np.ones(14, int), 2]
    proba = np.full((30, 3), 0.1)
    proba[np.arange(30), y] = 0.8
    found = ConfidentLearning(random_state=0).fit(y, proba)
    assert not found.issue_mask.any()
    assert ClassImbalance().fit(y).issue_mask.tolist() == [False] * 29 + [True]
    for detector in (NeighbourAgreement(k=3), KNNShapley(), ActiveRelabelling(random_state=0)):
        assert np.isfinite(detector.fit(X, y).issue_scores).all()
    with pytest.raises(DataError, match="Class 2 has 1"):
        LabelQualityBenchmark({"a": (X, y)}, {"linear": LogisticRegression()})


def test_more_annotators_than_rows():
    with pytest.raises(DataError, match="transpose"):
        MultiAnnotator().fit(np.zeros((3, 40)))


def test_columns_with_nothing_in_them(rng):
    full = pd.DataFrame(rng.normal(size=(40, 3)), columns=list("abc"))
    table = full.assign(gone=np.nan, none=None)
    report = missingness_report(table).columns
    assert report.loc[["gone", "none"], "missing"].tolist() == [1.0, 1.0]
    for detector in (NearDuplicates(), OutlierScores(), NonIIDTest(random_state=0), CellErrors()):
        with_gaps, without = (detector.fit(rows).issue_scores for rows in (table, full))
        np.testing.assert_allclose(with_gaps, without, atol=1e-6)
    sparse = table[["a", "gone"]].to_numpy(float)
    assert np.isfinite(ZeroImputedSGD(random_state=0).fit(sparse, full["b"]).predict(sparse)).all()
    study = missingness_study(
        LogisticRegression(), table[["a", "b", "gone"]], (full["a"] > 0).astype(int), rates=(0.2,),
        strategies=("mean", "knn"), n_repeats=2, rng=rng,
    )  # fmt: skip
    assert np.isfinite(study.table["loss"]).all()


@pytest.mark.parametrize("detector", [AreaUnderMargin(), DataMap()])
def test_an_epoch_that_is_missing(detector):
    record = TrainingDynamics([0, 1, 0])
    for epoch in (0, 2):
        record.record(epoch, [0, 1, 2], np.zeros((3, 2)))
    with pytest.raises(DataError, match="Epoch 1 .* holds no record"):
        detector.fit_dynamics(record)
