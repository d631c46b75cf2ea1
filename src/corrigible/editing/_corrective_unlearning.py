"""Corrective unlearning: what methods repair of the harm that bad rows did, where only some of these are known.

Paper: Corrective Machine Unlearning (Goel, Prabhu, Torr, Kumaraguru, Sanyal, TMLR 2024).
Original: https://github.com/drimpossible/corrective-unlearning-bench
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import clone

from corrigible._card import Card
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_number
from corrigible.editing._retrain_without import FineTuneWithout, RetrainWithout
from corrigible.editing._scrub import SCRUB
from corrigible.editing._ssd import SSD
from corrigible.editing._unlearning import (
    Unlearner,
    accuracy,
    best,
    checked_rows,
    known_rows,
    network_copy,
    validation_rows,
)
from corrigible.errors import InvalidParameterError

CARD = Card(
    name="corrective_unlearning",
    kind="measure",
    obj="corrective_unlearning",
    also=("CorrectiveUnlearning", "Correction"),
    papers=("corr_unlearn",),
    refs=("goel2024corrective",),
    source="https://github.com/drimpossible/corrective-unlearning-bench",
    differs="The paper's own search weighs forgetting against accuracy; here accuracy on validation rows may fall by "
    "max_loss at most, and of what is left the candidate that forgets most is taken. Full text was not at hand: measures "
    "and methods are those of the authors' code. Its teacher of random answers (Bad-T) is left out.",
    inputs="model, X, y, bad",
    stochastic=True,
    cost="That of the methods",
    use_when="Bad training rows did harm, some of them are known, and it is to be seen which method repairs most.",
    avoid_when="All bad rows are known and training is cheap: train again without them.",
    requires=("torch",),
)


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What one method made of the network.

    Attributes
    ----------
    name : str
        Of the method; "before" is the network as it was.
    affected : float
        Accuracy where the bad rows did harm, by right labels.
    retained : float
        Accuracy elsewhere.
    still_bad : float
        Share of the known bad rows that are answered with the label they have in the training data.
    seconds : float
        That the method took, its search included.
    model : torch module
        The corrected network.
    """

    name: str
    affected: float
    retained: float
    still_bad: float
    seconds: float
    model: Any = field(repr=False)


@dataclass(frozen=True)
class CorrectiveUnlearning:
    """Outcome of `corrective_unlearning`.

    Attributes
    ----------
    before : Correction
        The network as it was.
    corrections : dict of str to Correction
        By the method's name.
    """

    before: Correction
    corrections: dict[str, Correction]

    def table(self) -> pd.DataFrame:
        """Return one row a method, the network as it was first.

        Returns
        -------
        DataFrame
            Indexed by method; columns ``affected``, ``retained``, ``still_bad`` and ``seconds``.
        """
        columns = ["name", "affected", "retained", "still_bad", "seconds"]
        found = [self.before, *self.corrections.values()]
        return pd.DataFrame([{c: getattr(one, c) for c in columns} for one in found]).set_index("name")


