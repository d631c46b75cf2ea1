"""Model soups: average fine-tuned models, all of them, those that help, or with learnt weights.

Paper: Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing inference time
(Wortsman, Ilharco, Gadre, Roelofs, Gontijo-Lopes, Morcos, Namkoong, Farhadi, Carmon, Kornblith, Schmidt, ICML 2022).
Original: https://github.com/mlfoundations/model-soups
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from corrigible._card import Card
from corrigible._core.model_weights import Weights, check_alike, weights_of, with_weights
from corrigible._core.simplex import softmax
from corrigible._core.tensor_files import read_tensors
from corrigible._utils.validation import check_count
from corrigible.errors import DataError

CARD = Card(
    name="soups",
    kind="merger",
    obj="GreedySoup",
    also=("UniformSoup", "LearnedSoup"),
    papers=("soups",),
    refs=("wortsman2022soups",),
    source="https://github.com/mlfoundations/model-soups",
    differs="The learned soup's weights are found without gradients, by COBYLA from the uniform soup over a softmax, and "
    "kept only if they beat it on the validation rows; the authors use gradient descent with a learnt temperature.",
    inputs="models, score",
    stochastic=False,
    cost="Uniform: a pass over the models. Greedy: a score and a pass over each of them twice. Learned: max_iter scores "
    "and passes. Memory of three models, however many there are, if they are named as files",
    use_when="Several fine-tunes of one base with other hyperparameters or seeds are at hand, as after a search.",
    avoid_when="Fine-tunes left the base so far that accuracy falls between them: the greedy soup is then one model.",
)


class UniformSoup:
    """The plain average of all models.

    Attributes
    ----------
    weights_ : dict of str to ndarray
        The soup.
    model_ : object
        A copy of the first model with these weights; a dict if the models are dicts or files.

    References
    ----------
    .. [1] Wortsman, M. et al. (2022). Model soups. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.merging import UniformSoup
    >>> UniformSoup().fit([{"w": np.array([0.0])}, {"w": np.array([1.0])}]).weights_["w"]
    array([0.5])
    """

    def fit(self, models: Sequence[Any]) -> Self:
        """Average the models.

        Parameters
        ----------
        models : sequence
            Weights by name, torch modules, scikit-learn linear or MLP models, or paths of safetensors files.

        Returns
        -------
        self
        """
        pool = _Pool(models, type(self).__name__)
        self.weights_ = pool.mixed(np.full(len(models), 1 / len(models)))
        self.model_ = pool.model(self.weights_)
        return self


class GreedySoup:
    """Add models, best first, as long as the soup's score does not fall.

    Parameters
    ----------
    score : callable
        Takes what the models are (a dict of weights for dicts and files, else a model) and gives a number, higher is
        better, on held-out rows.

    Attributes
    ----------
    ingredients_ : list of int
        Models in the soup, in the order added.
    score_ : float
        Of the soup; never below that of the best model, on the rows of `score`.
    scores_ : ndarray of shape (n_models,)
        Of each model.
    weights_, model_
        As in `UniformSoup`.

    References
    ----------
    .. [1] Wortsman, M. et al. (2022). Model soups. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.merging import GreedySoup
    >>> models = [{"w": np.array([x])} for x in (0.7, 1.2, 9.0)]
    >>> soup = GreedySoup(lambda m: -abs(float(m["w"][0]) - 1)).fit(models)
    >>> soup.ingredients_, soup.weights_["w"].round(2)
    ([1, 0], array([0.95]))
    """

    def __init__(self, score: Callable[[Any], float]) -> None:
        self.score = score

    def fit(self, models: Sequence[Any]) -> Self:
        """Build the soup.

        Parameters
        ----------
        models : sequence
            As in `UniformSoup`.

        Returns
        -------
        self
        """
        pool = _Pool(models, type(self).__name__)
        self.scores_ = np.array([pool.score(self.score, pool.weights(i)) for i in range(len(models))])
        order = np.argsort(-self.scores_, kind="stable")
        self.ingredients_ = [int(order[0])]
        self.score_ = float(self.scores_[order[0]])
        soup = dict(pool.weights(self.ingredients_[0]))
        for i in order[1:]:
            n, one = len(self.ingredients_), pool.weights(int(i))
            tried = {k: soup[k] + np.asarray((one[k] - soup[k]) / (n + 1), dtype=soup[k].dtype) for k in soup}
            value = pool.score(self.score, tried)
            if value >= self.score_:
                soup, self.score_ = tried, float(value)
                self.ingredients_.append(int(i))
        self.weights_ = soup
        self.model_ = pool.model(soup)
        return self


class LearnedSoup:
    """The weighted average whose weights score best.

    Parameters
    ----------
    score : callable
        As in `GreedySoup`; a smooth one, such as the negative loss, is found best.
    max_iter : int, default=200
        Scores at most.

    Attributes
    ----------
    mixture_ : ndarray of shape (n_models,)
        Weights of the models; they sum to 1.
    score_ : float
        Of the soup; never below that of the uniform soup, on the rows of `score`.
    weights_, model_
        As in `UniformSoup`.

    References
    ----------
    .. [1] Wortsman, M. et al. (2022). Model soups. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.merging import LearnedSoup
    >>> models = [{"w": np.array([x])} for x in (0.0, 4.0)]
    >>> LearnedSoup(lambda m: -(float(m["w"][0]) - 1) ** 2).fit(models).mixture_.round(2)
    array([0.75, 0.25])
    """

    def __init__(self, score: Callable[[Any], float], *, max_iter: int = 200) -> None:
        self.score = score
        self.max_iter = max_iter

    def fit(self, models: Sequence[Any]) -> Self:
        """Learn the mixture.

        Parameters
        ----------
        models : sequence
            As in `UniformSoup`.

        Returns
        -------
        self
        """
        by = type(self).__name__
        check_count(self.max_iter, name="max_iter", by=by)
        pool = _Pool(models, by)

        def lost(free: NDArray[np.float64]) -> float:
            mixture = softmax(np.concatenate([[0.0], free])[None])[0]  # one is fixed: only differences matter
            return -pool.score(self.score, pool.mixed(mixture))

        start = np.zeros(len(models) - 1)
        best, self.score_ = start, -lost(start)
        if len(models) > 1:
            found = minimize(
                lost, start, method="COBYLA", options={"maxiter": self.max_iter, "rhobeg": 1.0, "tol": 1e-4}
            )
            if -found.fun > self.score_:
                best, self.score_ = found.x, float(-found.fun)
        self.mixture_ = softmax(np.concatenate([[0.0], best])[None])[0]
        self.weights_ = pool.mixed(self.mixture_)
        self.model_ = pool.model(self.weights_)
        return self


class _Pool:
    """Models that are opened one at a time."""

    def __init__(self, models: Sequence[Any], by: str) -> None:
        if not len(models):
            raise DataError(f"{by} needs at least one model. Got none.")
        self.models, self.by = list(models), by
        self.first = self.weights(0)
        for i in range(1, len(models)):
            check_alike([self.first, self.weights(i)], by=by)

    def weights(self, i: int) -> Weights:
        one = self.models[i]
        if isinstance(one, str | Path):
            return read_tensors(Path(one))
        return weights_of(one, by=self.by)

    def mixed(self, mixture: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        # By differences from the first: equal models give that model to the bit.
        soup = {k: np.array(v) for k, v in self.first.items()}
        for i in range(1, len(self.models)):
            one = self.weights(i)
            for k, v in soup.items():
                v += np.asarray(mixture[i] * (one[k] - self.first[k]), dtype=v.dtype)
        return soup

    def model(self, weights: Weights) -> Any:
        one = self.models[0]
        return dict(weights) if isinstance(one, str | Path) else with_weights(one, weights)

    def score(self, score: Callable[[Any], float], weights: Weights) -> float:
        value = float(score(self.model(weights)))
        if value != value:
            raise DataError(f"The 'score' of {self.by} must be a number. Got NaN.")
        return value
