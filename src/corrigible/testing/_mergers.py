"""Mergers: pure functions on one tensor whose bits depend on nothing but their arguments.

A merger of tensors has the card's inputs "tensors" or "tensors, base". Mergers that need data or whole models take
dicts of arrays ("models, ...") and are held to what concerns them: the same models give the model, names and shapes are
kept.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible._card import Card
from corrigible._core import tensor_blocks
from corrigible._registry import load
from corrigible.errors import DataError

_ONE, _TWO = {"expo"}, {"slerp"}


def samples(
    card: Card, dtype: Any = np.float32, shape: tuple[int, ...] = (13, 7)
) -> tuple[list[NDArray[Any]], NDArray[Any] | None]:
    """Return fine-tuned tensors and their base, or None for a merger that needs none."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=shape)
    n = 1 if card.name in _ONE else 2 if card.name in _TWO else 3
    tensors = [(base + 0.1 * rng.normal(size=shape)).astype(dtype) for _ in range(n)]
    return tensors, base.astype(dtype) if "base" in card.inputs else None


def merged(card: Card, params: dict[str, Any], tensors: Sequence[Any], base: Any) -> NDArray[Any]:
    """Return the merger's result, with a fixed seed where it is random."""
    seed = {"rng": 0} if card.stochastic else {}
    return np.asarray(load(card.name)(list(tensors), base, **params, **seed))


def check_equal_inputs_give_the_input(card: Card, params: dict[str, Any]) -> None:
    """Where all tensors and the base are one, the result is that tensor to the bit, whatever the parameters.

    Weights that are not normalized scale what has no base to be compared with: they are left out.
    """
    tensors, _ = samples(card)
    if params.get("normalize") is False and "base" not in card.inputs:
        return
    found = merged(card, params, [tensors[0]] * len(tensors), tensors[0])
    np.testing.assert_array_equal(found, tensors[0])


def check_shape_and_dtype_kept(card: Card, params: dict[str, Any]) -> None:
    """Any shape, a scalar and an empty tensor too, and any floating dtype come out as they went in."""
    for shape in ((), (1,), (0,), (5,), (3, 4, 2)):
        tensors, base = samples(card, shape=shape)
        assert merged(card, params, tensors, base).shape == shape
    for dtype in _dtypes():
        tensors, base = samples(card, dtype)
        found = merged(card, params, tensors, base)
        assert found.dtype == dtype, f"{dtype} came out as {found.dtype}"
        assert np.isfinite(found.astype(np.float64)).all()


def check_half_precision_is_rounded_once(card: Card, params: dict[str, Any]) -> None:
    """Half precision is widened to float32, merged there, and rounded to the nearest at the end."""
    for dtype in _dtypes():
        if np.dtype(dtype).itemsize == 2:
            tensors, base = samples(card, dtype)
            wide = [t.astype(np.float32) for t in tensors]
            expected = merged(card, params, wide, None if base is None else base.astype(np.float32))
            np.testing.assert_array_equal(merged(card, params, tensors, base), expected.astype(dtype))


def check_pure(card: Card, params: dict[str, Any]) -> None:
    """Read-only inputs are accepted, two calls give the same bits."""
    tensors, base = samples(card)
    for t in (*tensors, *([] if base is None else [base])):
        t.setflags(write=False)
    np.testing.assert_array_equal(merged(card, params, tensors, base), merged(card, params, tensors, base))


def check_any_block_size(card: Card, params: dict[str, Any]) -> None:
    """Blocks do not show: one block and many give the same weights, to the rounding of sums over a tensor."""
    tensors, base = samples(card)
    whole = merged(card, params, tensors, base)
    usual = tensor_blocks.BLOCK
    try:
        tensor_blocks.BLOCK = 10
        pieces = merged(card, params, tensors, base)
    finally:
        tensor_blocks.BLOCK = usual
    np.testing.assert_allclose(pieces, whole, rtol=2e-6)


def check_any_process(card: Card, params: dict[str, Any]) -> None:
    """Another process, with another hash seed and number of threads, gives the same bits."""
    if params != card.test_params[0]:  # one process a method is enough: parameters change neither seed nor threads
        return
    tensors, base = samples(card, shape=(300, 70))
    here = hashlib.sha256(merged(card, params, tensors, base).tobytes()).hexdigest()
    words = {**params, **({"rng": 0} if card.stochastic else {})}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tensors.npy"
        np.save(path, np.stack([*tensors, *([] if base is None else [base])]))
        code = (
            f"import hashlib, numpy as np; from {card.module} import {card.obj} as m; t = list(np.load({str(path)!r}));"
            f"base = {'None' if base is None else 't.pop()'};"
            f"print(hashlib.sha256(m(t, base, **{words!r}).tobytes()).hexdigest())"
        )
        other = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
        environment = {**os.environ, "PYTHONHASHSEED": other, "OMP_NUM_THREADS": "2"}
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == here


def check_extremes(card: Card, params: dict[str, Any]) -> None:
    """Zeros, very small and very large values give finite weights."""
    tensors, base = samples(card)
    for factor in (0.0, 1e-30, 1e30):
        scaled = [t * np.float32(factor) for t in tensors]
        found = merged(card, params, scaled, None if base is None else base * np.float32(factor))
        assert np.isfinite(found).all(), f"not finite at {factor:g}"


def check_bad_tensors(card: Card, params: dict[str, Any]) -> None:
    """Tensors of other shapes or kinds, or with NaN, are refused with an error that names them."""
    tensors, base = samples(card)
    spoilt = [t.copy() for t in tensors]
    spoilt[-1][1, 2] = np.nan
    wrong = [t.astype(int) for t in tensors]
    cut = [*tensors[:-1], tensors[-1][1:]]
    for bad, of, word in ((spoilt, base, "nan"), (wrong, base, "int64"), ([], base, "Got"), (cut, base, "shape")):
        if word == "shape" and len(bad) == 1 and base is None:
            continue
        assert word in _refusal(card, params, bad, of), f"{card.name} took bad tensors ({word or 'none'})"


def _refusal(card: Card, params: dict[str, Any], tensors: list[Any], base: Any) -> str:
    """Return what the merger says against its tensors; nothing if it takes them."""
    try:
        merged(card, params, tensors, base)
    except DataError as error:
        return str(error)
    return ""


def _dtypes() -> list[Any]:
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        return [np.float16, np.float32, np.float64]
    return [np.float16, np.float32, np.float64, bfloat16]


def for_tensors(check: Any) -> Any:
    """Return a check that mergers of whole models pass by: they have no tensors to be asked of."""

    def narrowed(card: Card, params: dict[str, Any]) -> None:
        if card.inputs.startswith("tensors"):
            check(card, params)

    narrowed.__name__, narrowed.__doc__ = check.__name__, check.__doc__
    return narrowed


CHECKS = tuple(
    for_tensors(check)
    for check in (
        check_equal_inputs_give_the_input,
        check_shape_and_dtype_kept,
        check_half_precision_is_rounded_once,
        check_pure,
        check_any_block_size,
        check_any_process,
        check_extremes,
        check_bad_tensors,
    )
)


def claim_permutation_invariant(card: Card, params: dict[str, Any]) -> None:
    """The order of the models, with their parameters, changes nothing beyond rounding."""
    tensors, base = samples(card)
    order = [2, 0, 1]
    moved = {k: [v[i] for i in order] if isinstance(v, list) else v for k, v in params.items()}
    np.testing.assert_allclose(
        merged(card, moved, [tensors[i] for i in order], base), merged(card, params, tensors, base), atol=1e-6
    )


CLAIMS = {"permutation_invariant": claim_permutation_invariant}
