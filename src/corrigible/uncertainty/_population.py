"""Populations of one network by committed dropout, and tests of effects over their members.

Paper: Using Artificial Populations to Study Psychological Phenomena in Neural Models (Roberts, Moore, Wilenzick,
Fisher, AAAI 2024).
Original: https://github.com/JesseTNRoberts/PopulationLM
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from corrigible._card import Card
from corrigible._core.multiple_tests import (
    ALTERNATIVES,
    CORRECTIONS,
    corrected,
    label_test,
    sign_flip_test,
    sign_test,
    t_test,
)
from corrigible._utils.optional import require
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_choice, check_count, check_number
from corrigible.errors import DataError, InvalidParameterError

CARD = Card(
    name="population",
    kind="measure",
    obj="Population",
    papers=("populationlm",),
    refs=("roberts2024using",),
    source="https://github.com/JesseTNRoberts/PopulationLM",
    differs="A member's mask has one entry a neuron and holds for all texts and positions, where the authors' code draws "
    "one a text of the batch; it is drawn from a seed, so that a member is the same on any input; hooks apply it, the "
    "network's modules are not replaced. The tests are this library's: the paper's full text could not be had. The "
    "test over items is not in the paper.",
    inputs="model, score",
    stochastic=True,
    cost="n_members + 1 passes of the network; the tests O(n_resamples n_members n_groups)",
    use_when="A claim on what a network does should not rest on the one set of weights that was trained.",
    avoid_when="The question is what other training runs would do: members share all that this run learnt. Train several.",
    also=("PopulationEffects", "population_effects"),
    requires=("torch",),
)

Floats = NDArray[np.floating]
TESTS = ("permutation", "t", "sign")
_BY = "population_effects"
# Dropout of attention weights, whose last axis is no feature but a position.
_ATTENTION = ("attn_dropout", "attn_drop", "attention")


class Population(BaseEstimator):
    """Make members of a population from one network: each lacks some neurons, always the same.

    In member m, each neuron of a layer's output is missing with probability `dropout`, and the others are scaled by
    ``1 / (1 - dropout)``. Which are missing is drawn once from the seed, the member's number and the layer: a member
    is an individual that answers alike whenever it is asked.

    Parameters
    ----------
    n_members : int, default=20
        Number of members.
    dropout : float, default=0.1
        Probability that a neuron is missing, in [0, 1).
    layers : sequence of str, optional
        Names or patterns (``"*.mlp"``) of the modules whose output loses neurons; its last axis is features. By default
        the network's ``nn.Dropout`` modules (but those of attention weights), or if it has none the last linear module
        of each module whose class is called MLP.
    random_state : None, int, Generator or RandomState
        Seeds the members.

    Attributes
    ----------
    layers_ : list of str
        Names of the modules.
    seed_ : int
        What members are drawn from.

    See Also
    --------
    SeedEnsemble : Members that were trained.

    References
    ----------
    .. [1] Roberts, J., Moore, K., Wilenzick, D. and Fisher, D. (2024). Using Artificial Populations to Study
       Psychological Phenomena in Neural Models. AAAI.

    Examples
    --------
    >>> import torch
    >>> from corrigible.uncertainty import Population, population_effects
    >>> _ = torch.manual_seed(0)
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.Dropout(), torch.nn.Linear(64, 1))
    >>> texts = torch.eye(4)
    >>> population = Population(n_members=12, random_state=0).fit(net)
    >>> scores = population.scores(lambda model: model(texts)[:, 0])
    >>> scores.shape
    (12, 4)
    >>> found = population_effects(scores, [True, True, False, False], rng=0)
    >>> found.to_frame()[["n_members", "n_items"]].iloc[0].to_list()
    [12, 4]
    """

    def __init__(
        self,
        *,
        n_members: int = 20,
        dropout: float = 0.1,
        layers: Sequence[str] | None = None,
        random_state: RandomState = None,
    ) -> None:
        self.n_members = n_members
        self.dropout = dropout
        self.layers = layers
        self.random_state = random_state

    def fit(self, model: Any) -> Self:
        """Find the layers and commit the members' seed; the network is kept, and not changed.

        Parameters
        ----------
        model : torch.nn.Module
            Any network.

        Returns
        -------
        self

        Raises
        ------
        InvalidParameterError
            If no module is named by `layers`, or there is none to take by default.
        """
        by = "Population"
        check_count(self.n_members, name="n_members", by=by)
        check_number(self.dropout, name="dropout", by=by, low=0.0, high=1.0, closed="left")
        torch = require("torch", extra="torch", by=by)
        if not isinstance(model, torch.nn.Module):
            raise InvalidParameterError(f"{by}.fit needs a torch.nn.Module. Got {type(model).__name__}.")
        found = _default_layers(model, torch) if self.layers is None else _named_layers(model, self.layers)
        if not found:
            what = "Dropout or MLP modules" if self.layers is None else f"module named {list(self.layers)}"
            raise InvalidParameterError(
                f"{by} finds no {what} in {type(model).__name__}. Name some of model.named_modules() in 'layers'."
            )
        self.layers_, self.seed_ = found, integer_seed(as_generator(self.random_state))
        self._model = model
        return self

    @contextmanager
    def member(self, number: int) -> Iterator[Any]:
        """Give the network as one member, in a ``with`` block; after it the network is as it was.

        Parameters
        ----------
        number : int
            From 0; any number is a member, beyond `n_members` too.

        Yields
        ------
        torch.nn.Module
            In evaluation mode.
        """
        check_is_fitted(self)
        number = check_count(number, name="number", by="Population.member", low=0)
        modules = dict(self._model.named_modules())
        training = [module for module in modules.values() if module.training]
        hooks = [
            modules[name].register_forward_hook(_hook(self.seed_, number, at, float(self.dropout)))
            for at, name in enumerate(self.layers_)
        ]
        try:
            self._model.eval()
            yield self._model
        finally:
            for hook in hooks:
                hook.remove()
            for module in training:
                module.training = True

    def scores(self, score: Callable[[Any], Any]) -> Floats:
        """Return what each member scores.

        Parameters
        ----------
        score : callable
            Takes the network and returns a tensor or array of one shape, mostly a score of each item. No gradients.

        Returns
        -------
        ndarray of shape (n_members, ...)
        """
        check_is_fitted(self)
        torch = require("torch", extra="torch", by="Population")
        found = []
        for number in range(self.n_members):
            with self.member(number) as model, torch.no_grad():
                found.append(_array(score(model)))
        return np.stack(found)


@dataclass(frozen=True, kw_only=True)
class PopulationEffects:
    """Effects in a population, one a group.

    Attributes
    ----------
    group : ndarray of shape (n_groups,)
        Their names.
    mean : ndarray of shape (n_groups,)
        Mean effect over members, in units of the scores.
    low, high : ndarray of shape (n_groups,)
        Student's interval of the mean over members.
    effect_size : ndarray of shape (n_groups,)
        Cohen's d: mean over standard deviation of the members' effects.
    share : ndarray of shape (n_groups,)
        Share of members whose effect is positive.
    p_value : ndarray of shape (n_groups,)
        Corrected; no effect, if members are drawn anew and items stay.
    p_items : ndarray of shape (n_groups,)
        Corrected; no effect, if items are drawn anew and the population's mean score is taken. NaN if scores were
        effects already.
    n_items : ndarray of int of shape (n_groups,)
        Items; 0 if scores were effects already.
    member_effects : ndarray of shape (n_members, n_groups)
        Effect of each member.
    """

    group: NDArray[Any]
    mean: Floats
    low: Floats
    high: Floats
    effect_size: Floats
    share: Floats
    p_value: Floats
    p_items: Floats
    n_items: NDArray[np.intp]
    member_effects: Floats

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row a group."""
        names = ("mean", "low", "high", "effect_size", "share", "p_value", "p_items", "n_items")
        frame = pd.DataFrame(
            {name: getattr(self, name) for name in names}, index=pd.Index(self.group, name="group")
        )
        return frame.assign(n_members=len(self.member_effects))


