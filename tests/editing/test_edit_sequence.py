"""Sequences: stopped at the limit, taken back whole; and the knee of planted curves."""

import numpy as np
import pytest

from corrigible.errors import DataError, InvalidParameterError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from corrigible.editing import edit_sequence, forgetting_knee  # noqa: E402
from corrigible.models import Dense, Edit, EditRequest, applied_edits  # noqa: E402
from corrigible.testing._editors import bits  # noqa: E402

ASKED = [EditRequest("The capital of {} is", s, "Rome") for s in ("France", "Spain", "Italy", "Japan")]


class Noise:
    """An editor whose edits add noise of given sizes."""

    def __init__(self, *sizes):
        self.sizes = list(sizes)

    def propose(self, model, requests):
        delta = self.sizes.pop(0) * torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
        return Edit("noise", {f"{model.blocks[1].down}.weight": Dense(delta)})


def test_it_stops_at_the_knee(taught):
    model = taught()
    texts = ["The capital of France is Paris.", "The symbol of gold is Au."]
    before = bits(model)
    seen = []
    found = edit_sequence(model, Noise(0.0, 1e-4, 50.0), ASKED, texts=texts, after_each=lambda n, e: seen.append(n))
    assert found.stopped == 2
    assert (len(found.edits), len(found.perplexity), seen) == (2, 4, [0, 1])
    assert applied_edits(model) == found.edits
    assert (
        found.ratio == found.perplexity[2] / found.perplexity[0] <= 1.1 < found.perplexity[3] / found.perplexity[0]
    )
    found.revert(model)
    assert bits(model) == before


def test_it_goes_to_the_end(model):
    texts = ["The capital of France is Paris.", "Water is made of hydrogen."]
    found = edit_sequence(model, Noise(1.0, 1.0, 1.0, 1.0), ASKED, limit=float("inf"), texts=texts)
    assert found.stopped is None
    assert len(found.edits) == 4
    assert found.perplexity[0] != found.perplexity[1]


def test_nan_is_over_any_limit(model):
    found = edit_sequence(model, Noise(float("nan")), ASKED, limit=float("inf"))
    assert found.stopped == 0
    assert applied_edits(model) == []
    assert np.isfinite(model.perplexities(["The capital of France"])).all()


@pytest.mark.parametrize("knee", [3, 10, 25, 37])
def test_planted_knees(knee, rng):
    x = np.arange(41.0)
    curve = np.exp(0.002 * x + 0.2 * np.maximum(x - knee, 0) + 0.002 * rng.normal(size=41))
    found = forgetting_knee(curve)
    assert abs(found.knee - knee) <= 1
    assert found.abrupt
    assert found.slope_after == pytest.approx(0.202, abs=0.02)


def test_no_knee():
    x = np.arange(41.0)
    assert not forgetting_knee(np.exp(0.01 * x)).abrupt
    assert not forgetting_knee(np.full(10, 12.5)).abrupt
    assert forgetting_knee(np.r_[np.full(20, 10.0), np.full(20, 1e30)]).abrupt


def test_bad_input(model):
    with pytest.raises(InvalidParameterError, match="limit"):
        edit_sequence(model, Noise(), ASKED, limit=0.5)
    with pytest.raises(InvalidParameterError, match="perplexity"):
        forgetting_knee([1.0, 2.0])
    with pytest.raises(DataError, match="finite"):
        forgetting_knee([1.0, 2.0, float("nan"), 3.0, 4.0])
