"""An update of two model files by BCWI, and what it did to each set of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corrigible._utils.folders import new_folder
from corrigible._utils.optional import require
from corrigible._utils.tables import check_column, read_table
from corrigible.errors import DataError, InvalidParameterError
from corrigible.merging._bcwi import BCWI, FisherBCWI
from corrigible.models import load_model, save_model

_MARKER = "config.json"


def update_files(
    old: str,
    new: str,
    validation: str,
    out: str,
    *,
    target: str,
    test: str | None = None,
    text_column: str = "text",
    drop: Sequence[str] = (),
    fisher: bool = False,
    tolerance: float = 0.0,
    n_alphas: int = 21,
    trust_pickle: bool = False,
) -> dict[str, Any]:
    """Choose the share of the old model on validation rows, write the update, and say what it does.

    Parameters
    ----------
    old, new : str
        Two skops files of a linear or MLP classifier, by itself or as the last step of a pipeline whose other steps
        are the same; or two folders of a transformers text classifier.
    validation, test : str
        Labelled tables; `test` only measures.
    out : str
        File or folder to write; it must not exist.
    target, text_column, drop
        Columns of labels, of texts, and of neither.
    fisher, tolerance, n_alphas
        As in `FisherBCWI`.
    trust_pickle : bool
        Load pickled models.

    Returns
    -------
    dict
        ``alpha``, and accuracy and negative flips by set of rows.
    """
    if Path(out).exists():
        raise DataError(f"The output {out!r} exists. Name another with --out.")
    tables = {"validation": read_table(validation, by="--validation")}
    if test is not None:
        tables["test"] = read_table(test, by="--test")
    for name, table in tables.items():
        check_column(target, table.columns, by=f"--{name}")
        if table[target].isna().any():
            raise DataError(f"The column {target!r} of --{name} must hold a label in each row. Some are missing.")
    folders = [Path(p).is_dir() for p in (old, new)]
    if folders[0] != folders[1]:
        raise InvalidParameterError("The old and the new model must both be skops files or both be folders.")
    if fisher and folders[0]:
        raise InvalidParameterError(
            "--fisher is for linear models: a text classifier's information is not computed."
        )
    opened = (
        _classifiers(old, new, text_column) if folders[0] else _estimators(old, new, [target, *drop], trust_pickle)
    )
    first, second, rows_of, predict, write = opened
    method = (FisherBCWI if fisher else BCWI)(n_alphas=n_alphas, tolerance=tolerance, predict=predict)
    rows = {name: rows_of(table) for name, table in tables.items()}
    method.fit(first, second, rows["validation"], tables["validation"][target].to_numpy())
    shown = {
        name: _shown(predict, (first, second, method.model_), rows[name], tables[name][target].to_numpy())
        for name in tables
    }
    write(method.model_, out)
    return {"out": out, "alpha": method.alpha_, "method": type(method).__name__, "rows": shown}


def _shown(
    predict: Callable[[Any, Any], NDArray[Any]], models: tuple[Any, Any, Any], X: Any, y: NDArray[Any]
) -> dict[str, Any]:
    old, new, merged = (np.asarray(predict(m, X)) == y for m in models)
    return {
        "n": len(y), "accuracy": float(merged.mean()), "accuracy_new": float(new.mean()),
        "accuracy_old": float(old.mean()), "negative_flips": float((old & ~merged).mean()),
        "negative_flips_new": float((old & ~new).mean()),
    }  # fmt: skip


def _estimators(old: str, new: str, dropped: list[str], trust_pickle: bool) -> tuple[Any, ...]:
    """Return last steps, the function from a table to what they take, how they predict, and how to write."""
    models = [load_model(p, trust_pickle=trust_pickle) for p in (old, new)]
    last = [getattr(m, "steps", [("", m)])[-1][1] for m in models]
    before = [m[:-1] if hasattr(m, "steps") and len(m.steps) > 1 else None for m in models]

    def prepared(table: pd.DataFrame) -> Any:
        X = table.drop(columns=[c for c in dropped if c in table])
        steps = [s for s in before if s is not None]
        if not steps:
            return X
        if len(steps) == 1:
            raise DataError(
                "One of the models is a pipeline and the other is not: their weights have other meanings."
            )
        a, b = (_dense(step.transform(X)) for step in steps)
        if a.shape != b.shape or not np.allclose(a, b, equal_nan=True):
            raise DataError(
                "The steps before the models differ, as scalers fitted on other rows do: the weights have other meanings. "
                "Keep the old model's steps when fitting the new one."
            )
        return b

    def write(model: Any, out: str) -> None:
        whole = models[1]
        if before[1] is not None:
            whole.steps[-1] = (whole.steps[-1][0], model)
            model = whole
        save_model(model, out)

    return *last, prepared, lambda m, X: np.asarray(m.predict(X)), write


def _dense(X: Any) -> NDArray[Any]:
    return np.asarray(X.toarray() if hasattr(X, "toarray") else X)


def _classifiers(old: str, new: str, text_column: str) -> tuple[Any, ...]:
    torch = require("torch", extra="lm", by="A text classifier")
    transformers = require("transformers", extra="lm", by="A text classifier")
    words = [transformers.AutoTokenizer.from_pretrained(p, local_files_only=True) for p in (old, new)]
    if words[0].get_vocab() != words[1].get_vocab():
        raise DataError("The tokenizers of the two classifiers differ: their embeddings have other meanings.")
    models = [
        transformers.AutoModelForSequenceClassification.from_pretrained(
            p, local_files_only=True, dtype=torch.float32
        )
        for p in (old, new)
    ]
    if models[0].config.id2label != models[1].config.id2label:
        raise DataError("The two classifiers number their labels differently.")
    named = models[0].config.id2label

    def texts(table: pd.DataFrame) -> list[str]:
        check_column(text_column, table.columns, by="--validation")
        return [str(t) for t in table[text_column]]

    def predict(model: Any, rows: list[str]) -> NDArray[Any]:
        found = []
        with torch.no_grad():
            for start in range(0, len(rows), 32):
                batch = words[1](rows[start : start + 32], return_tensors="pt", padding=True, truncation=True)
                found.append(model.eval()(**batch).logits.argmax(dim=1).numpy())
        codes = np.concatenate(found)
        plain = all(str(v).startswith("LABEL_") for v in named.values())  # unnamed classes are their numbers
        return codes if plain else np.array([named[int(c)] for c in codes])

    def write(model: Any, out: str) -> None:
        with new_folder(out, marker=_MARKER, overwrite=False) as folder:
            model.save_pretrained(folder)
            words[1].save_pretrained(folder)

    return models[0], models[1], texts, predict, write
