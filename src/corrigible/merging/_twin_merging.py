"""Twin-Merging: one expert of what tasks share, compressed experts of what is their own, and a router that mixes by input.

Paper: Twin-Merging: Dynamic Integration of Modular Expertise in Model Merging (Lu, Fan, Wei, Qu, Chen, Cheng, NeurIPS
2024).
Original: https://github.com/LZY-the-boys/Twin-Merging
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from corrigible._card import Card
from corrigible._core.model_weights import Weights, check_alike, weights_of, with_weights
from corrigible._utils.optional import require
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_count, check_number
from corrigible.errors import DataError
from corrigible.merging._task_arithmetic import task_arithmetic
from corrigible.merging._unit_chain import chains

CARD = Card(
    name="twin_merging",
    kind="merger",
    obj="TwinMerging",
    also=("LowRankUpdate",),
    papers=("twin_merging",),
    refs=("lu2024twin",),
    source="https://github.com/LZY-the-boys/Twin-Merging",
    differs="The router is a perceptron of scikit-learn with one hidden layer of twice the embedding's width; the authors' "
    "has two, with batch normalisation and dropout. Outputs are one head for all tasks, merged with the rest; the authors "
    "give each task the head it was trained with. Rows whose mixtures agree to three decimals share a model.",
    inputs="models, base, inputs",
    stochastic=True,
    cost="A singular value decomposition a matrix and task; to answer, one mixed model for each mixture that occurs",
    use_when="One model is to serve several tasks whose inputs look different, and a little memory a task can be spared.",
    avoid_when="Inputs do not tell the tasks apart, or the weights must be one fixed set.",
)

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class LowRankUpdate:
    """What one task adds to the shared expert.

    Attributes
    ----------
    factors : dict of str to pair of ndarray
        For a matrix its two factors, of shapes (n_out, rank) and (rank, n_in).
    vectors : dict of str to ndarray
        Biases and the like, whole.
    shapes : dict of str to tuple of int
        Shape of each tensor; one of more than two axes is factored as a matrix with the first axis as rows.
    """

    factors: dict[str, tuple[Floats, Floats]]
    vectors: dict[str, Floats]
    shapes: dict[str, tuple[int, ...]]

    @property
    def n_values(self) -> int:
        """Numbers that are stored."""
        return sum(a.size + b.size for a, b in self.factors.values()) + sum(v.size for v in self.vectors.values())

    def tensor(self, name: str) -> Floats:
        """Return what is added to one tensor."""
        if name in self.vectors:
            return self.vectors[name]
        up, down = self.factors[name]
        return (up @ down).reshape(self.shapes[name])

    @classmethod
    def of(cls, change: Weights, share: float) -> LowRankUpdate:
        """Compress the change of each matrix to a share of its singular values, the largest, and at least one."""
        factors, vectors = {}, {}
        for name, value in change.items():
            if np.ndim(value) < 2 or not np.size(value):
                vectors[name] = np.asarray(value)
                continue
            u, s, v = np.linalg.svd(np.reshape(value, (len(value), -1)), full_matrices=False)
            rank = max(1, int(share * len(s)))
            factors[name] = (u[:, :rank] * s[:rank], v[:rank])
        return cls(factors, vectors, {k: np.shape(v) for k, v in change.items()})


class TwinMerging:
    """Merge experts of several tasks into one model that is put together for each input.

    Parameters
    ----------
    scale : float, default=0.3
        Of the sum of task vectors that makes the shared expert.
    rank : float, default=0.25
        Share of each matrix's singular values that is kept of what an expert has beyond the shared one; 1 keeps all.
    embed : callable, optional
        ``embed(model, X)`` gives the vectors, one a row, by which the router tells tasks apart. By default what the
        shared expert's last layer reads, in torch.nn.Sequential networks and perceptrons of scikit-learn.
    predict : callable, optional
        ``predict(model, X)`` gives outputs, one a row. By default class probabilities of an estimator (values of a
        regressor), and the outputs of a torch module.
    max_iter : int, default=100
        Epochs of the router's training at most.
    decimals : int or None, default=3
        Rows whose mixtures agree to so many decimals are answered by one model; None mixes for each row by itself.
    random_state : None, int, Generator or RandomState
        Seed of the router.

    Attributes
    ----------
    shared_ : dict of str to ndarray
        Weights of the shared expert.
    exclusive_ : list of LowRankUpdate
        One a task.
    router_ : MLPClassifier
        Gives the mixture from embeddings.

    References
    ----------
    .. [1] Lu, Z., Fan, C., Wei, W., Qu, X., Chen, D. and Cheng, Y. (2024). Twin-Merging: Dynamic Integration of Modular
       Expertise in Model Merging. NeurIPS.

    Examples
    --------
    >>> import copy, warnings
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neural_network import MLPClassifier
    >>> from corrigible.merging import TwinMerging
    >>> warnings.simplefilter("ignore")
    >>> X, y = load_digits(return_X_y=True)
    >>> tasks = [X / 16, X[:, ::-1] / 16]
    >>> base = MLPClassifier((32,), max_iter=20, random_state=0).fit(tasks[0][:500], y[:500])
    >>> experts = [copy.deepcopy(base) for _ in tasks]
    >>> for expert, rows in zip(experts, tasks, strict=True):
    ...     for _ in range(30):
    ...         _ = expert.partial_fit(rows[:900], y[:900])
    >>> twin = TwinMerging(random_state=0).fit(experts, base, [rows[:900] for rows in tasks])
    >>> [bool(np.mean(twin.predict_class(rows[900:]) == y[900:]) > 0.8) for rows in tasks]
    [True, True]
    """

    def __init__(
        self,
        *,
        scale: float = 0.3,
        rank: float = 0.25,
        embed: Callable[[Any, Any], Any] | None = None,
        predict: Callable[[Any, Any], Any] | None = None,
        max_iter: int = 100,
        decimals: int | None = 3,
        random_state: RandomState = None,
    ) -> None:
        self.scale = scale
        self.rank = rank
        self.embed = embed
        self.predict = predict
        self.max_iter = max_iter
        self.decimals = decimals
        self.random_state = random_state

    def fit(self, models: Sequence[Any], base: Any, inputs: Sequence[Any]) -> Self:
        """Part the experts' knowledge and train the router.

        Parameters
        ----------
        models : sequence of models
            One a task, fine-tuned from the base: torch modules, or linear models or perceptrons of scikit-learn.
        base : model
            What they were fine-tuned from.
        inputs : sequence of array-like
            For each task, rows without labels as the models take them.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If there are fewer than two models, architectures differ, or a task has no rows.
        """
        by = type(self).__name__
        self._check(models, inputs, by)
        start, tuned = weights_of(base, by=by), [weights_of(m, by=by) for m in models]
        check_alike([start, *tuned], by=by)
        self._base = base
        self.shared_ = {k: task_arithmetic([t[k] for t in tuned], v, scale=self.scale) for k, v in start.items()}
        # What an expert has beyond the shared one, not beyond the base: the shared part is not stored twice.
        self.exclusive_ = [
            LowRankUpdate.of({k: t[k] - v for k, v in self.shared_.items()}, self.rank) for t in tuned
        ]
        self._shared_model = with_weights(base, self.shared_)
        self._fit_router([self._embedded(X) for X in inputs])
        return self

    def mixtures(self, X: Any) -> Floats:
        """Return each row's weights of the tasks.

        Parameters
        ----------
        X : array-like
            Rows as the models take them.

        Returns
        -------
        ndarray of shape (n_samples, n_tasks)
            They sum to 1.
        """
        return np.asarray(self._routed(self._embedded(X)))

    def model_for(self, mixture: Any) -> Any:
        """Return the model of one mixture.

        Parameters
        ----------
        mixture : array-like of shape (n_tasks,)
            Weight of each task's own knowledge.

        Returns
        -------
        model
            A copy of the base with the shared expert's weights and the weighted sum of the exclusive ones.
        """
        weights = {}
        for name, value in self.shared_.items():
            added = sum(float(w) * one.tensor(name) for w, one in zip(mixture, self.exclusive_, strict=True))
            weights[name] = np.asarray(value + added, dtype=value.dtype)
        return with_weights(self._base, weights)

    def outputs(self, X: Any) -> Floats:
        """Return the outputs of each row's own model.

        Parameters
        ----------
        X : array-like
            Rows as the models take them.

        Returns
        -------
        ndarray of shape (n_samples, ...)
            Probabilities of classes, values, or a torch module's outputs.
        """
        rows = X if hasattr(X, "detach") else np.asarray(X)
        mixtures = self.mixtures(rows)
        if self.decimals is None:
            groups = [(m, np.array([i])) for i, m in enumerate(mixtures)]
        else:
            keys, where = np.unique(np.round(mixtures, self.decimals), axis=0, return_inverse=True)
            groups = [(key, np.flatnonzero(where.reshape(-1) == i)) for i, key in enumerate(keys)]
        found: Floats | None = None
        for mixture, at in groups:
            said = np.asarray(self._predicted(self.model_for(mixture), rows[at]))
            found = np.empty((len(rows), *said.shape[1:]), dtype=said.dtype) if found is None else found
            found[at] = said
        return np.empty((0,)) if found is None else found

    def predict_class(self, X: Any) -> NDArray[Any]:
        """Return the class of the largest output of each row.

        Parameters
        ----------
        X : array-like
            Rows as the models take them.

        Returns
        -------
        ndarray of shape (n_samples,)
            Classes of the base where it names them, else their numbers.
        """
        largest = self.outputs(X).argmax(axis=1)
        return np.asarray(self._base.classes_)[largest] if hasattr(self._base, "classes_") else largest

    def _check(self, models: Sequence[Any], inputs: Sequence[Any], by: str) -> None:
        check_number(self.scale, name="scale", by=by, low=-1e6, high=1e6)
        check_number(self.rank, name="rank", by=by, low=0.0, high=1.0)
        check_count(self.max_iter, name="max_iter", by=by)
        if self.decimals is not None:
            check_count(self.decimals, name="decimals", by=by)
        if len(models) < 2:
            raise DataError(f"{by} merges two experts or more. Got {len(models)}.")
        if len(inputs) != len(models):
            raise DataError(
                f"{by} needs rows of each task. Got {len(inputs)} sets of rows for {len(models)} models."
            )
        if not all(len(X) for X in inputs):
            raise DataError(f"{by} needs rows of each task. A task has none.")

    def _fit_router(self, embedded: list[Floats]) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        rows = np.concatenate(embedded)
        task = np.repeat(np.arange(len(embedded)), [len(e) for e in embedded])
        self._mean, self._spread = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-12)
        seed = integer_seed(as_generator(self.random_state))
        router = MLPClassifier((2 * rows.shape[1],), max_iter=self.max_iter, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is meant as a limit
            self.router_ = router.fit((rows - self._mean) / self._spread, task)

    def _routed(self, embedded: Floats) -> Floats:
        return np.asarray(self.router_.predict_proba((embedded - self._mean) / self._spread))

    def _embedded(self, X: Any) -> Floats:
        if self.embed is not None:
            found = np.asarray(self.embed(self._shared_model, X), dtype=np.float64)
        else:
            found = chains([self._shared_model] * 2, by=type(self).__name__, separate=False)[0].designs(X)[-1]
        return found.reshape(len(found), -1)

    def _predicted(self, model: Any, X: Any) -> Floats:
        if self.predict is not None:
            return np.asarray(self.predict(model, X))
        if hasattr(model, "predict_proba"):
            return np.asarray(model.predict_proba(X))
        if hasattr(model, "predict"):
            return np.asarray(model.predict(X))
        torch = require("torch", extra="torch", by=type(self).__name__)
        kind = next(model.parameters())
        with torch.no_grad():
            return np.asarray(model.eval()(torch.as_tensor(X).to(kind.dtype)).cpu().numpy())
