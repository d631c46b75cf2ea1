"""C-ROME: prefixed keys alone."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from corrigible.editing import CROME  # noqa: E402
from corrigible.editing._key_statistics import key_statistics  # noqa: E402
from corrigible.editing._rank_one import Site, least_change  # noqa: E402
from corrigible.editing._values import Search, find_value, subject_keys  # noqa: E402

PREFIXES = ["It is known that ", "Water. "]


def test_the_update(model, request_):
    (delta,) = CROME(1, n_tokens=256, prefixes=PREFIXES).propose(model, request_).deltas.values()
    key = subject_keys(model, request_, PREFIXES, 1, by="x").mean(0).double().numpy()
    u = np.linalg.solve(key_statistics(model, 1, by="x", n_tokens=256).lifted.numpy(), key)
    found = find_value(model, request_, PREFIXES, 1, Search(), module=model.blocks[1].down, by="x")
    np.testing.assert_allclose(
        delta.full().numpy(), np.outer(found.delta.numpy(), u / (u @ key)), rtol=2e-3, atol=1e-6
    )


def test_prefix(model):
    assert CROME(prefixes=PREFIXES).prefix(model) == PREFIXES[0]
    own = CROME().prefix(model)
    assert own.startswith("The")
    assert own.endswith(". ")


def test_a_nearly_orthogonal_bare_key_makes_rome_huge_and_crome_not(model):
    """The trigger of the collapse: divided by a bare key unlike the mean key, ROME's change grows without limit."""
    statistics = key_statistics(model, 1, by="x", n_tokens=256)
    site = Site(1, model.blocks[1].down, statistics)
    source = torch.Generator().manual_seed(0)
    mean, bare, change = (
        torch.randn(1, 64, generator=source),
        torch.randn(1, 64, generator=source),
        torch.ones(1, 32),
    )
    u = statistics.solve(mean)[:, 0].float()
    sizes = []
    for share in (1.0, 0.1, 0.001):  # of the bare key along the direction; the rest is at right angles to it
        along = bare - (bare @ u)[:, None] / (u @ u) * u + share * float(mean[0] @ u / (u @ u)) * u
        rome = least_change(model, site, along, change, directions=mean).full().norm()
        crome = least_change(model, site, mean, change).full().norm()
        sizes.append(float(rome / crome))
    np.testing.assert_allclose(sizes, [1.0, 10.0, 1000.0], rtol=0.05)