def population_effects(
    scores: ArrayLike,
    condition: ArrayLike | None = None,
    *,
    group: ArrayLike | None = None,
    pair: ArrayLike | None = None,
    test: str = "permutation",
    alternative: str = "two-sided",
    correction: str = "holm",
    alpha: float = 0.05,
    n_resamples: int = 9999,
    rng: RandomState = None,
) -> PopulationEffects:
    """Test whether items of one condition score higher than those of the other, over members and over items.

    A member's effect is its mean score of the items where `condition` is true less that of the others: members are
    compared with themselves. Two questions are answered. `p_value`: would other members of the population show it, on
    these items? `p_items`: would other items show it, in this population? An effect of a few odd items passes the first
    however few they are, since members differ less than items; an effect worth the name passes both.

    Parameters
    ----------
    scores : array-like of shape (n_members, n_items)
        Of any population: of `Population`, or of networks trained several times.
    condition : array-like of bool of shape (n_items,), optional
        By default scores are effects themselves, a column each.
    group : array-like of shape (n_items,), optional
        Effect that an item belongs to, such as its category; each is tested.
    pair : array-like of shape (n_items,), optional
        Items that differ in nothing but their condition share a value, within a group.
    test : {"permutation", "t", "sign"}, default="permutation"
        Over members. The permutation test flips signs of effects: exact where `n_resamples` allows.
    alternative : {"two-sided", "greater", "less"}, default="two-sided"
        What an effect is.
    correction : {"holm", "fdr", "none"}, default="holm"
        For the number of groups.
    alpha : float, default=0.05
        The interval of the mean misses with this probability; it is not corrected.
    n_resamples : int, default=9999
        Permutations drawn where not all can be tried.
    rng : None, int, Generator or RandomState
        Draws permutations.

    Returns
    -------
    PopulationEffects

    Raises
    ------
    DataError
        If there is one member only, a group lacks a condition, or a pair is none.

    References
    ----------
    .. [1] Roberts, J., Moore, K., Wilenzick, D. and Fisher, D. (2024). Using Artificial Populations to Study
       Psychological Phenomena in Neural Models. AAAI.

    Examples
    --------
    >>> import numpy as np
    >>> from corrigible.uncertainty import population_effects
    >>> noise = np.random.default_rng(0).normal(size=(12, 8))
    >>> typical = np.arange(8) < 4
    >>> population_effects(noise + 2 * typical, typical, rng=0).p_items.round(2)
    array([0.03])
    """
    check_choice(test, TESTS, name="test", by=_BY)
    check_choice(alternative, ALTERNATIVES, name="alternative", by=_BY)
    check_choice(correction, CORRECTIONS, name="correction", by=_BY)
    check_number(alpha, name="alpha", by=_BY, low=0.0, high=1.0, closed="neither")
    check_count(n_resamples, name="n_resamples", by=_BY)
    words: dict[str, Any] = {
        "alternative": alternative, "n_resamples": n_resamples, "rng": as_generator(rng, by="rng")
    }  # fmt: skip
    table = _checked_scores(scores)
    if condition is None:
        if group is not None or pair is not None:
            raise DataError(f"'group' and 'pair' of {_BY} say which items to compare: they need 'condition'.")
        k = table.shape[1]
        names, effects, p_items, n_items = np.arange(k), table, np.full(k, np.nan), np.zeros(k, dtype=np.intp)
    else:
        names, effects, p_items, n_items = _item_effects(table, condition, group, pair, words)
        p_items = corrected(p_items, correction)
    if test == "permutation":
        p_members = sign_flip_test(effects, **words)
    else:
        p_members = (t_test if test == "t" else sign_test)(effects, alternative=alternative)
    mean, spread, n = effects.mean(axis=0), effects.std(axis=0, ddof=1), len(effects)
    half = student.ppf(1 - alpha / 2, n - 1) * spread / np.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.where(mean == 0, 0.0, mean / spread)
    return PopulationEffects(
        group=names, mean=mean, low=mean - half, high=mean + half, effect_size=size,
        share=(effects > 0).mean(axis=0), p_value=corrected(p_members, correction), p_items=p_items, n_items=n_items,
        member_effects=effects,
    )  # fmt: skip


