"""SCRUB: a student that departs from its teacher on bad rows and stays with it on the others.

Papers: Towards Unbounded Machine Unlearning (Kurmanji, Triantafillou, Hayes, Triantafillou, NeurIPS 2023); Corrective
Machine Unlearning (Goel, Prabhu, Torr, Kumaraguru, Sanyal, TMLR 2024).
Original: https://github.com/meghdadk/SCRUB
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from corrigible._card import Card
from corrigible._core.torch_training import Module, Tensor, seeded
from corrigible._utils.random import RandomState, as_generator, integer_seed
from corrigible._utils.validation import check_count, check_number
from corrigible.editing._unlearning import Ints, Rows, checked_rows, known_rows, network_copy

CARD = Card(
    name="scrub",
    kind="measure",
    obj="SCRUB",
    papers=("corr_unlearn",),
    refs=("kurmanji2023towards", "goel2024corrective"),
    source="https://github.com/meghdadk/SCRUB",
    differs="The step falls to 0 along half a cosine; the authors divide it by ten at given epochs. Rewinding to an epoch "
    "at which bad rows are as hard as unseen ones, which guards privacy, is left out. In steps away from the teacher the "
    "divergence alone is maximised, as in SCRUB; the corrective paper's code maximises the loss on given labels too.",
    inputs="model, X, y, bad",
    stochastic=True,
    cost="max_iter epochs over the rows not known to be bad, two networks' passes a step",
    use_when="Bad rows carry a trigger; give few of them a step (bad_batch_size) and try several sizes of step.",
    avoid_when="Nothing is at hand to choose steps by: the defaults repair little where few of the bad rows are known.",
    requires=("torch",),
)


class SCRUB(BaseEstimator):
    """Train a copy of the network away from the original on bad rows and towards it on the others, in turn.

    With p_t the original's probabilities and p_s the copy's, at temperature T, ``d = T ** 2 * KL(p_t || p_s)``. Each of
    the first `max_steps` epochs begins by maximising the mean of d over the rows known to be bad; every epoch minimises
    the mean of ``alpha * d + gamma * cross-entropy`` over the other rows.

    Parameters
    ----------
    alpha, gamma : float, default=0.5, 1.0
        Weights of the divergence and of the cross-entropy on the rows that stay.
    temperature : float, default=2.0
        T.
    max_steps : int, default=3
        Epochs that begin by departing from the original on bad rows.
    max_iter : int, default=10
        Epochs.
    batch_size : int, default=64
        Rows a step.
    bad_batch_size : int, optional
        Known bad rows a step, by default as many; fewer make more steps away where few are known.
    learning_rate : float, default=0.0005
        First step size of Adam.
    weight_decay : float, default=0.0005
        Of Adam, added to the gradient.
    random_state : None, int, Generator or RandomState
        Source of the shuffles.

    Attributes
    ----------
    model_ : torch module
        The corrected copy, in evaluation mode.

    See Also
    --------
    SSD : Trains nothing, and chooses its strength itself.

    References
    ----------
    .. [1] Kurmanji, M., Triantafillou, P., Hayes, J. and Triantafillou, E. (2023). Towards Unbounded Machine
       Unlearning. NeurIPS.
    .. [2] Goel, S., Prabhu, A., Torr, P., Kumaraguru, P. and Sanyal, A. (2024). Corrective Machine Unlearning. TMLR.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from corrigible.editing import SCRUB
    >>> X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    >>> network = torch.nn.Linear(3, 2)
    >>> scrub = SCRUB(max_iter=2, random_state=0).fit(network, X, (X[:, 0] > 0).astype(int), bad=[3, 8])
    >>> scrub.model_(torch.zeros(4, 3)).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        *,
        alpha: float = 0.5,
        gamma: float = 1.0,
        temperature: float = 2.0,
        max_steps: int = 3,
        max_iter: int = 10,
        batch_size: int = 64,
        bad_batch_size: int | None = None,
        learning_rate: float = 0.0005,
        weight_decay: float = 0.0005,
        random_state: RandomState = None,
    ) -> None:
        self.alpha = alpha
        self.gamma = gamma
        self.temperature = temperature
        self.max_steps = max_steps
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.bad_batch_size = bad_batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def fit(
        self,
        model: Any,
        X: Any,
        y: ArrayLike,
        bad: ArrayLike,
        *,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
    ) -> Self:
        """Train a copy of the network.

        Parameters
        ----------
        model : torch module
            From rows to logits; left as it is. Parameters that require no gradient stay as they are.
        X : array-like or tensor of shape (n_samples, ...)
            The training rows, bad ones included. Of arrays, memory-mapped ones too, a batch at a time is read.
        y : array-like of shape (n_samples,)
            The labels it was trained on, as numbers of the logits' columns.
        bad : array-like of bool of shape (n_samples,), or of row numbers
            The rows known to be bad.
        X_val, y_val : array-like, optional
            Not used; here so that all methods are called alike.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If rows are not finite, labels do not fit the logits, or no row or every row is bad.
        InvalidParameterError
            If a parameter is out of range.
        """
        by = type(self).__name__
        self._check(by)
        student = network_copy(model, by)
        rows = checked_rows(student, X, y, by=by)
        known = known_rows(bad, len(rows), by)
        others = np.setdiff1d(np.arange(len(rows)), known)
        seed = integer_seed(as_generator(self.random_state))
        with seeded(seed):
            self._train(student, copy.deepcopy(student), rows, known, others, np.random.default_rng(seed))
        self.model_ = student.eval()
        return self

    def _check(self, by: str) -> None:
        for name in ("alpha", "gamma", "weight_decay"):
            check_number(getattr(self, name), name=name, by=by, low=0.0, high=1e6)
        for name in ("temperature", "learning_rate"):
            check_number(getattr(self, name), name=name, by=by, low=0.0, high=1e6, closed="right")
        for name in ("max_iter", "batch_size"):
            check_count(getattr(self, name), name=name, by=by)
        if self.bad_batch_size is not None:
            check_count(self.bad_batch_size, name="bad_batch_size", by=by)
        check_count(self.max_steps, name="max_steps", by=by, low=0)

    def _train(
        self, student: Module, teacher: Module, rows: Rows, known: Ints, others: Ints, rng: np.random.Generator
    ) -> None:
        torch, size = rows.torch, int(self.batch_size)
        bad_size = size if self.bad_batch_size is None else int(self.bad_batch_size)
        trained = [p for p in student.parameters() if p.requires_grad]
        adam = torch.optim.Adam(trained, lr=self.learning_rate, weight_decay=self.weight_decay)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.max_iter)

        def epoch(index: Ints, size: int, objective: Callable[[Tensor, Tensor], Tensor]) -> None:
            for part in np.array_split(rng.permutation(index), -(-len(index) // size)):
                X, y = rows.batch(part)
                logits, kept = student(X), self._kept(torch, teacher, X)
                adam.zero_grad()
                objective(
                    self._divergence(torch, logits, kept), torch.nn.functional.cross_entropy(logits, y)
                ).backward()
                adam.step()

        for number in range(self.max_iter):
            student.train()
            if number < self.max_steps:
                epoch(known, bad_size, lambda divergence, _: -divergence)
            epoch(others, size, lambda divergence, loss: self.alpha * divergence + self.gamma * loss)
            falling.step()

    def _kept(self, torch: Any, teacher: Module, X: Tensor) -> Tensor:
        with torch.no_grad():
            return teacher(X)

    def _divergence(self, torch: Any, student: Tensor, teacher: Tensor) -> Tensor:
        """Return T^2 KL(teacher || student), a row's mean, in nats."""
        t = float(self.temperature)
        target, found = (teacher / t).log_softmax(dim=1), (student / t).log_softmax(dim=1)
        return t**2 * torch.nn.functional.kl_div(found, target, reduction="batchmean", log_target=True)
