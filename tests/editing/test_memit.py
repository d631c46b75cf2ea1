"""MEMIT: the least-squares update computed anew, and a batch that takes."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from corrigible.editing import MEMIT  # noqa: E402
from corrigible.editing._key_statistics import key_statistics  # noqa: E402
from corrigible.editing._memit import _key, _states  # noqa: E402
from corrigible.editing._values import Search, find_value  # noqa: E402
from corrigible.errors import InvalidParameterError  # noqa: E402
from corrigible.models import EditRequest  # noqa: E402

PREFIXES = ["It is known that ", "Water. "]
PAIRS = (("France", "Rome"), ("Spain", "Paris"), ("Italy", "Madrid"))
ASKED = [EditRequest("The capital of {} is", s, t) for s, t in PAIRS]


def test_one_layer_is_ridge_regression(model):
    """R K' (w C + K K')^-1 solves min |D K - R|^2 + w tr(D C D'): its gradient is zero there."""
    edit = MEMIT([1], n_tokens=256, prefixes=PREFIXES, update_weight=0.5).propose(model, ASKED)
    (delta,) = edit.deltas.values()
    keys = torch.stack([_key(model, r, PREFIXES, 1) for r in ASKED]).double().numpy().T
    block = model.blocks[1].name
    search = Search(clamp=0.75)
    found = [find_value(model, r, ["", *PREFIXES], 1, search, module=block, by="x") for r in ASKED]
    missing = (torch.stack([f.before + f.delta for f in found]) - _states(model, ASKED, block)).double().numpy().T
    moment = key_statistics(model, 1, by="x", n_tokens=256).lifted.numpy()
    d = delta.full().double().numpy()
    gradient = (d @ keys - missing) @ keys.T + 0.5 * d @ moment
    assert np.abs(gradient).max() < 1e-3 * np.abs(missing @ keys.T).max()


def test_a_batch_takes(model):
    before = [p.sum() for p in model.log_probs([r.text for r in ASKED], [r.answer for r in ASKED])]
    edit = MEMIT([0, 1], n_tokens=256, prefixes=PREFIXES, update_weight=0.01).propose(model, ASKED)
    assert edit.touches == tuple(f"{model.blocks[i].down}.weight" for i in (0, 1))
    edit.apply(model)
    after = [p.sum() for p in model.log_probs([r.text for r in ASKED], [r.answer for r in ASKED])]
    assert (np.array(after) > np.array(before)).all()


def test_a_heavier_weight_changes_less(model):
    sizes = [
        sum(
            t.norm
            for t in MEMIT([1], n_tokens=256, prefixes=PREFIXES, update_weight=w).propose(model, ASKED).diff(model)
        )
        for w in (0.01, 1.0, 100.0)
    ]
    assert sizes[0] > sizes[1] > sizes[2]


def test_bad_parameters(model):
    with pytest.raises(InvalidParameterError, match="update_weight"):
        MEMIT(update_weight=0.0).propose(model, ASKED)
    with pytest.raises(InvalidParameterError, match="layer"):
        MEMIT([7]).propose(model, ASKED)
