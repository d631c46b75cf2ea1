"""The settings of an audit of files: read, run, written to ``audit.toml``, and repeated from it bit for bit."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corrigible._utils.files import sha256
from corrigible._utils.parallel import one_thread
from corrigible._utils.progress import Progress, progress
from corrigible._utils.tables import check_column, check_same_columns, expand, read_table
from corrigible._utils.validation import check_count
from corrigible._utils.versions import versions
from corrigible.audit._annotators import Labelling
from corrigible.audit._fix import Fix, check_remedies, fix_problem
from corrigible.audit._inputs import problem_from_predictions, problem_from_tables
from corrigible.audit._previous import NO_MODEL, EarlierFile
from corrigible.audit._problem import Problem, infer_task
from corrigible.audit._report import AuditReport
from corrigible.audit._run import LINES, N_STEPS, audit_problem
from corrigible.audit._stream import BATCH_ROWS, SAMPLE_ROWS, audit_batches
from corrigible.errors import DataError, InvalidParameterError, nearest
from corrigible.models import Predictions, load_model
from corrigible.report import start_engine


@dataclass(frozen=True)
class AuditSettings:
    """What an audit of files is made of; ``None`` means not given.

    Parameters
    ----------
    test, target : str
        Labelled test file (or glob) and its target column.
    train, production : str, optional
        Training file; unlabelled production file.
    model : str, optional
        Model file.
    proba_columns : tuple of str
        Probability columns of the test file, in the order of the classes, instead of a model.
    prediction_column : str, optional
        Predicted label or value column, instead of a model.
    previous : str, optional
        Earlier model, or a file with its predictions on the test rows.
    id : str, optional
        Column of the test file and of `previous` by which their rows are matched; by default the order matches them.
    groups, drop : tuple of str
        Group columns; columns that are no features.
    annotator : str, optional
        Column that says who labelled a row.
    annotations : tuple of str
        Columns of single annotators' labels.
    loss : str, optional
    seeds, seed : int
    n_jobs : int, optional
    trust_pickle : bool
    """

    test: str
    target: str
    train: str | None = None
    production: str | None = None
    model: str | None = None
    proba_columns: tuple[str, ...] = ()
    prediction_column: str | None = None
    previous: str | None = None
    id: str | None = None
    groups: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    annotator: str | None = None
    annotations: tuple[str, ...] = ()
    loss: str | None = None
    seeds: int = 5
    seed: int = 0
    n_jobs: int | None = None
    trust_pickle: bool = False

    @classmethod
    def from_toml(cls, path: str | Path) -> AuditSettings:
        """Read settings from an ``audit.toml``, and check that the data are still the same.

        Raises
        ------
        DataError
            If the file cannot be read, names an unknown setting, or a data file has changed.
        """
        if not Path(path).is_file():
            raise DataError(f"--config must name a file. There is none at {str(path)!r}.")
        try:
            content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"--config cannot be read: {str(path)!r} is no TOML ({error}).") from None
        given, data = content.get("settings", {}), content.get("data", {})
        if not isinstance(given, dict) or not isinstance(data, dict):
            raise DataError(f"{str(path)!r} must have its settings and data in the sections [settings] and [data].")
        known = [f.name for f in fields(cls)]
        for name in given:
            if name not in known:
                raise DataError(f"{str(path)!r} has an unknown setting {name!r}.{nearest(name, known)}")
        if missing := [name for name in ("test", "target") if name not in given]:
            raise DataError(f"{str(path)!r} must set {missing[0]!r} in [settings].")
        for name, value in given.items():
            _check_type(name, value, path)
        for file, digest in data.items():
            if not Path(file).is_file() or sha256(file) != digest:
                raise DataError(f"The data file {file!r} is not what it was when {str(path)!r} was written.")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
        return cls(**values)

    def absolute(self) -> AuditSettings:
        """Return the settings with absolute paths, so that they mean the same from any folder."""
        given = {name: getattr(self, name) for name in _PATHS}
        paths: dict[str, Any] = {n: str(Path(p).absolute()) for n, p in given.items() if p is not None}
        return replace(self, **paths)

    def files(self) -> list[Path]:
        """Return all data and model files that the settings name."""
        named = {"--train": self.train, "--test": self.test, "--production": self.production, "--model": self.model,
                 "--previous": self.previous}  # fmt: skip
        return [path for by, pattern in named.items() if pattern for path in expand(pattern, by=by)]


_TYPES: dict[str, tuple[type, str]] = {
    "seeds": (int, "a whole number"),
    "seed": (int, "a whole number"),
    "n_jobs": (int, "a whole number"),
    "trust_pickle": (bool, "true or false"),
    "proba_columns": (list, "a list of names"),
    "groups": (list, "a list of names"),
    "drop": (list, "a list of names"),
    "annotations": (list, "a list of names"),
}


def _check_type(name: str, value: Any, path: str | Path) -> None:
    kind, words = _TYPES.get(name, (str, "text in quotes"))
    ok = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
    if not ok or (kind is list and not all(isinstance(v, str) for v in value)):
        raise DataError(f"The setting {name!r} of {str(path)!r} must be {words}. Got {value!r}.")


def settings_toml(settings: dict[str, Any]) -> str:
    """Return an ``audit.toml``: settings, data hashes and versions."""
    sections = {k: v for k, v in settings.items() if isinstance(v, dict)}
    lines = ["# Repeat this audit bit for bit: corrigible audit --config audit.toml"]
    for section, values in sections.items():
        lines.append(f"\n[{section}]")
        lines += [f"{_key(k)} = {_value(v)}" for k, v in values.items() if v is not None]
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    # JSON strings, booleans and numbers are TOML, but for the surrogate pairs of non-ASCII text.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


@one_thread()
def run_audit(settings: AuditSettings, *, out: str = "report/", quiet: bool = False) -> AuditReport:
    """Run the audit that the settings describe.

    Parameters
    ----------
    settings : AuditSettings
        Files and options.
    out : str
        Where the report will stand, for the commands that it suggests.
    quiet : bool
        Show no progress.
    """
    settings = settings.absolute()
    with progress(N_STEPS, quiet=quiet) as shown:
        shown.step("reading, checking and fitting the model")
        if (n := _rows_to_stream(settings)) > SAMPLE_ROWS:
            return _described(_stream(settings, n, shown), settings, out)
        problem = load_problem(settings)
        start_engine()
        seeds = settings.seeds if problem.template is not None else 1
        report = audit_problem(problem, seeds=seeds, seed=settings.seed, n_jobs=settings.n_jobs, shown=shown)
    return _described(report, settings, out)


def _described(report: AuditReport, settings: AuditSettings, out: str) -> AuditReport:
    """Return the report with what repeats it, and a warning of what was not used."""
    if _predictions_only(settings) and (settings.train or settings.drop):
        report.chain.problem.warnings.append("With prediction columns, --train and --drop are not used.")
    report.settings = {
        "title": f"Error budget of {Path(settings.test).name}",
        "command": _command(settings, out),
        "out": out,
        "settings": asdict(settings),
        "data": {str(p): sha256(p) for p in settings.files()},
        "versions": versions(),
    }
    return report


@one_thread()
def fix_folder(
    folder: str | Path,
    remedies: Sequence[str],
    *,
    tolerance: float = 0.002,
    force: bool = False,
    quiet: bool = False,
) -> Fix:
    """Fix what a written report found; see `fix`.

    Parameters
    ----------
    folder : str or Path
        Folder of a report, with ``audit.toml`` and ``budget.json``.
    remedies, tolerance, force, quiet
        As in `fix`.
    """
    folder = Path(folder)
    ids = check_remedies(remedies)
    if not (folder / "audit.toml").is_file() or not (folder / "budget.json").is_file():
        raise DataError(
            f"{str(folder)!r} is no report: it has no audit.toml and budget.json. Run corrigible audit."
        )
    settings = AuditSettings.from_toml(folder / "audit.toml")
    forecast = _forecast(folder / "budget.json")
    with progress(len(ids) + 1, quiet=quiet) as shown:
        shown.step("reading, checking and cross-fitting the model")
        problem = load_problem(settings)
        return fix_problem(
            problem, ids, tolerance=tolerance, force=force, seeds=settings.seeds, seed=settings.seed,
            n_jobs=settings.n_jobs, target=settings.target, defer_above=forecast.get("defer_above"),
            title=f"Verification of {Path(settings.test).name}", shown=shown,
        )  # fmt: skip


def _forecast(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["forecast"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{str(path)!r} is no budget. Run corrigible audit again.") from error


_PATHS = ("train", "test", "production", "model", "previous")


def _predictions_only(settings: AuditSettings) -> bool:
    given = bool(settings.proba_columns or settings.prediction_column)
    if given and settings.model:
        raise InvalidParameterError("Give either --model or prediction columns, not both.")
    if not given and settings.train is None:
        raise InvalidParameterError(
            "An audit needs --train, from which a model is built or judged, or --proba-columns of the test file."
        )
    return given


def _command(settings: AuditSettings, out: str) -> str:
    words = ["corrigible", "audit"]
    for name, value in asdict(settings).items():
        flag = {"groups": "group", "proba_columns": "proba-columns"}.get(name, name.replace("_", "-"))
        default = next(f.default for f in fields(settings) if f.name == name)
        if value == default or value is None:
            continue
        for one in value if isinstance(value, tuple) else (value,):
            words += [f"--{flag}"] if value is True else [f"--{flag}", str(one)]
    return shlex.join([*words, "--out", out])


def load_problem(settings: AuditSettings) -> Problem:
    """Read what the settings name, and check it."""
    check_count(settings.seeds, name="seeds", by="audit")
    check_count(settings.seed, name="seed", by="audit", low=0)
    return _from_predictions(settings) if _predictions_only(settings) else _from_tables(settings)


def _from_tables(settings: AuditSettings) -> Problem:
    assert settings.train is not None
    model = None if settings.model is None else load_model(settings.model, trust_pickle=settings.trust_pickle)
    train, test = (read_table(p, by=by) for p, by in ((settings.train, "--train"), (settings.test, "--test")))
    for table, by in ((train, "--train"), (test, "--test")):
        check_column(settings.target, table.columns, by=by)
    if settings.id is not None:
        check_column(settings.id, test.columns, by="--test, as --id names it,")
    _check_columns(train, test, settings, "--test")
    production = None
    if settings.production is not None:
        production = read_table(settings.production, by="--production").drop(
            columns=settings.target, errors="ignore"
        )
        _check_columns(train.drop(columns=settings.target), production, settings, "--production")
    return problem_from_tables(
        model,
        train.drop(columns=settings.target), train[settings.target],
        test.drop(columns=settings.target), test[settings.target],
        X_production=production, groups=list(settings.groups) or None, drop=_no_features(settings, train, test),
        loss=settings.loss, previous=_previous(settings, test), labelling=_labelling(settings),
        seed=settings.seed,
    )  # fmt: skip


def _check_columns(train: pd.DataFrame, other: pd.DataFrame, settings: AuditSettings, name: str) -> None:
    """Raise if two files differ in a column that is used."""
    unused = list(_no_features(settings, train, other))
    a, b = (table.drop(columns=unused, errors="ignore") for table in (train, other))
    check_same_columns(a, b, first="--train", second=name, by=f"--train and {name}")


def _no_features(settings: AuditSettings, *tables: pd.DataFrame) -> tuple[str, ...]:
    """Return the columns that are no features: those dropped, and others with a role that a table has."""
    roles = [
        c for c in (settings.id, *_labelling(settings).columns) if c is not None and any(c in t for t in tables)
    ]
    return tuple(dict.fromkeys([*settings.drop, *roles]))


def _labelling(settings: AuditSettings) -> Labelling:
    return Labelling(settings.annotator, settings.annotations)


_MODELS = (".skops", ".pkl", ".pickle", ".joblib")


def _previous(settings: AuditSettings, test: pd.DataFrame, classes: Sequence[Any] = ()) -> Any:
    """Return the earlier model, or its predictions on the test rows."""
    if settings.previous is None:
        return None
    if settings.previous.endswith(_MODELS):
        return load_model(settings.previous, trust_pickle=settings.trust_pickle)
    return _earlier_file(settings).read(None if settings.id is None else test[settings.id], classes)


def _earlier_file(settings: AuditSettings) -> EarlierFile:
    assert settings.previous is not None
    return EarlierFile(
        settings.previous, settings.target, settings.prediction_column, settings.proba_columns, settings.id
    )


def _from_predictions(settings: AuditSettings) -> Problem:
    roles: dict[str, Any] = {"proba": settings.proba_columns, "prediction": settings.prediction_column,
                             "groups": settings.groups}  # fmt: skip
    used = [settings.target, *settings.proba_columns, *settings.groups]
    used += [c for c in (settings.prediction_column, settings.id, *_labelling(settings).columns) if c]
    table = read_table(settings.test, columns=list(dict.fromkeys(used)), by="--test")
    if settings.prediction_column and not settings.proba_columns:
        roles["classes"] = _label_classes(table[settings.target], table[settings.prediction_column])
    predictions = Predictions.from_frame(table, target=settings.target, **roles)
    production = None
    if settings.production is not None:
        wanted = [c for c in used if c not in (settings.target, settings.id, *_labelling(settings).columns)]
        ahead = read_table(settings.production, columns=wanted, by="--production")
        production = Predictions.from_frame(ahead, **{**roles, "classes": predictions.classes})
    return problem_from_predictions(
        predictions,
        production=production,
        loss=settings.loss,
        previous=_previous(settings, table, predictions.classes),
        labelling=_labelling(settings),
    )


def _rows_to_stream(settings: AuditSettings) -> int:
    """Return the number of rows if predictions alone are audited from Parquet files, else 0."""
    if not _predictions_only(settings):
        return 0
    files = expand(settings.test, by="--test")
    if not all(path.suffix in (".parquet", ".pq") for path in files):
        return 0
    return sum(pq.ParquetFile(path).metadata.num_rows for path in files)


def _stream(settings: AuditSettings, n_rows: int, shown: Progress) -> AuditReport:
    roles: dict[str, Any] = {
        "target": settings.target,
        "proba": settings.proba_columns,
        "prediction": settings.prediction_column,
        "groups": settings.groups,
        "id": settings.id,
        "others": _labelling(settings).columns,
    }
    if settings.proba_columns or settings.prediction_column:
        roles["classes"] = _streamed_classes(settings)
    production = None
    if settings.production is not None:
        wanted = [c for c in (*settings.proba_columns, *settings.groups, settings.prediction_column) if c]
        ahead = read_table(settings.production, columns=wanted, by="--production")
        production = Predictions.from_frame(ahead, **{**roles, "target": None, "id": None, "others": ()})
    previous = None
    if settings.previous is not None:
        if settings.previous.endswith(_MODELS):
            raise DataError(NO_MODEL)
        previous = _earlier_file(settings)
    start_engine()
    return audit_batches(
        lambda: Predictions.scan(settings.test, batch_size=BATCH_ROWS, **roles), n_rows, production=production,
        previous=previous, labelling=_labelling(settings),
        loss=settings.loss, seed=settings.seed, lines=LINES, shown=shown,
    )  # fmt: skip


def _streamed_classes(settings: AuditSettings) -> tuple[Any, ...]:
    """Return the classes of files too large to hold, as `Predictions` infers them from a table."""
    found: set[Any] = set()
    for path in expand(settings.test, by="--test"):
        check_column(settings.target, pq.read_schema(path).names, by="--test")
        for batch in pq.ParquetFile(path).iter_batches(columns=[settings.target]):
            found.update(pc.unique(batch.column(0)).to_pylist())
    values = pd.Series(sorted((v for v in found if v is not None), key=lambda v: (str(type(v)), v)))
    if not settings.proba_columns and infer_task(values) == "regression":
        return ()
    frame = pd.DataFrame({"target": values} | {c: 0.0 for c in settings.proba_columns})
    if not settings.proba_columns:
        return tuple(values)
    return Predictions.from_frame(frame, target="target", proba=settings.proba_columns).classes


def _label_classes(target: pd.Series, predicted: pd.Series) -> tuple[Any, ...]:
    """Return the classes of hard predictions; none for a numeric target of many values."""
    if infer_task(target) == "regression":
        return ()
    both = pd.concat([target, predicted], ignore_index=True)
    return tuple(sorted(both.dropna().unique().tolist()))
