"""Scores and labels may be torch tensors, of half precision or with a gradient: the same answers as of arrays."""

import numpy as np
import pytest

import corrigible
from corrigible.uncertainty import (
    calibration_error,
    reliability_curve,
    score_decomposition,
    smooth_calibration_error,
)

torch = pytest.importorskip("torch")
CALIBRATORS = [
    name
    for name in corrigible.list_methods(room="uncertainty", kind="calibrator")
    if corrigible.card(name).inputs == "pred_proba, y"
]


@pytest.fixture(scope="module")
def tensors():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(400, 3, generator=generator, requires_grad=True)
    return logits, torch.distributions.Categorical(logits=logits.detach() / 2).sample()


def scores_for(method, logits):
    """Logits where a calibrator takes them, else probabilities."""
    return logits if "from_logits" in method.get_params() else torch.softmax(logits, dim=1)


def made(name):
    cls = corrigible.load(name)
    return cls(from_logits=True) if "from_logits" in cls().get_params() else cls()


@pytest.mark.parametrize("name", [c for c in CALIBRATORS if c != "correctness_aware_calibrator"])
def test_a_calibrator_takes_tensors(name, tensors):
    logits, y = tensors
    scores = scores_for(made(name), logits)
    assert scores.requires_grad
    of_tensors = made(name).fit(scores, y).predict_proba(scores)
    given = scores.detach().numpy()
    np.testing.assert_array_equal(of_tensors, made(name).fit(given, y.numpy()).predict_proba(given))
    assert scores.requires_grad


@pytest.mark.parametrize("name", ["temperature_scaling", "vector_scaling", "matrix_scaling"])
def test_logits_of_half_precision(name, tensors):
    logits, y = tensors
    half = logits.to(torch.bfloat16)
    found = made(name).fit(half, y).predict_proba(half)
    single = half.detach().float().numpy()
    np.testing.assert_array_equal(found, made(name).fit(single, y.numpy()).predict_proba(single))


@pytest.mark.parametrize(
    "measure", [calibration_error, smooth_calibration_error, score_decomposition, reliability_curve]
)
def test_a_measure_takes_tensors(measure, tensors):
    logits, y = tensors
    p = torch.softmax(logits, dim=1)
    of_tensors, of_arrays = measure(y, p), measure(y.numpy(), p.detach().numpy())
    if measure is reliability_curve:
        of_tensors, of_arrays = of_tensors.observed.tolist(), of_arrays.observed.tolist()
    assert of_tensors == of_arrays
