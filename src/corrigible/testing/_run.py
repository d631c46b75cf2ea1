"""Which checks a method must pass, and running them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from corrigible._card import Card
from corrigible._registry import card as find_card
from corrigible._registry import list_methods
from corrigible.testing import (
    _calibrators,
    _conformal,
    _detectors,
    _editors,
    _estimators,
    _general,
    _generation,
    _laws,
    _measures,
    _mergers,
    _performance,
)
from corrigible.testing._samples import built

Check = Callable[[Card, dict[str, Any]], None]
# What tells whether an extra is installed.
_MODULES = {
    "torch": "torch",
    "lm": "transformers",
    "onnx": "skl2onnx",
    "ot": "ot",
    "scale": "dask",
    "web": "starlette",
}

_BY_KIND: dict[str, tuple[Check, ...]] = {
    "calibrator": (*_general.CLASS_CHECKS, *_calibrators.CHECKS),
    "conformal": (*_general.CLASS_CHECKS, *_conformal.CHECKS),
    "detector": (*_general.CLASS_CHECKS, *_detectors.CHECKS),
    "editor": _editors.CHECKS,
    "estimator": (*_general.CLASS_CHECKS, *_estimators.CHECKS),
    "generation": _generation.CHECKS,
    "law": (*_general.CLASS_CHECKS, *_laws.CHECKS),
    "measure": _measures.CHECKS,
    "merger": _mergers.CHECKS,
    "performance_estimator": (*_general.CLASS_CHECKS, *_performance.CHECKS),
}
_CLAIMS: dict[str, Check] = {
    **_calibrators.CLAIMS,
    **_conformal.CLAIMS,
    **_detectors.CLAIMS,
    **_measures.CLAIMS,
    **_mergers.CLAIMS,
}


def checks_for(card: Card) -> list[Check]:
    """Return the checks of a method: those of every method, of its kind, and the claims of its card."""
    unknown = set(card.claims) - set(_CLAIMS)
    if unknown:
        raise ValueError(f"The card of {card.name!r} claims {sorted(unknown)}, which no check measures.")
    of_kind = _BY_KIND[card.kind]
    return [*_general.CHECKS, *of_kind, *(_CLAIMS[c] for c in card.claims)]


def check_method(name: str) -> None:
    """Run every contract check of a method over its card's test parameters.

    Parameters
    ----------
    name : str
        A name of `corrigible.list_methods`.

    Raises
    ------
    AssertionError
        If a check fails that the card does not excuse, or if an excused check passes.

    Examples
    --------
    >>> from corrigible.testing import check_method
    >>> check_method("temperature_scaling")
    """
    for _, check, card, params in _cases(name):
        _run(check, card, params)


def _run(check: Check, card: Card, params: dict[str, Any]) -> None:
    reason = card.excused.get(check.__name__)
    if reason is None:
        return check(card, params)
    try:
        check(card, params)
    except Exception:  # the card says that this fails, and why
        return None
    raise AssertionError(f"{card.name} excuses {check.__name__} ({reason}), yet it passes: remove the excuse.")


def _cases(name: str) -> Iterator[tuple[str, Check, Card, dict[str, Any]]]:
    card = find_card(name)
    for check in checks_for(card):
        for number, params in enumerate(card.test_params):
            yield f"{name}-{number}-{check.__name__}", check, card, built(params)


def parametrize_methods(**selection: Any) -> Any:
    """Parametrise a pytest function over (method, check): the function calls the check it is given.

    Parameters
    ----------
    **selection
        ``pattern``, ``kind``, ``room`` or ``paper``, as in `corrigible.list_methods`.
    """
    import pytest

    cases = []
    for name in list_methods(**selection):
        for label, check, card, params in _cases(name):
            marks = [pytest.mark.filterwarnings("default")] if check.__name__ == "check_sklearn" else []
            if absent := [extra for extra in card.requires if find_spec(_MODULES[extra]) is None]:
                marks.append(pytest.mark.skip(reason=f"needs the extra {absent[0]}"))
            cases.append(pytest.param(lambda c=check, a=card, p=params: _run(c, a, p), id=label, marks=marks))
    return pytest.mark.parametrize("check", cases)
