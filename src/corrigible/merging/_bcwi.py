"""BCWI: interpolate an old and a new model so that fewer of the old one's right answers turn wrong.

Paper: Backward Compatibility During Data Updates by Weight Interpolation (Schumann, Mansimov, Lai, Pappas, Gao, Zhang,
EACL 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from corrigible._card import Card
from corrigible._core.fisher import diagonal_fisher
from corrigible._core.model_weights import Weights, check_alike, weights_of, with_weights
from corrigible._core.simplex import softmax
from corrigible._utils.validation import check_count, check_number
from corrigible.errors import DataError, InvalidParameterError

CARD = Card(
    name="bcwi",
    kind="merger",
    obj="BCWI",
    also=("FisherBCWI", "UpdatePath"),
    papers=("bcwi",),
    refs=("schumann2024backward",),
    source="",
    differs="From the abstract and the method's equations as others quote them; the full text and code were not at hand. "
    "The share of the old model is that of fewest negative flips on validation rows among those that are no less accurate "
    "than the new model there; the Fisher information is the expected one of the classifier's own distribution.",
    inputs="models, X, y",
    stochastic=False,
    cost="A pass over the validation rows for each share; Fisher information one backward pass a class and row",
    use_when="A classifier was trained further, from the old one's weights, on more or newer data.",
    avoid_when="The new model was trained from other initial weights or has other inputs: there is no path between them.",
)

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class UpdatePath:
    """What each share of the old model's weights costs and saves, on the validation rows.

    Attributes
    ----------
    alpha : ndarray of shape (n_alphas,)
        Share of the old model, rising from 0, the new model.
    accuracy : ndarray of shape (n_alphas,)
        Share of rows right.
    negative_flips, positive_flips : ndarray of shape (n_alphas,)
        Shares of rows that the old model has right and this one wrong, and the reverse.
    """

    alpha: Floats
    accuracy: Floats
    negative_flips: Floats
    positive_flips: Floats


class BCWI:
    """Backward-compatible weight interpolation, ``alpha old + (1 - alpha) new``.

    Parameters
    ----------
    n_alphas : int, default=21
        Shares of the old model that are tried, evenly from 0 to 1.
    tolerance : float, default=0.0
        Accuracy on the validation rows that may be lost against the new model.
    predict : callable, optional
        ``predict(model, X)`` gives labels. By default a scikit-learn model's ``predict``, and the largest output of a
        torch module.

    Attributes
    ----------
    alpha_ : float
        The share chosen: fewest negative flips among shares that keep the accuracy; of equal ones the most accurate,
        then the smallest. 0, the new model, is always among them.
    model_ : object
        A copy of the new model with the interpolated weights.
    path_ : UpdatePath
        All shares.

    See Also
    --------
    FisherBCWI : Weighs each weight by what it matters to either model.

    References
    ----------
    .. [1] Schumann, R. et al. (2024). Backward Compatibility During Data Updates by Weight Interpolation. EACL.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from corrigible.merging import BCWI
    >>> X, y = load_digits(return_X_y=True)
    >>> old = LogisticRegression(max_iter=2000).fit(X[:150] / 16, y[:150])
    >>> new = LogisticRegression(max_iter=2000).fit(X[:900] / 16, y[:900])
    >>> update = BCWI().fit(old, new, X[900:1400] / 16, y[900:1400])
    >>> bool(update.path_.negative_flips[0] >= update.path_.negative_flips.min())
    True
    >>> update.model_.score(X[1400:] / 16, y[1400:]) > 0.85
    True
    """

    def __init__(
        self,
        *,
        n_alphas: int = 21,
        tolerance: float = 0.0,
        predict: Callable[[Any, Any], ArrayLike] | None = None,
    ) -> None:
        self.n_alphas = n_alphas
        self.tolerance = tolerance
        self.predict = predict

    def fit(self, old: Any, new: Any, X: Any, y: ArrayLike) -> Self:
        """Choose the share of the old model on validation rows.

        Parameters
        ----------
        old : model
            scikit-learn linear or MLP classifier, torch module, or anything else of weights by name with `predict`.
        new : model or list of models
            The same architecture, trained further; several are averaged first (the paper's soup variant).
        X : array-like of shape (n_samples, n_features)
            Rows that neither was trained on, as `predict` takes them.
        y : array-like of shape (n_samples,)
            Their labels.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the models differ in architecture, classes or features.
        """
        by = type(self).__name__
        check_count(self.n_alphas, name="n_alphas", by=by, low=2)
        check_number(self.tolerance, name="tolerance", by=by, low=0.0, high=1.0)
        new, ends = _ends(old, new, by)
        labels = np.asarray(y)
        if labels.ndim != 1 or len(labels) == 0:
            raise DataError(f"'y' of {by} must be one-dimensional and not empty. Got shape {labels.shape}.")
        predict = self.predict or _predicted
        between = self._between(old, new, ends, X)
        before = self._answers(predict, old, X, labels) == labels
        alphas = np.linspace(0.0, 1.0, self.n_alphas)
        rights = [before if a == 1 else self._answers(predict, with_weights(new, between(float(a))), X, labels) == labels
                  for a in alphas]  # fmt: skip
        right = np.array(rights)
        self.path_ = UpdatePath(
            alphas, right.mean(axis=1), (before & ~right).mean(axis=1), (~before & right).mean(axis=1)
        )
        kept = np.flatnonzero(self.path_.accuracy >= self.path_.accuracy[0] - self.tolerance - 1e-12)
        best = min(kept, key=lambda i: (self.path_.negative_flips[i], -self.path_.accuracy[i], i))
        self.alpha_ = float(alphas[best])
        self.model_ = with_weights(new, between(self.alpha_))
        return self

    @staticmethod
    def _answers(predict: Callable[[Any, Any], ArrayLike], model: Any, X: Any, y: NDArray[Any]) -> NDArray[Any]:
        found = np.asarray(predict(model, X))
        if found.shape != y.shape:
            raise DataError(f"'predict' must give a label a row, {y.shape}. Got shape {found.shape}.")
        return found

    def _between(
        self, old: Any, new: Any, ends: tuple[Weights, Weights], X: Any
    ) -> Callable[[float], dict[str, NDArray[Any]]]:
        """Return the function from a share of the old model to weights."""
        first, second = ends

        def at(alpha: float) -> dict[str, NDArray[Any]]:
            return {
                k: second[k] + np.asarray(alpha * (first[k] - second[k]), dtype=second[k].dtype) for k in second
            }

        return at


class FisherBCWI(BCWI):
    """BCWI that weighs each weight by its Fisher information in either model.

    Every weight becomes ``(a F_old old + (1 - a) F_new new) / (a F_old + (1 - a) F_new)``: what one model is sure of
    is kept from it.

    Parameters
    ----------
    n_alphas, tolerance, predict
        As in `BCWI`.
    n_rows : int, default=500
        Validation rows that the information is averaged over, the first ones.

    Attributes
    ----------
    alpha_, model_, path_
        As in `BCWI`.

    References
    ----------
    .. [1] Schumann, R. et al. (2024). Backward Compatibility During Data Updates by Weight Interpolation. EACL.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from corrigible.merging import FisherBCWI
    >>> X, y = load_iris(return_X_y=True)
    >>> old, new = (LogisticRegression(max_iter=2000).fit(X[::k], y[::k]) for k in (10, 2))
    >>> 0 <= FisherBCWI().fit(old, new, X[1::2], y[1::2]).alpha_ <= 1
    True
    """

    def __init__(
        self,
        *,
        n_alphas: int = 21,
        tolerance: float = 0.0,
        predict: Callable[[Any, Any], ArrayLike] | None = None,
        n_rows: int = 500,
    ) -> None:
        super().__init__(n_alphas=n_alphas, tolerance=tolerance, predict=predict)
        self.n_rows = n_rows

    def _between(
        self, old: Any, new: Any, ends: tuple[Weights, Weights], X: Any
    ) -> Callable[[float], dict[str, NDArray[Any]]]:
        by = type(self).__name__
        rows = X[: check_count(self.n_rows, name="n_rows", by=by)]
        first, second = ends
        sure, sure_new = (diagonal_fisher(m, rows, by=by) for m in (old, with_weights(new, second)))
        # Weights that matter to neither, such as those of a dead unit, are interpolated plainly.
        least = 1e-6 * max(float(np.mean(f)) for f in (*sure.values(), *sure_new.values()) if f.size) or 1e-30

        def at(alpha: float) -> dict[str, NDArray[Any]]:
            found = {}
            for k, value in second.items():
                ours, theirs = alpha * (sure[k] + least), (1 - alpha) * (sure_new[k] + least)
                share = ours / (ours + theirs)
                found[k] = value + np.asarray(share * (first[k] - value), dtype=value.dtype)
            return found

        return at


def _ends(old: Any, new: Any, by: str) -> tuple[Any, tuple[Weights, Weights]]:
    """Return the new model, or the first of several, and the weights of the old and of the average new model."""
    several = list(new) if isinstance(new, Sequence) else [new]
    if not several:
        raise DataError(f"{by} needs a new model. Got an empty list.")
    for one in several:
        _check_same_task(old, one, by)
    weights = [weights_of(m, by=by) for m in (old, *several)]
    check_alike(weights, by=by)
    mean = {k: np.mean([w[k] for w in weights[1:]], axis=0).astype(weights[1][k].dtype) for k in weights[1]}
    return several[0], (weights[0], mean)


def _check_same_task(old: Any, new: Any, by: str) -> None:
    for attribute, what in (("classes_", "classes"), ("feature_names_in_", "features")):
        a, b = (getattr(m, attribute, None) for m in (old, new))
        if a is not None and b is not None and (len(a) != len(b) or not (np.asarray(a) == np.asarray(b)).all()):
            raise DataError(
                f"The models of {by} must have the same {what}, in one order. Got {list(a)} and {list(b)}."
            )
    if type(old) is not type(new):
        raise DataError(
            f"The models of {by} must be of one kind. Got {type(old).__name__} and {type(new).__name__}."
        )


def _predicted(model: Any, X: Any) -> NDArray[Any]:
    if hasattr(model, "predict"):
        return np.asarray(model.predict(X))
    if hasattr(model, "state_dict"):
        return np.asarray(softmax(_outputs(model, X)).argmax(axis=1))
    raise InvalidParameterError("A model without a predict method needs the 'predict' parameter of BCWI.")


def _outputs(model: Any, X: Any) -> Floats:
    import torch

    kind = next(model.parameters()).dtype
    was = model.training
    model.eval()
    with torch.no_grad():
        found = model(torch.as_tensor(np.asarray(X)).to(kind)).double().numpy()
    model.train(was)
    return np.asarray(found)
