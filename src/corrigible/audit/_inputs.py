"""From what the user hands in to a `Problem`: every check is made here, before anything is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from corrigible._utils.fitting import first_line, fitted
from corrigible._utils.random import seed_estimator
from corrigible._utils.tables import (
    check_column,
    check_finite,
    check_flat,
    check_same_columns,
    group_labels,
    is_nested,
)
from corrigible.audit._annotators import NOBODY, Labelling
from corrigible.audit._chain import mean_and_error
from corrigible.audit._leaks import leak_warnings
from corrigible.audit._previous import NO_MODEL
from corrigible.audit._problem import Problem, check_loss, encode_target, infer_task
from corrigible.audit._row_findings import row_findings
from corrigible.errors import DataError, nearest
from corrigible.models import Predictions, default_model
from corrigible.models._ask import ask

# Fewer rows cannot be split into folds within folds, and say nothing.
_MIN_ROWS = 10
_MAX_AUTO_GROUPS, _MAX_GROUP_LEVELS = 4, 10


def problem_from_tables(
    model: Any,
    X_train: pd.DataFrame,
    y_train: pd.Series,
    X_test: pd.DataFrame,
    y_test: pd.Series,
    *,
    X_production: pd.DataFrame | None = None,
    groups: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    loss: str | None = None,
    previous: Any = None,
    labelling: Labelling = NOBODY,
    seed: int = 0,
) -> Problem:
    """Check the tables and the model, and ask the model for its outputs.

    Parameters
    ----------
    model : estimator or None
        Fitted, unfitted, or None for the default pipeline.
    X_train, X_test, X_production : DataFrame
        Raw columns, with group columns, before `drop`.
    y_train, y_test : Series
        Target.
    groups : sequence of str, optional
        Group columns; None looks for columns with few categories.
    drop : sequence of str
        Columns that are no features; they may still be groups.
    loss : str, optional
        Loss to split.
    previous : estimator or array, optional
        Earlier model, or its outputs on the test rows.
    labelling : Labelling
        Columns that say who labelled the rows; no features, unless the model names them.
    seed : int
        Seed of the default pipeline.
    """
    tables = {"the training table": X_train, "the test table": X_test}
    if X_production is not None:
        tables["the production table"] = X_production
    tables = {name: _pandas(table, by=name) for name, table in tables.items()}
    table_train, table_test = tables["the training table"], tables["the test table"]
    labelling.check([table_train, table_test], regression=_task(model, y_train) == "regression")
    expected = set(getattr(model, "feature_names_in_", ()))
    drop = list(dict.fromkeys([*drop, *(c for c in labelling.columns if c not in expected)]))
    tables = _comparable(tables, groups or (), drop)
    X_train, X_test = tables["the training table"], tables["the test table"]
    for table, y, name in ((X_train, y_train, "training"), (X_test, y_test, "test")):
        if len(table) != len(y):
            raise DataError(f"The {name} table must have a row a label. Got {len(table)} rows, {len(y)} labels.")
    task = _task(model, y_train)
    classes = _classes(model, y_train, task)
    y_fit = encode_target(y_train, classes, by="the training table")
    if classes is not None and len(np.unique(y_fit)) < 2:
        only = classes[y_fit[:1]].tolist()[0]
        raise DataError(
            f"The target {y_train.name!r} must have at least two classes in training. All are {only!r}."
        )
    if classes is None and np.ptp(y_fit) == 0:
        raise DataError(f"The target {y_train.name!r} must vary in training. All values are {y_fit[0]:g}.")
    y_eval = encode_target(y_test, classes, by="the test table")
    features = _features(model, X_train, drop)
    parts = {name: table[features].reset_index(drop=True) for name, table in tables.items()}
    names = list(groups) if groups is not None else _group_columns(X_train)
    frames = {name: _group_frame(table, names) for name, table in tables.items()}
    train, test = parts["the training table"], parts["the test table"]
    labels = y_fit if classes is None else classes[y_fit]
    ready, template, no_refit = _prepare(model, train, labels, task, seed)
    outputs = _ask_checked(ready, test, classes)
    problem = Problem(
        task=task,
        loss=check_loss(loss, task, has_proba=task == "regression" or hasattr(ready, "predict_proba")),
        classes=np.array([]) if classes is None else classes,
        y_test=y_eval,
        test_output=outputs,
        X_test=test,
        X_train=train,
        y_train=y_fit,
        table_train=table_train,
        table_test=table_test,
        labelling=labelling,
        X_production=parts.get("the production table"),
        groups_train=frames["the training table"],
        groups_test=frames["the test table"],
        model=ready,
        template=template,
        no_refit=no_refit,
        has_proba=task == "regression" or hasattr(ready, "predict_proba"),
        target=_target_name(y_train, X_train),
    )
    if problem.X_production is not None:
        problem.production_output = _ask_checked(ready, problem.X_production, classes, of="the production table")
    if model is not None and template is not None:
        _check_same_model(problem)
    problem.previous_output = _previous_output(previous, problem)
    problem.warnings += leak_warnings(train, y_fit, classification=problem.is_classification)
    problem.findings = row_findings(train, test, y_fit, y_eval)
    problem.warnings += problem.findings.warnings
    return problem


def _pandas(table: Any, *, by: str) -> pd.DataFrame:
    """Return a table of any kind that narwhals knows as pandas, which scikit-learn's column selection needs."""
    if isinstance(table, pd.DataFrame):
        return table
    try:
        return nw.from_native(table, eager_only=True).to_pandas()
    except TypeError:
        kind = type(table).__name__
        raise DataError(
            f"{by.capitalize()} must be a dataframe (pandas, polars, pyarrow, …) with named columns. Got a {kind}."
        ) from None