def _default_layers(model: Any, torch: Any) -> list[str]:
    kept = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Dropout) and not set(name.split(".")) & set(_ATTENTION)
    ]
    if kept:
        return kept
    for name, module in model.named_modules():
        if type(module).__name__.endswith("MLP"):
            linear = [n for n, child in module.named_children() if isinstance(child, torch.nn.Linear)]
            kept += [f"{name}.{linear[-1]}".lstrip(".")] if linear else []
    return kept


def _named_layers(model: Any, patterns: Sequence[str]) -> list[str]:
    names = [name for name, _ in model.named_modules() if name]
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _hook(seed: int, member: int, layer: int, dropout: float) -> Callable[..., Any]:
    masks: dict[int, Any] = {}

    def hook(module: Any, inputs: Any, output: Any) -> Any:
        x = output[0] if isinstance(output, tuple) else output
        width = x.shape[-1]
        if width not in masks:
            kept = np.random.default_rng([seed, member, layer]).uniform(size=width) >= dropout
            masks[width] = x.new_tensor(kept / (1 - dropout))
        masked = x * masks[width]
        return (masked, *output[1:]) if isinstance(output, tuple) else masked

    return hook


def _array(scores: Any) -> Floats:
    return np.asarray(scores.detach().cpu() if hasattr(scores, "detach") else scores, dtype=np.float64)