def corrective_unlearning(
    model: Any,
    X: Any,
    y: ArrayLike,
    bad: ArrayLike,
    *,
    X_affected: Any,
    y_affected: ArrayLike,
    X_retained: Any,
    y_retained: ArrayLike,
    methods: Mapping[str, Unlearner | Sequence[Unlearner]] | None = None,
    X_val: Any = None,
    y_val: ArrayLike | None = None,
    max_loss: float = 0.02,
    random_state: RandomState = None,
) -> CorrectiveUnlearning:
    """Correct a network by several methods, and measure each where the bad rows did harm and where they did not.

    Parameters
    ----------
    model : torch module
        From rows to logits, trained on `X` and `y`; left as it is.
    X : array-like or tensor of shape (n_samples, ...)
        The training rows, bad ones included.
    y : array-like of shape (n_samples,)
        The labels it was trained on, as numbers of the logits' columns.
    bad : array-like of bool of shape (n_samples,), or of row numbers
        The rows known to be bad; there may be more.
    X_affected, y_affected : array-like
        Held-out rows where harm was done, with right labels: with the trigger put on, or of the confused classes.
    X_retained, y_retained : array-like
        Held-out rows elsewhere.
    methods : mapping of str to unlearner or sequence of unlearners, optional
        Each has ``fit(model, X, y, bad, X_val=..., y_val=...)`` and then ``model_``. Of several one is chosen without
        the held-out rows. By default `SSD`, `SCRUB`, `FineTuneWithout` and `RetrainWithout`.
    X_val, y_val : array-like, optional
        Rows with right labels to choose by; by default the training rows that are not known to be bad. Among those
        are the unknown bad ones, whose forgetting then counts as a loss: better give rows that were checked.
    max_loss : float, default=0.02
        By how much accuracy on those may fall before a candidate is out. `SSD` has its own.
    random_state : None, int, Generator or RandomState
        Source of the default methods' starts and shuffles; methods given have their own.

    Returns
    -------
    CorrectiveUnlearning
        With a table.

    Raises
    ------
    DataError
        If rows are not finite, labels do not fit the logits, or no row or every row is bad.
    InvalidParameterError
        If a method has no candidate.

    References
    ----------
    .. [1] Goel, S., Prabhu, A., Torr, P., Kumaraguru, P. and Sanyal, A. (2024). Corrective Machine Unlearning. TMLR.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from corrigible.editing import SSD, corrective_unlearning
    >>> X = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
    >>> y = (X[:, 0] > 0).astype(int)
    >>> held_out = {"X_affected": X[40:50], "y_affected": y[40:50], "X_retained": X[50:], "y_retained": y[50:]}
    >>> network = torch.nn.Linear(3, 2)
    >>> found = corrective_unlearning(network, X[:40], y[:40], [3, 8], methods={"SSD": SSD()}, **held_out)
    >>> list(found.table().index)
    ['before', 'SSD']
    """
    by = "corrective_unlearning"
    check_number(max_loss, name="max_loss", by=by, low=0.0, high=1.0)
    network = network_copy(model, by)
    rows = checked_rows(network, X, y, by=by)
    known = known_rows(bad, len(rows), by)
    validation, index = validation_rows(network, rows, known, X_val, y_val)
    affected = checked_rows(network, X_affected, y_affected, by=by, name="y_affected")
    retained = checked_rows(network, X_retained, y_retained, by=by, name="y_retained")
    asked = _methods(methods, integer_seed(as_generator(random_state)), by)

    def scores(corrected: Any) -> tuple[float, float]:
        return accuracy(corrected, validation, index), accuracy(corrected, rows, known)

    def measured(name: str, corrected: Any, still_bad: float, seconds: float) -> Correction:
        a, r = (accuracy(corrected, those, np.arange(len(those))) for those in (affected, retained))
        return Correction(name=name, affected=a, retained=r, still_bad=still_bad, seconds=seconds, model=corrected)

    first = scores(network)
    corrections = {}
    for name, candidates in asked.items():
        start = time.perf_counter()
        made = [c.fit(model, X, y, known, X_val=X_val, y_val=y_val).model_ for c in candidates]
        told = [scores(one) for one in made]
        chosen = best(told, first[0] - max_loss)
        seconds = time.perf_counter() - start
        corrections[name] = measured(name, made[chosen], told[chosen][1], seconds)
    return CorrectiveUnlearning(measured("before", network, first[1], 0.0), corrections)


def _methods(methods: Mapping[str, Any] | None, seed: int, by: str) -> dict[str, list[Any]]:
    if methods is None:
        methods = {
            "SSD": SSD(),
            "SCRUB": SCRUB(random_state=seed),
            "fine-tuning": FineTuneWithout(random_state=seed),
            "retraining": RetrainWithout(random_state=seed),
        }
    asked = {name: list(given) if isinstance(given, list | tuple) else [given] for name, given in methods.items()}
    if not asked or not all(asked.values()):
        raise InvalidParameterError(f"Each of the 'methods' of {by} must have a candidate, and there must be one.")
    return {name: [clone(candidate, safe=False) for candidate in given] for name, given in asked.items()}
