"""A classifier whose prototypes are the fixed corners of a simplex, so that features stay comparable over updates.

Paper: Stationary Representations: Optimally Approximating Compatibility and Implications for Improved Model
Replacements (Biondi, Pernici, Ricci, Del Bimbo, CVPR 2024).
Original: https://github.com/miccunifi/iamcl2r
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._core.fixed_simplex import regular_simplex
from corrigible._core.simplex import softmax
from corrigible._core.torch_training import Factory, Module, Recipe, Tensor, built, encode, outputs, seeded, train
from corrigible._utils.optional import require
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_count, check_gaps, check_number
from corrigible.errors import DataError, InvalidParameterError

CARD = Card(
    name="simplex_classifier",
    kind="estimator",
    obj="SimplexClassifier",
    also=("Compatibility", "compatibility_matrix"),
    papers=("stationary",),
    refs=("biondi2024stationary",),
    source="https://github.com/miccunifi/iamcl2r",
    differs="Any torch module, trained by Adam in place of the authors' SGD. The default number of pre-allocated "
    "classes is 100, the authors' 1024. In the contrastive term pairs of one class are left out, where the "
    "authors' code keeps them as products of 0; the full text was not at hand, so its equations are taken from there.",
    inputs="X, y classes",
    stochastic=True,
    cost="max_iter epochs, with as many forward passes of the old network if there is one; n_slots numbers a feature",
    use_when="Stored features of an old model must stay searchable by a new one, with classes added or networks changed.",
    avoid_when="Features are never compared between models: a free last layer fits as well.",
    test_params=({"n_slots": 8, "max_iter": 20},),
    requires=("torch",),
)

Floats = NDArray[np.floating]


class SimplexClassifier(ClassifierMixin, TransformerMixin, BaseEstimator):
    """Train a network's features towards the fixed corners of a regular simplex.

    The network puts out features z of ``n_slots - 1`` dimensions; the logits are ``W z`` with W the corners of the
    regular simplex, never trained. Each class has its corner from the first, classes to come included, so a later
    model puts a class where the earlier one did: features are stationary, and queries of the new model find the
    gallery of the old.

    With an `old` model to be compatible with, the higher-order compatibility loss (HOC) is added,
    ``(1 - weight) CE + weight L``, where with features of length 1
    ``L = mean_i [-mu o_i . z_i + log sum_{j: y_j != y_i} exp(mu o_i . z_j)]`` draws each row's new feature z_i to its
    old one o_i and away from other classes.

    Parameters
    ----------
    module : callable, optional
        Function of (n_inputs, n_outputs) that returns a new torch module from rows (n, n_inputs) to features
        (n, n_outputs). By default one hidden layer of 64 units.
    n_slots : int, default=100
        Corners, so the most classes that there will ever be; the same in all models to be compared.
    slots : mapping, optional
        Label to number of its corner. By default the classes of `old` keep theirs and new ones take the next free
        corners, in sorted order.
    old : SimplexClassifier, optional
        Fitted model whose features the new ones shall match.
    warm_start_old : bool, default=True
        Start from the old network, as in sequential fine-tuning; False starts anew.
    hoc_weight : float, default=0.1
        Weight of the contrastive term, in [0, 1); used if there is an old model.
    mu : float, default=10.0
        Inverse temperature of the contrastive term.
    max_iter : int, default=50
        Epochs.
    batch_size : int, default=64
        Rows a step.
    learning_rate : float, default=0.01
        First step size of Adam; it falls to 0 along half a cosine.
    weight_decay : float, default=1e-4
        Decoupled weight decay.
    random_state : None, int, Generator or RandomState
        Source of start and shuffles.

    Attributes
    ----------
    module_ : torch module
        The trained network, in float64.
    prototypes_ : ndarray of shape (n_slots, n_slots - 1)
        Corners.
    slots_ : dict
        Label to number of its corner, those of earlier models included.
    classes_ : ndarray of shape (n_classes,)
        Classes.
    n_iter_ : int
        Epochs trained.

    References
    ----------
    .. [1] Biondi, N., Pernici, F., Ricci, S. and Del Bimbo, A. (2024). Stationary Representations: Optimally
       Approximating Compatibility and Implications for Improved Model Replacements. CVPR.

    Examples
    --------
    A model of two classes, and its successor of three:

    >>> from sklearn.datasets import load_iris
    >>> from corrigible.compare import SimplexClassifier, compatibility_matrix
    >>> X, y = load_iris(return_X_y=True)
    >>> old = SimplexClassifier(n_slots=8, random_state=0).fit(X[y < 2], y[y < 2])
    >>> new = SimplexClassifier(n_slots=8, old=old, random_state=1).fit(X, y)
    >>> features = [model.transform(X) for model in (old, new)]
    >>> found = compatibility_matrix(features, features, y, y)
    >>> found.matrix.shape, bool(found.matrix[1, 0] > 0.6)
    ((2, 2), True)
    """

    def __init__(
        self,
        module: Factory | None = None,
        *,
        n_slots: int = 100,
        slots: Any = None,
        old: Any = None,
        warm_start_old: bool = True,
        hoc_weight: float = 0.1,
        mu: float = 10.0,
        max_iter: int = 50,
        batch_size: int = 64,
        learning_rate: float = 0.01,
        weight_decay: float = 1e-4,
        random_state: RandomState = None,
    ) -> None:
        self.module = module
        self.n_slots = n_slots
        self.slots = slots
        self.old = old
        self.warm_start_old = warm_start_old
        self.hoc_weight = hoc_weight
        self.mu = mu
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; standardise them, or let the module do so.
        y : array-like of shape (n_samples,)
            Labels.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If there are more classes than corners, or the old model has other corners.
        MissingDependencyError
            If torch is not installed.
        """
        by = "SimplexClassifier"
        check_count(self.n_slots, name="n_slots", by=by, low=2)
        check_number(self.hoc_weight, name="hoc_weight", by=by, low=0.0, high=1.0, closed="left")
        check_number(self.mu, name="mu", by=by, low=0.0, high=1e4, closed="right")
        recipe = Recipe.of(self, by)
        rows, codes = encode(self, X, y)
        self.slots_ = self._slots()
        places = np.array([self.slots_[c] for c in self.classes_.tolist()])[codes]
        self.prototypes_ = regular_simplex(self.n_slots)
        anchors = None
        if self.old is not None and self.hoc_weight:
            anchors = _unit(self.old.transform(rows))
        seed = integer_seed(as_generator(self.random_state))
        with seeded(seed) as torch:
            network = self._start(rows.shape[1])
            objective = _objective(torch, rows, places, self.prototypes_, anchors, self.hoc_weight, self.mu)
            self.module_ = train(network, len(rows), objective, recipe, np.random.default_rng(seed))
        self.n_iter_ = recipe.max_iter
        return self

    def _start(self, n_inputs: int) -> Module:
        if self.old is not None and self.warm_start_old:
            return copy.deepcopy(self.old.module_)
        return built(self.module, n_inputs, self.n_slots - 1, by="SimplexClassifier")

    def _slots(self) -> dict[Any, int]:
        """Return the corner of each label: those given, those of the old model, then the next free ones."""
        if self.old is not None and (
            not isinstance(self.old, SimplexClassifier) or len(self.old.prototypes_) != self.n_slots
        ):
            raise InvalidParameterError(
                f"The 'old' parameter of SimplexClassifier must be a fitted one with n_slots={self.n_slots}. "
                f"Got {self.old!r}."
            )
        slots = dict(self.old.slots_) if self.old is not None else {}
        slots |= dict(self.slots) if self.slots is not None else {}
        new = [c for c in self.classes_.tolist() if c not in slots]
        free = sorted(set(range(self.n_slots)) - set(slots.values()))
        slots |= dict(zip(new, free, strict=False))
        places = list(slots.values())
        if len(new) > len(free) or len(set(places)) < len(places) or not set(places) <= set(range(self.n_slots)):
            raise DataError(
                f"Each class of SimplexClassifier must have a corner of its own among {self.n_slots}. Got "
                f"{len(new)} new classes for {len(free)} free corners: raise 'n_slots' or mend 'slots'."
            )
        return slots

    def transform(self, X: ArrayLike) -> Floats:
        """Return the features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_slots - 1)
            To be compared by cosine.
        """
        check_is_fitted(self, "module_")
        return outputs(self.module_, check_gaps(self, X, reset=False, gaps=False))

    def decision_function(self, X: ArrayLike) -> Floats:
        """Return the logits: products of features and corners.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,)
            One column for two classes, as scikit-learn has it.
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def _logits(self, X: ArrayLike) -> Floats:
        features = self.transform(X)
        corners = self.prototypes_[[self.slots_[c] for c in self.classes_.tolist()]]
        # A sum in a fixed order, so that a row's answer does not depend on the rows beside it.
        return np.stack([(features * corner).sum(axis=1) for corner in corners], axis=1)

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return class probabilities, the softmax over the classes trained on.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Rows sum to 1.
        """
        return softmax(self._logits(X))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class of the nearest corner.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels.
        """
        best = self._logits(X).argmax(axis=1)
        return np.asarray(self.classes_[best])


def _objective(
    torch: Any,
    rows: Floats,
    places: NDArray[Any],
    corners: Floats,
    anchors: Floats | None,
    weight: float,
    mu: float,
) -> Any:
    """Return cross-entropy over all corners, with the contrastive term where there are old features."""
    X, target = torch.tensor(rows).float(), torch.tensor(places)
    W = torch.tensor(corners).float()
    old = None if anchors is None else torch.tensor(anchors).float()

    def cost(module: Any, batch: Any) -> Tensor:
        z = module(X[batch])
        entropy = torch.nn.functional.cross_entropy(z @ W.T, target[batch])
        if old is None:
            return entropy
        new = torch.nn.functional.normalize(z, dim=1)
        return (1 - weight) * entropy + weight * hoc_loss(new, old[batch], target[batch], mu)

    return cost


def hoc_loss(new: Tensor, old: Tensor, labels: Tensor, mu: float) -> Tensor:
    """Return the contrastive term of features of length 1; a row without another class beside it is only drawn."""
    torch = require("torch", extra="torch", by="SimplexClassifier")
    likeness = mu * old @ new.T
    same = labels[:, None] == labels[None, :]
    apart = torch.logsumexp(likeness.masked_fill(same, -1e9), dim=1)
    lonely = same.all(dim=1)
    return (torch.where(lonely, torch.zeros_like(apart), apart) - likeness.diagonal()).mean()


def _unit(rows: Floats) -> Floats:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, length, out=np.zeros_like(rows), where=length > 0))


@dataclass(frozen=True, kw_only=True)
class Compatibility:
    """How well features of each model find those of earlier ones.

    Attributes
    ----------
    matrix : ndarray of shape (n_models, n_models)
        Entry (i, j), j <= i: accuracy of queries of model i in the gallery of model j. NaN above the diagonal.
    average_compatibility : float
        AC: share of pairs j < i that meet the criterion of backward compatibility, ``M_ij > M_jj``: replacing the
        query's model helps although the gallery stays. NaN for one model.
    average_accuracy : float
        AM: mean of the entries.
    criterion : ndarray of bool of shape (n_models, n_models)
        Which pairs meet it.
    """

    matrix: Floats
    average_compatibility: float
    average_accuracy: float
    criterion: NDArray[np.bool_] = field(repr=False)


def compatibility_matrix(
    queries: Sequence[ArrayLike],
    galleries: Sequence[ArrayLike],
    y_query: ArrayLike,
    y_gallery: ArrayLike,
    *,
    templates: bool = False,
) -> Compatibility:
    """Retrieve, with queries of each model, from the gallery of each earlier one.

    Parameters
    ----------
    queries, galleries : sequence of array-like of shape (n_query, d) and (n_gallery, d)
        Features of the same query and gallery rows by each model, in order of time. A row of `queries` that is a row
        of `galleries` finds itself.
    y_query, y_gallery : array-like of shape (n_query,) and (n_gallery,)
        Labels.
    templates : bool, default=False
        Search the mean feature of each class, as the authors' repository does, instead of single rows.

    Returns
    -------
    Compatibility
        Accuracy of the nearest entry by cosine, and its summaries.

    Raises
    ------
    DataError
        If the features do not match each other or the labels.

    References
    ----------
    .. [1] Biondi, N., Pernici, F., Ricci, S. and Del Bimbo, A. (2024). Stationary Representations: Optimally
       Approximating Compatibility and Implications for Improved Model Replacements. CVPR.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.compare import compatibility_matrix
    >>> features = np.eye(3)
    >>> turned = features[:, [1, 2, 0]]
    >>> compatibility_matrix([features, turned], [features, turned], [0, 1, 2], [0, 1, 2]).matrix
    array([[ 1., nan],
           [ 0.,  1.]])
    """
    by = "compatibility_matrix"
    asked, kept = ([np.asarray(f, dtype=np.float64) for f in group] for group in (queries, galleries))
    wanted, labels = np.asarray(y_query), np.asarray(y_gallery)
    fits = len(asked) == len(kept) > 0 and all(f.ndim == 2 and len(f) == len(wanted) > 0 for f in asked)
    if not (fits and all(f.ndim == 2 and len(f) == len(labels) > 0 for f in kept)):
        raise DataError(
            f"{by} needs of each model one feature row a label of queries and of gallery. Check the shapes."
        )
    if len({f.shape[1] for f in asked + kept}) > 1 or not all(np.isfinite(f).all() for f in asked + kept):
        raise DataError(f"All features of {by} must be finite and have the same number of columns.")
    matrix = np.full((len(asked), len(asked)), np.nan)
    stores = [_store(_unit(gallery), labels, templates) for gallery in kept]
    for i, query in enumerate(asked):
        for j, (entries, names) in enumerate(stores[: i + 1]):
            matrix[i, j] = np.mean(names[(query @ entries.T).argmax(axis=1)] == wanted)
    criterion = np.tril(matrix > np.diag(matrix)[None, :], -1)
    pairs = len(asked) * (len(asked) - 1) // 2
    return Compatibility(
        matrix=matrix, average_compatibility=float(criterion.sum() / pairs) if pairs else float("nan"),
        average_accuracy=float(np.nanmean(matrix)), criterion=criterion,
    )  # fmt: skip


def _store(gallery: Floats, labels: NDArray[Any], templates: bool) -> tuple[Floats, NDArray[Any]]:
    if not templates:
        return gallery, labels
    names = np.unique(labels)
    return _unit(np.stack([gallery[labels == name].mean(axis=0) for name in names])), names
