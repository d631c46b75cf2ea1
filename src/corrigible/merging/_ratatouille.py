"""Model ratatouille: fine-tune on the target from models of several auxiliary tasks, and average what comes out.

Paper: Model Ratatouille: Recycling Diverse Models for Out-of-Distribution Generalization (Rame, Ahuja, Zhang, Cord,
Bottou, Lopez-Paz, ICML 2023).
Original: https://github.com/facebookresearch/ModelRatatouille
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

from corrigible._card import Card
from corrigible._core.model_weights import Weights, differences, weights_of, with_weights
from corrigible._utils.validation import check_count
from corrigible.errors import DataError
from corrigible.merging._soups import GreedySoup, UniformSoup

CARD = Card(
    name="ratatouille",
    kind="merger",
    obj="Ratatouille",
    papers=("ratatouille",),
    refs=("rame2023ratatouille",),
    source="https://github.com/facebookresearch/ModelRatatouille",
    differs="Training is the caller's: functions for the linear probe and for fine-tuning are handed in. The authors draw "
    "hyperparameters for each run at random; here the run's number is given to the function.",
    inputs="base, auxiliaries",
    stochastic=False,
    cost="A fine-tuning for each start and run, then a pass over their weights; the greedy selection adds two scores each",
    use_when="Fine-tunes of the same base on other tasks lie around, and the model will meet inputs unlike its training's.",
    avoid_when="Auxiliary models left the base so far that fine-tunes from them are no longer connected: scores of the "
    "average then fall below those of its parts.",
)


class Ratatouille:
    """Average fine-tunes that started from models of other tasks.

    Every start has the body of one auxiliary model and the head of the base, trained by linear probing where `probe` is
    given: so that fine-tuning neither distorts features nor begins from different heads.

    Parameters
    ----------
    fine_tune : callable
        ``fine_tune(model, run)`` returns a model of the same architecture, trained on the target task from `model`, which
        it may change; `run` counts from 0, for seeds and hyperparameters.
    probe : callable, optional
        ``probe(model)`` returns a copy of the base whose head is trained on the target task and whose body is not.
    head : sequence of str, optional
        Names of the tensors that make up the head; by default those of the last layer.
    include_base : bool, default=True
        Start from the base too.
    n_runs : int, default=1
        Fine-tunings for each start.
    score : callable, optional
        Takes a model and gives a number, higher is better, on held-out rows of the target task: models then enter the
        average as in `GreedySoup`. Without it all do.

    Attributes
    ----------
    starts_ : list of model
        Where fine-tunings began.
    models_ : list of model
        Where they ended, run by run for each start.
    ingredients_ : list of int
        Those in the average.
    weights_ : dict of str to ndarray
        The average.
    model_ : model
        A copy of the base with these weights.

    See Also
    --------
    UniformSoup : The same average of fine-tunes that all start from the base.

    References
    ----------
    .. [1] Rame, A., Ahuja, K., Zhang, J., Cord, M., Bottou, L. and Lopez-Paz, D. (2023). Model Ratatouille: Recycling
       Diverse Models for Out-of-Distribution Generalization. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.merging import Ratatouille
    >>> def fine_tune(model, run):  # half-way to 1
    ...     return {name: (value + 1) / 2 for name, value in model.items()}
    >>> base = {"body.w": np.zeros(2), "head.w": np.zeros(1)}
    >>> auxiliary = {"body.w": np.array([4.0, 0.0]), "head.w": np.ones(5)}  # a head of another task
    >>> Ratatouille(fine_tune).fit(base, [auxiliary]).weights_
    {'body.w': array([1.5, 0.5]), 'head.w': array([0.5])}
    """

    def __init__(
        self,
        fine_tune: Callable[[Any, int], Any],
        *,
        probe: Callable[[Any], Any] | None = None,
        head: Sequence[str] | None = None,
        include_base: bool = True,
        n_runs: int = 1,
        score: Callable[[Any], float] | None = None,
    ) -> None:
        self.fine_tune = fine_tune
        self.probe = probe
        self.head = head
        self.include_base = include_base
        self.n_runs = n_runs
        self.score = score

    def fit(self, base: Any, auxiliaries: Sequence[Any]) -> Self:
        """Fine-tune from every start and average.

        Parameters
        ----------
        base : model
            The pre-trained model with a head for the target task: weights by name, a torch module, or a linear model or
            perceptron of scikit-learn.
        auxiliaries : sequence of models
            Fine-tuned from the base on other tasks; their heads may be of other shapes, and are not used.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If there is nothing to start from, a body differs from the base's, or a name of the head is not known.
        """
        by = type(self).__name__
        check_count(self.n_runs, name="n_runs", by=by)
        if not len(auxiliaries):
            raise DataError(f"{by} needs at least one model of an auxiliary task. Got none.")
        probed = base if self.probe is None else self.probe(base)
        target = weights_of(probed, by=by)
        head = self._head(target, by)
        _check_bodies([weights_of(base, by=by), target], head, ["the base", "the probed model"], by)
        self.starts_ = [with_weights(probed, dict(target))] if self.include_base else []
        for i, auxiliary in enumerate(auxiliaries):
            weights = weights_of(auxiliary, by=by)
            _check_bodies([target, weights], head, ["the base", f"auxiliary model {i}"], by)
            # An entry of an auxiliary that lies in the head is of another task, whatever its shape.
            self.starts_.append(
                with_weights(probed, {k: v if k in head else weights[k] for k, v in target.items()})
            )
        self.models_ = [self._tuned(start, run, by) for start in self.starts_ for run in range(self.n_runs)]
        if self.score is None:
            self.ingredients_ = list(range(len(self.models_)))
            self.weights_ = UniformSoup().fit(self.models_).weights_
        else:
            soup = GreedySoup(self.score).fit(self.models_)
            self.ingredients_, self.weights_ = soup.ingredients_, soup.weights_
        self.model_ = with_weights(probed, self.weights_)
        return self

    def _tuned(self, start: Any, run: int, by: str) -> Any:
        # A copy: the starts are kept as they were.
        found = self.fine_tune(with_weights(start, {k: v.copy() for k, v in weights_of(start, by=by).items()}), run)
        if found is None:
            raise DataError(f"The 'fine_tune' of {by} must return the trained model. Got None.")
        return found

    def _head(self, weights: Weights, by: str) -> set[str]:
        if self.head is not None:
            if unknown := [name for name in self.head if name not in weights]:
                raise DataError(f"The 'head' of {by} names {unknown[0]!r}, which the base does not have.")
            return set(self.head)
        if "coefs_.0" in weights:
            last = sum(name.startswith("coefs_.") for name in weights) - 1
            return {f"coefs_.{last}", f"intercepts_.{last}"}
        if "coef_" in weights:
            raise DataError(f"{by} needs a body beneath the head. A linear model has none.")
        stem = list(weights)[-1].rpartition(".")[0]
        return {name for name in weights if name.rpartition(".")[0] == stem}


def _check_bodies(models: list[Weights], head: set[str], names: list[str], by: str) -> None:
    shapes = [{k: v.shape for k, v in m.items() if k not in head} for m in models]
    if differing := differences(shapes, names):
        raise DataError(f"The models of {by} differ in architecture: {differing}.")