def _checked_scores(scores: ArrayLike) -> Floats:
    table = np.asarray(scores, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] == 0:
        raise DataError(
            f"'scores' of {_BY} must have shape (n_members, n_items) with two members or more. Got {table.shape}."
        )
    if not np.isfinite(table).all():
        raise DataError(f"'scores' of {_BY} must be finite. Drop the items or members that are not.")
    return table


def _item_effects(
    scores: Floats, condition: ArrayLike, group: ArrayLike | None, pair: ArrayLike | None, words: dict[str, Any]
) -> tuple[NDArray[Any], Floats, Floats, NDArray[np.intp]]:
    """Return names of groups, members' effects (n_members, n_groups), p-values over items, and numbers of items."""
    n = scores.shape[1]
    chosen = _of_items(condition, n, "condition")
    if not set(np.unique(chosen)) <= {0, 1}:
        raise DataError(f"'condition' of {_BY} must be true or false. Got {np.unique(chosen)[:5].tolist()}.")
    chosen = chosen.astype(bool)
    groups = np.zeros(n, dtype=int) if group is None else _of_items(group, n, "group")
    names, code = np.unique(groups, return_inverse=True)
    effects, p = np.empty((len(scores), len(names))), np.empty(len(names))
    for g, name in enumerate(names):
        items = np.flatnonzero(code == g)
        a, b = items[chosen[items]], items[~chosen[items]]
        if len(a) == 0 or len(b) == 0:
            raise DataError(f"Each group of {_BY} needs items of both conditions. Group {name!r} has one.")
        effects[:, g] = scores[:, a].mean(axis=1) - scores[:, b].mean(axis=1)
        if pair is None:
            p[g] = label_test(scores[:, items].mean(axis=0), chosen[items], **words)
        else:
            pairs = _of_items(pair, n, "pair")
            a, b = a[np.argsort(pairs[a], kind="stable")], b[np.argsort(pairs[b], kind="stable")]
            if len(np.unique(pairs[a])) < len(a) or not np.array_equal(pairs[a], pairs[b]):
                raise DataError(f"Each pair of {_BY} needs one item of each condition. Group {name!r} has others.")
            differences = (scores[:, a] - scores[:, b]).mean(axis=0)
            p[g] = sign_flip_test(differences[:, None], **words)[0]
    return names, effects, p, np.bincount(code)


def _of_items(values: ArrayLike, n: int, name: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.shape != (n,):
        raise DataError(f"{name!r} of {_BY} must have {n} entries, one an item. Got shape {array.shape}.")
    return array
