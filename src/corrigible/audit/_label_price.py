"""What asking every training label again would bring: one learning curve, in units of right labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible._core.power_law import power_law_posterior
from corrigible.audit._chain import Chain, LineRecord, mean_and_error
from corrigible.audit._refits import ask, folds
from corrigible.errors import DataError
from corrigible.scaling import learning_curve_points
from corrigible.uncertainty import VectorScaling

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]

# Agreement this little above chance says nothing about labels; less information than the least would put a hundred
# rows in the place of one.
_LEAST_AGREEMENT = 0.02
_LEAST_INFORMATION = 0.01
_SHARES = (0.1, 0.18, 0.32, 0.56, 1.0)
_REPEATS = 3
_MIN_ROWS = 200
# With fewer test rows outside a fold, a model of them says nothing about one of the training rows.
_MIN_RIGHT = 40
# More test rows than this are split once, not five times: the curve need not be surer than that.
_MANY_ROWS = 20_000
# Laws are drawn anew for so many values of the information that a training label keeps.
_LAWS = 16


@dataclass(frozen=True)
class LabelNoise:
    """Signs of wrong training labels, and what learning curves say of right ones.

    Attributes
    ----------
    train, train_error : float
        Share of training labels that a model not fitted to them agrees with, and its standard error.
    n_classes : int
    test : ndarray of shape (n_test,)
        1 where the model agrees with the test label, else 0.
    now : ndarray of shape (n_test,)
        Losses of the model as it is.
    given_sizes, right_sizes : ndarray of shape (n_sizes,)
        Numbers of training rows with the labels as they came, the largest being all; numbers of test rows, whose
        labels are right.
    given, right : ndarray of shape (n_test, n_sizes)
        Recalibrated losses of models fitted to so many of them; the second of models that saw other test rows.
    """

    train: float
    train_error: float
    n_classes: int
    test: Floats
    now: Floats
    given_sizes: Floats
    given: Floats
    right_sizes: Floats
    right: Floats

    def columns(self) -> Floats:
        """Return what the bootstrap resamples, (n_test, 2 + number of sizes)."""
        return np.column_stack([self.test, self.now, self.given, self.right])

    def gain(self, drawn: Floats, means: Floats, rng: np.random.Generator) -> Floats:
        """Return draws of what right training labels would bring.

        Labels of which a share e was flipped to any other class are agreed with less: of the agreement above chance,
        the contraction ``c = 1 - e k / (k - 1)`` is left. If test labels are right, the ratio of both tells it. A
        label that agrees with probability q = 1/k + c (p - 1/k) in place of p has ``r = c^2 p (1 - p) / (q (1 - q))``
        of its Fisher information, so n labels as they came stand at r n right ones on the learning curve, beside
        the test rows, whose labels are right. The law through both is read at n right labels.

        Parameters
        ----------
        drawn : ndarray of shape (n_resamples, n_columns)
            Bootstrap draws of the means of `columns`.
        means : ndarray of shape (n_columns,)
            Their means.
        rng : Generator
            Source of draws.
        """
        p, q = drawn[:, 0], self.train + self.train_error * rng.normal(size=len(drawn))
        information = _information(p, q, self.n_classes)
        result = np.empty(len(drawn))
        for part in np.array_split(np.argsort(information, kind="stable"), min(_LAWS, len(drawn))):
            x = np.concatenate([float(np.median(information[part])) * self.given_sizes, self.right_sizes])
            result[part] = drawn[part, 1] - self._ahead(x, drawn[part, 2:], means[2:], rng)
        return result

    def _ahead(self, x: Floats, drawn: Floats, means: Floats, rng: np.random.Generator) -> Floats:
        """Return draws of the loss at as many right labels as there are training rows."""
        n, top = self.given_sizes[-1], int(x.argmax())
        if x[top] >= n:  # measured, not extrapolated
            return drawn[:, top]
        # Larger sizes weigh more: the law is asked beyond them, and small models can be of another kind (few splits).
        fall, b, _, scatter, unit = power_law_posterior(x, means, np.sqrt(x), 0.0)
        at = rng.integers(len(fall), size=len(drawn))
        still = fall[at] * ((x[top] / x.min()) ** -b[at] - (n / x.min()) ** -b[at])
        # One model of that size scatters about the law.
        return np.asarray(drawn[:, top] - still + scatter[at] * unit[at])


def _information(test: Any, train: Any, n_classes: int) -> Any:
    """Return the share of its Fisher information that a label keeps, by the agreement with both kinds of labels."""
    c = contraction(train, test, n_classes)
    train = 1 / n_classes + c * (test - 1 / n_classes)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(train < 1, c**2 * test * (1 - test) / (train * (1 - train)), 1.0)
    return np.clip(share, _LEAST_INFORMATION, 1.0)


def contraction(train: Any, test: Any, n_classes: int) -> Any:
    """Return what is left of the agreement above chance; 1 where nothing can be told."""
    above = test - 1 / n_classes
    usable = above > _LEAST_AGREEMENT
    ratio = np.where(usable, (train - 1 / n_classes) / np.where(usable, above, 1.0), 1.0)
    return np.clip(ratio, 0.0, 1.0)


def label_noise(chain: Chain) -> LabelNoise | None:
    """Look for noise in the training labels; None where agreement is as with the test labels, or rows are few."""
    problem, side = chain.problem, chain.sides[0]
    assert problem.X_train is not None
    if not problem.is_classification or len(side.y) < _MIN_ROWS:
        return None
    output, weight, k = chain.corrected(), problem.test_weight, len(problem.classes)
    train, train_error = mean_and_error((side.output.argmax(axis=1) == side.y).astype(float))
    agrees = (output.argmax(axis=1) == problem.y_test).astype(float)
    test, test_error = mean_and_error(agrees, weight)
    error = 1.96 * float(np.hypot(train_error, test_error))
    if contraction(train, test - error, k) >= 1:
        return None
    now = problem.row_loss(output, problem.y_test)
    given_sizes, given = _curve_of_given_labels(chain)
    right_sizes, right = _curve_of_right_labels(chain)
    return LabelNoise(train, train_error, k, agrees, now, given_sizes, given, right_sizes, right)


def _curve_of_given_labels(chain: Chain) -> tuple[Floats, Floats]:
    """Return sizes and recalibrated test losses (n_test, n_sizes) of models of training rows."""
    problem = chain.problem
    n = len(chain.sides[0].y)
    sizes = np.unique([round(share * n) for share in _SHARES])
    losses = learning_curve_points(
        chain.template, problem.X_train, chain.raw_labels(), problem.X_test,
        row_loss=lambda model, X: _recalibrated_loss(chain, ask(model, X, problem.classes)), sizes=sizes,
        n_repeats=_REPEATS, rng=np.random.default_rng(chain.seed), n_jobs=chain.n_jobs,
    )  # fmt: skip
    return sizes.astype(float), losses.mean(axis=1).T


def _curve_of_right_labels(chain: Chain) -> tuple[Floats, Floats]:
    """Return sizes and recalibrated losses (n_test, n_sizes) of models of the other folds' test rows.

    It ends at the number of training rows, where nothing is left to extrapolate. Nothing is returned where a fold
    leaves too few rows, or rows to which this model cannot be fitted.
    """
    problem, fold = chain.problem, _test_folds(chain)
    y, n, k = problem.y_test, len(chain.sides[0].y), len(problem.classes)
    outside = [fold != j for j in np.unique(fold)]
    least = min(n, *(int(rows.sum()) for rows in outside))
    sizes = np.unique([max(round(share * least), 2 * k) for share in _SHARES])
    none = np.empty(0), np.empty((len(y), 0))
    if least < max(_MIN_RIGHT, 2 * k) or any(len(np.unique(y[rows])) < 2 for rows in outside):
        return none
    try:
        outputs = [_outputs_by_size(chain, rows, sizes, seed=j) for j, rows in enumerate(outside)]
    except DataError:
        return none
    joined = np.empty((len(sizes), len(y), k))
    for rows, part in zip(outside, outputs, strict=True):
        joined[:, ~rows] = part
    return sizes.astype(float), np.column_stack([_recalibrated_loss(chain, output) for output in joined])


def _outputs_by_size(chain: Chain, rows: Mask, sizes: NDArray[np.intp], *, seed: int) -> Floats:
    """Fit to growing parts of some test rows; return the outputs of the others, (n_sizes, n_others, k)."""
    problem = chain.problem
    assert problem.X_test is not None
    outputs = learning_curve_points(
        chain.template, problem.X_test[rows], problem.classes[problem.y_test[rows]], problem.X_test[~rows],
        row_loss=lambda model, X: ask(model, X, problem.classes).ravel(),  # outputs stand where losses do
        sizes=sizes, n_repeats=1, rng=np.random.default_rng([chain.seed, seed]), n_jobs=chain.n_jobs,
    )  # fmt: skip
    return outputs.reshape(len(sizes), -1, len(problem.classes))


def _test_folds(chain: Chain) -> NDArray[np.intp]:
    y = chain.problem.y_test
    return folds(y, 5 if len(y) <= _MANY_ROWS else 2, stratify=True, seed=chain.seed)


def _recalibrated_loss(chain: Chain, output: Floats) -> Floats:
    """Return the losses of the test rows, each recalibrated on the other folds' test labels."""
    problem = chain.problem
    y, weight, fold = problem.y_test, problem.test_weight, _test_folds(chain)
    result = np.empty(len(y))
    for j in np.unique(fold):
        inside, outside = fold == j, fold != j
        method = VectorScaling(l2=1e-3).fit(
            output[outside], y[outside], None if weight is None else weight[outside]
        )
        result[inside] = problem.row_loss(method.predict_proba(output[inside]), y[inside])
    return result


def price_label_noise(record: LineRecord, noise: LabelNoise, gain: Floats) -> None:
    """Say what right labels are estimated to bring; where no cleaning was kept, the line becomes an estimated one.

    Parameters
    ----------
    record : LineRecord
        Of label errors.
    noise : LabelNoise
        What was seen.
    gain : ndarray of shape (n_resamples,)
        Draws of `LabelNoise.gain`.
    """
    c = float(contraction(noise.train, noise.test.mean(), noise.n_classes))
    share = (1 - c) * (1 - 1 / noise.n_classes)
    record.why += (
        f" The model agrees with {noise.train:.1%} of the training labels (not fitted to them) and with "
        f"{noise.test.mean():.1%} of the test labels, as if {share:.0%} of the training labels were wrong: right ones "
        f"are estimated to bring {float(np.median(gain)):.3g}."
    )
    if not record.kept:
        record.basis, record.contribution = "estimated", None
        record.remedy = "asking for the training labels again, the most suspect first"