def _comparable(
    tables: dict[str, pd.DataFrame], groups: Sequence[str], drop: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Check the tables; return them with equal columns, of the dropped ones those that all tables have."""
    known = list(dict.fromkeys(c for table in tables.values() for c in table.columns))
    for column in drop:
        check_column(column, known, by="--drop: the tables" if len(tables) > 1 else "--drop: the table")
    partial = {c for c in drop if not all(c in table.columns for table in tables.values())}
    same = {name: table.drop(columns=[c for c in partial if c in table]) for name, table in tables.items()}
    _check_tables(same, groups, drop)
    columns = next(iter(same.values())).columns
    return {name: table[columns] for name, table in same.items()}


def _check_tables(tables: dict[str, pd.DataFrame], groups: Sequence[str], drop: Sequence[str]) -> None:
    first = next(iter(tables.values()))
    for name, table in tables.items():
        least = 1 if name == "the production table" else _MIN_ROWS
        if len(table) < least:
            raise DataError(f"{name.capitalize()} must hold at least {least} rows. It holds {len(table)}.")
        twice = table.columns[table.columns.duplicated()]
        if len(twice):
            raise DataError(f"{name.capitalize()} must have each column once. It has {twice[0]!r} twice.")
        check_same_columns(first, table, first="training", second=name.split()[1], by="All tables")
        check_finite(table, by=name)
        check_flat(table.drop(columns=list(drop), errors="ignore"), by=name)
        for column in groups:
            check_column(column, table.columns, by=name.capitalize())


def _task(model: Any, y: pd.Series) -> str:
    """Return the task: the model's own where one is given, else what the target looks like."""
    if len(y) < _MIN_ROWS:
        raise DataError(f"The training table must hold at least {_MIN_ROWS} rows. It holds {len(y)}.")
    if y.isna().all():
        raise DataError(f"The target {y.name!r} of the training table must have values. All {len(y)} are missing.")
    if model is None or not hasattr(model, "get_params"):
        return infer_task(y)
    kind = _kind(model)
    if kind == "classifier":
        return "classification"
    if kind != "regressor":
        return infer_task(y)
    if not pd.api.types.is_numeric_dtype(y):
        raise DataError(f"The model is a regressor, so the target {y.name!r} must be numeric. It is {y.dtype}.")
    return "regression"


def _kind(model: Any) -> str:
    """Return ``classifier`` or ``regressor``, or nothing where that is not known."""
    if model is None or not hasattr(model, "fit"):
        return "classifier" if hasattr(model, "predict_proba") else ""
    try:
        return "classifier" if is_classifier(model) else "regressor" if is_regressor(model) else ""
    except AttributeError:  # without scikit-learn's tags
        return "classifier" if hasattr(model, "predict_proba") else ""


def _features(model: Any, X: pd.DataFrame, drop: Sequence[str]) -> list[str]:
    """Return the feature columns: those that a fitted model names, in its order, else all that are not dropped."""
    expected = getattr(model, "feature_names_in_", None)
    if expected is not None:
        if missing := [c for c in expected if c not in X.columns]:
            raise DataError(
                f"The model expects the column {missing[0]!r}, which the tables do not have "
                f"({len(missing)} such columns).{nearest(missing[0], X.columns)}"
            )
        if dropped := [c for c in expected if c in set(drop)]:
            raise DataError(f"The model expects the column {dropped[0]!r}, which cannot be dropped.")
        return list(expected)
    features = [c for c in X.columns if c not in set(drop)]
    if not features:
        raise DataError("The training table must have at least one feature. None is left after --drop.")
    return features


def _classes(model: Any, y: pd.Series, task: str) -> NDArray[Any] | None:
    if task == "regression":
        return None
    known = getattr(model, "classes_", None)
    return np.asarray(known) if known is not None else np.array(sorted(y.dropna().unique().tolist(), key=_order))


def _order(value: Any) -> tuple[str, Any]:
    return (str(type(value)), value)


def _group_columns(X: pd.DataFrame) -> list[str]:
    """Return the first columns of few categories: where nobody names groups, these are looked at."""
    names = []
    for name in X.columns:
        column = X[name]
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            continue
        if not is_nested(column) and 2 <= column.nunique() <= _MAX_GROUP_LEVELS:
            names.append(name)
    return names[:_MAX_AUTO_GROUPS]


def _group_frame(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame | None:
    if not names:
        return None
    return group_labels(table[list(names)]).reset_index(drop=True)


def _prepare(model: Any, X: pd.DataFrame, labels: NDArray[Any], task: str, seed: int) -> tuple[Any, Any, str]:
    """Return the fitted model, the unfitted template, and why there is none."""
    if model is None:
        template = default_model(classification=task == "classification", random_state=seed)
        return fitted(clone(template), X, labels, to="the training table"), template, ""
    try:
        # What the user left to chance is seeded, so that the same seed gives the same bits.
        template = seed_estimator(clone(model), seed, only_unset=True)
    except TypeError:
        return model, None, "The model cannot be cloned, so nothing can be refitted."
    try:
        check_is_fitted(model)
    except NotFittedError:
        return fitted(clone(template), X, labels, to="the training table"), template, ""
    except TypeError:
        return model, None, "The model is no scikit-learn estimator, so nothing can be refitted."
    return model, template, ""


def _target_name(y: pd.Series, X: pd.DataFrame) -> str:
    """Return the target's name, or one that no feature has."""
    name = str(y.name or "target")
    while name in X.columns:
        name += "_"
    return name


def _ask_checked(
    model: Any, X: pd.DataFrame, classes: NDArray[Any] | None, *, of: str = "the test table"
) -> NDArray[np.floating]:
    columns = X[_features(model, X, ())]
    try:
        output = ask(model, columns, np.array([]) if classes is None else classes)
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"The model cannot predict the rows of {of}: {first_line(error)}") from error
    finite = np.isfinite(output.reshape(len(output), -1)).all(axis=1)
    if not finite.all():
        raise DataError(f"The model's predictions for {of} must be finite. Row {int(finite.argmin())} is not.")
    return output


def _check_same_model(problem: Problem) -> None:
    """Keep the template only if fitting it to the training rows gives a model as good on them as the one given.

    A model that was fitted to other rows loses more on these than a refit does; no test label is looked at.
    """
    assert problem.X_train is not None
    assert problem.y_train is not None
    labels = problem.classes[problem.y_train] if problem.is_classification else problem.y_train
    try:
        refitted = fitted(clone(problem.template), problem.X_train, labels)
        again, given = (ask(m, problem.X_train, problem.classes) for m in (refitted, problem.model))
    except (ValueError, KeyError, TypeError) as failure:
        problem.template = None
        problem.no_refit = f"The model cannot be refitted to the training rows ({first_line(failure)})."
        problem.warnings.append(problem.no_refit)
        return
    change = problem.row_loss(again, problem.y_train) - problem.row_loss(given, problem.y_train)
    mean, error = mean_and_error(change)
    if abs(mean) > 3 * error + 1e-12:
        problem.template = None
        problem.no_refit = (
            f"The model given is not what these training rows give (a refit changes the loss on them by {mean:+.4g}), "
            "so lines that need a refit would measure another model."
        )
        problem.warnings.append(problem.no_refit)


def _previous_output(previous: Any, problem: Problem) -> NDArray[np.floating] | None:
    if previous is None:
        return None
    if hasattr(previous, "predict"):
        assert problem.X_test is not None
        return _ask_checked(previous, problem.X_test, problem.classes if problem.is_classification else None)
    values = pd.Series(np.asarray(previous).ravel())
    if len(values) != len(problem.y_test):
        raise DataError(
            f"The previous predictions must be one a test row ({len(problem.y_test)}). Got {len(values)}."
        )
    codes = encode_target(values.rename("previous"), problem.classes if problem.is_classification else None,
                          by="the previous predictions")  # fmt: skip
    return np.eye(len(problem.classes))[codes] if problem.is_classification else codes


def problem_from_predictions(
    predictions: Predictions,
    *,
    production: Predictions | None = None,
    loss: str | None = None,
    previous: Any = None,
    labelling: Labelling = NOBODY,
) -> Problem:
    """Make a problem from a table of predictions alone; no line can refit.

    The columns of `labelling` are in the table of `predictions`.
    """
    classification = bool(predictions.classes)
    has_proba = bool(predictions.proba)
    if not has_proba and predictions.prediction is None:
        raise DataError(
            "Predictions need probability columns or a prediction column. Pass proba=… or prediction=…."
        )
    if len(predictions) < _MIN_ROWS:
        raise DataError(f"Predictions must hold at least {_MIN_ROWS} rows. They hold {len(predictions)}.")
    labelling.check([pd.DataFrame(columns=predictions.table.column_names)], regression=not classification)
    y = predictions.y
    if classification and len(np.unique(y)) < 2:
        raise DataError("The target must have at least two classes. All rows have the same.")
    problem = Problem(
        task="classification" if classification else "regression",
        loss=check_loss(loss, "classification" if classification else "regression", has_proba=has_proba),
        classes=np.asarray(predictions.classes),
        y_test=y,
        test_output=_output(predictions),
        groups_test=predictions.group_frame if predictions.groups else None,
        test_weight=predictions.sample_weight,
        production_output=None if production is None else _output(production),
        no_refit="Only predictions are known, no model and no training data.",
        table_test=predictions.table.select(list(labelling.columns)).to_pandas(),
        labelling=labelling,
        has_proba=has_proba or not classification,
    )
    if previous is not None and hasattr(previous, "predict"):
        raise DataError(NO_MODEL)
    problem.previous_output = _previous_output(previous, problem)
    return problem


def _output(predictions: Predictions) -> NDArray[np.floating]:
    """Return probabilities, one-hot predicted labels, or values."""
    if predictions.proba:
        return predictions.pred_proba
    output = predictions.predicted
    return np.eye(len(predictions.classes))[output] if predictions.classes else output
