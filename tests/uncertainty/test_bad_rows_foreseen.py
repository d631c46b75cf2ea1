"""What both rooms that foresee errors refuse, in one sentence, and constant scores, which they must live with."""

import numpy as np
import pytest

from corrigible.errors import DataError
from corrigible.shift import CBPE, MCBPE, DirectLossEstimation, ImportanceWeighting
from corrigible.uncertainty import (
    CQR,
    SplitConformal,
    SplitConformalClassifier,
    TemperatureScaling,
    calibration_error,
    reject_curve,
    score_decomposition,
)

N = 60
LABELS, HALF, ZERO = np.arange(N) % 2, np.full((N, 2), 0.5), np.zeros(N)
WEIGHTED = {
    "intervals": lambda w: SplitConformal().fit(ZERO, LABELS, sample_weight=w),
    "sets": lambda w: SplitConformalClassifier().fit(HALF, LABELS, sample_weight=w),
    "quantiles": lambda w: CQR().fit(HALF, LABELS, sample_weight=w),
    "calibrator": lambda w: TemperatureScaling().fit(HALF, LABELS, w),
    "measure": lambda w: calibration_error(LABELS, HALF, sample_weight=w),
    "decomposition": lambda w: score_decomposition(LABELS, HALF, sample_weight=w),
    "rejection": lambda w: reject_curve(LABELS, ZERO, sample_weight=w),
    "importance": lambda w: (
        ImportanceWeighting()
        .fit(HALF, LABELS, HALF)
        .estimate(None, HALF, reference_weight=w)  # a density ratio of 0
    ),
    "loss": lambda w: DirectLossEstimation(cv=2).fit(None, LABELS, ZERO).estimate(None, ZERO, reference_weight=w),
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_weights_that_are_all_zero(name):
    with pytest.raises(DataError, match="'sample_weight' of .* must not be all zero"):
        WEIGHTED[name](ZERO)
    WEIGHTED[name](np.ones(N))


@pytest.mark.parametrize("made", [lambda: CBPE(), lambda: MCBPE(cv=2)])
def test_constant_scores_have_the_accuracy_of_the_labels_and_an_auc_of_a_half(made):
    inputs = () if isinstance(made(), CBPE) else (np.zeros((N, 1)),)
    found = made().fit(*inputs, LABELS, HALF).estimate(*inputs, HALF)
    assert found["accuracy"].value == pytest.approx(0.5)
    assert found["roc_auc"].value == pytest.approx(0.5)
    assert found["accuracy"].low < 0.5 < found["accuracy"].high


def test_constant_scores_of_the_other_methods():
    assert TemperatureScaling().fit(HALF, LABELS).temperature_ == 1.0
    assert SplitConformalClassifier().fit(HALF, LABELS).predict_set(HALF[:1]).all()
    assert reject_curve(LABELS, ZERO).aurc == pytest.approx(0.5)
    parts = score_decomposition(LABELS, HALF)
    assert (parts.miscalibration, parts.discrimination) == pytest.approx((0.0, 0.0))
