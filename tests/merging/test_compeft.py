"""ComPEFT: which signs are kept, the scale, and a file that comes back bit by bit at the size of its entropy."""

import numpy as np
import pytest

from corrigible.errors import DataError, InvalidParameterError
from corrigible.merging import ComPEFT
from corrigible.merging._compeft import CompressedUpdate


def test_signs_and_scale(rng):
    base = {"a": rng.normal(size=(20, 10)), "b": rng.normal(size=50)}
    tuned = {k: v + rng.normal(size=v.shape) for k, v in base.items()}
    found = ComPEFT(density=0.1, alpha=2.0).fit(tuned, base).update_
    flat = np.concatenate([(tuned[k] - base[k]).ravel() for k in base])
    limit = np.sort(np.abs(flat))[-25]
    expected = np.sign(flat) * (np.abs(flat) >= limit)
    np.testing.assert_array_equal(np.concatenate([s.ravel() for s in found.signs.values()]), expected)
    assert found.scale == pytest.approx(2 * flat.std())
    applied = found.apply(base)
    np.testing.assert_allclose(applied["a"], base["a"] + found.scale * found.signs["a"])


@pytest.mark.parametrize("density", [0.0005, 0.02, 0.2, 0.5, 1.0])
def test_the_file_comes_back_exactly_and_is_as_small_as_it_can_be(rng, tmp_path, density):
    n = 200_000
    base, tuned = {"w": np.zeros((400, 500))}, {"w": rng.normal(size=(400, 500))}
    update = ComPEFT(density=density).fit(tuned, base).update_
    size = update.save(tmp_path / "u.compeft")
    again = CompressedUpdate.load(tmp_path / "u.compeft")
    assert again.scale == update.scale
    np.testing.assert_array_equal(again.signs["w"], update.signs["w"])
    assert [p.name for p in tmp_path.iterdir()] == ["u.compeft"]
    p = density
    entropy = 0 if p == 1 else -p * np.log2(p) - (1 - p) * np.log2(1 - p)
    assert size - 500 <= 1.06 * n * (entropy + p) / 8 + (n / 8 if p == 1 else 0)  # Rice codes lose a few per cent


@pytest.mark.parametrize("flat", [[0, 0, 0], [1, -1, 1], [0, 0, -1], [1, 0, 0], []])
def test_small_files(tmp_path, flat):
    update = CompressedUpdate({"w": np.array(flat, dtype=np.int8), "s": np.array(1, dtype=np.int8)}, 0.1)
    update.save(tmp_path / "u")
    again = CompressedUpdate.load(tmp_path / "u")
    assert {k: v.tolist() for k, v in again.signs.items()} == {"w": flat, "s": 1}
    assert again.scale == 0.1


def test_search_takes_the_best_score(rng):
    base = {"w": np.zeros(1000)}
    tuned = {"w": rng.normal(size=1000)}
    found = ComPEFT(score=lambda m: -float(((m["w"] - tuned["w"]) ** 2).sum())).fit(tuned, base)
    every = {
        (d, a): -float((((ComPEFT(density=d, alpha=a).fit(tuned, base).update_.apply(base))["w"] - tuned["w"]) ** 2).sum())
        for d in (0.05, 0.1, 0.2, 0.3, 0.5) for a in (0.5, 1.0, 2.0, 3.0)
    }  # fmt: skip
    assert (found.density_, found.alpha_) == max(every, key=every.get)


def test_nothing_changed(tmp_path):
    base = {"w": np.ones(5)}
    update = ComPEFT().fit(base, base).update_
    np.testing.assert_array_equal(update.apply(base)["w"], base["w"])


def test_refuses(rng, tmp_path):
    base = {"w": np.ones(3)}
    with pytest.raises(DataError, match="finite"):
        ComPEFT().fit({"w": np.array([1, np.nan, 2])}, base)
    with pytest.raises(DataError, match="architecture"):
        ComPEFT().fit({"v": np.ones(3)}, base)
    with pytest.raises(InvalidParameterError, match="density"):
        ComPEFT(density=0).fit(base, base)
    (tmp_path / "x").write_bytes(b"12345678901234567")
    with pytest.raises(DataError, match="safetensors"):
        CompressedUpdate.load(tmp_path / "x")
