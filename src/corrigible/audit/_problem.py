"""What an audit works on, validated once: rows, labels, groups, the model and what it says of the rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corrigible._core.losses import CLASSIFICATION, REGRESSION, ROW_LOSS
from corrigible._utils.validation import check_choice, check_vector
from corrigible.audit._annotators import NOBODY, Labelling
from corrigible.errors import DataError

if TYPE_CHECKING:
    from corrigible.audit._row_findings import RowFindings

Floats = NDArray[np.floating]


@dataclass
class Problem:
    """A model, its rows and the loss that is split.

    Attributes
    ----------
    task : {"classification", "regression"}
    loss : str
        Name of the loss.
    classes : ndarray of shape (k,)
        Class labels in column order; empty for regression.
    X_train, X_test, X_production : DataFrame or None
        Features, raw columns.
    table_train, table_test : DataFrame or None
        The tables as they came, with the columns that are no features.
    y_train, y_test : ndarray
        Class numbers, or values.
    groups_train, groups_test : DataFrame or None
        Group columns as text.
    model : estimator or None
        Fitted model; None if only its predictions are known.
    template : estimator or None
        Unfitted estimator for refits; None if no line can refit, for the reason `no_refit`.
    test_output, production_output : ndarray of shape (n, k) or (n,)
        The model's probabilities or values.
    test_weight : ndarray of shape (n_test,) or None
        Row weights of the test rows.
    target : str
        Name of the target's column.
    labelling : Labelling
        Columns of the tables as they came that say who labelled the rows.
    findings : RowFindings or None
        What is odd about single rows before any model is asked.
    telling_columns : list of str or None
        Columns that move the output most, worth showing beside a row; found when first asked for.
    has_proba : bool
        Whether the outputs are probabilities; otherwise one-hot predicted labels.
    """

    task: str
    loss: str
    classes: NDArray[Any]
    y_test: NDArray[Any]
    test_output: Floats
    X_test: pd.DataFrame | None = None
    X_train: pd.DataFrame | None = None
    y_train: NDArray[Any] | None = None
    table_train: pd.DataFrame | None = None
    table_test: pd.DataFrame | None = None
    X_production: pd.DataFrame | None = None
    production_output: Floats | None = None
    groups_train: pd.DataFrame | None = None
    groups_test: pd.DataFrame | None = None
    test_weight: Floats | None = None
    model: Any = None
    template: Any = None
    no_refit: str = ""
    has_proba: bool = True
    previous_output: Floats | None = None
    warnings: list[str] = field(default_factory=list)
    target: str = "target"
    labelling: Labelling = NOBODY
    findings: RowFindings | None = None
    telling_columns: list[str] | None = None

    @property
    def is_classification(self) -> bool:
        """Whether outputs are class probabilities."""
        return self.task == "classification"

    def row_loss(self, output: Floats, y: NDArray[Any], class_weights: Floats | None = None) -> Floats:
        """Return the loss of each row.

        Parameters
        ----------
        output : ndarray of shape (n, k) or (n,)
            Probabilities or values.
        y : ndarray of shape (n,)
            Class numbers or values.
        class_weights : ndarray of shape (k,), optional
            Decision rule of the zero-one loss: the largest of probability times weight is predicted.
        """
        if self.loss == "zero_one" and class_weights is not None:
            output = output * class_weights
        return ROW_LOSS[self.loss](y, output)


def default_loss(task: str) -> str:
    """Return the loss that is split when the user names none."""
    return "zero_one" if task == "classification" else "squared"


def check_loss(loss: str | None, task: str, *, has_proba: bool) -> str:
    """Return the loss, checked against the task and against what the model gives."""
    if loss is None:
        return default_loss(task)
    check_choice(loss, CLASSIFICATION + REGRESSION, name="loss", by="audit")
    allowed = CLASSIFICATION if task == "classification" else REGRESSION
    if loss not in allowed:
        raise DataError(f"The loss {loss!r} does not fit a {task} target. Choose one of {', '.join(allowed)}.")
    if loss in ("log", "brier") and not has_proba:
        raise DataError(f"The loss {loss!r} needs probabilities, and only predicted labels were given.")
    return loss


# A numeric target with more distinct values than this is a regression target.
_MAX_CLASSES = 20


def infer_task(y: pd.Series) -> str:
    """Return ``classification`` for text, booleans and few integers, ``regression`` for other numbers."""
    values = y.dropna()
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return "classification"
    number = values.to_numpy(dtype=float)
    whole = bool(np.all(np.floor(number) == number))
    return "classification" if whole and values.nunique() <= _MAX_CLASSES else "regression"


def encode_target(y: pd.Series, classes: NDArray[Any] | None, *, by: str, first_row: int = 0) -> NDArray[Any]:
    """Return class numbers, or floats if `classes` is None; rows are numbered from `first_row` in messages.

    Raises
    ------
    DataError
        If a value is missing, or a class of these rows is not among `classes`.
    """
    missing = y.isna().to_numpy()
    if missing.all():
        raise DataError(f"The target {y.name!r} of {by} must have values. All {len(y)} are missing.")
    if missing.any():
        raise DataError(
            f"The target {y.name!r} of {by} must have no missing values. {int(missing.sum())} are missing, the first "
            f"in row {first_row + int(missing.argmax())}; drop those rows."
        )
    if classes is None:
        return check_vector(y.to_numpy(), name=str(y.name), by=by)
    codes = pd.Index(classes).get_indexer(pd.Index(y))
    if (codes < 0).any():
        row = int((codes < 0).argmax())
        raise DataError(
            f"Class {y.iloc[row]!r} of {by} (row {first_row + row}) was never seen in training. Known classes are "
            f"{', '.join(map(str, classes[:8]))}."
        )
    return codes.astype(np.intp)
