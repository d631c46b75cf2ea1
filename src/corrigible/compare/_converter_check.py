"""ConverterCheck: whether a converted model is still the model that it was.

Paper: Analysis of Failures and Risks in Deep Learning Model Converters: A Case Study in the ONNX Ecosystem (Jajal,
Jiang, Tewari, Kocinare, Woo, Sarraf, Lu, Thiruvathukal, Davis, ISSTA 2024).
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import is_classifier

from corrigible._card import Card
from corrigible._core.onnx_graph import OnnxSession, plain_output, read_onnx, run_apart
from corrigible._utils.random import RandomState, as_generator
from corrigible._utils.validation import check_count, check_number
from corrigible.compare._converter_causes import UNKNOWN, crash_cause, family_cause, likely_cause
from corrigible.compare._converter_inputs import families
from corrigible.compare._converter_original import Original
from corrigible.compare._converter_trace import Divergence, locate
from corrigible.errors import CorrigibleError, DataError, InvalidParameterError, MissingDependencyError

CARD = Card(
    name="converter_check",
    kind="measure",
    obj="ConverterCheck",
    also=("Conversion", "ConversionFinding"),
    papers=("onnx_conv",),
    refs=("jajal2024analysis",),
    source="",
    differs="The paper converts collections of models and reads issue reports; this is its differential test for one "
    "model. Symptoms (crash, wrong model), stages and causes follow its taxonomy as its abstracts tell it; the full "
    "text was not at hand. Fuzzed inputs, the matching of inner values that finds the first diverging node, and "
    "the patterns that name a cause are ours; scikit-learn is covered too.",
    inputs="estimator, X",
    stochastic=True,
    cost="A conversion, about twelve times n_fuzzed answers of both models, and one run that shows all inner tensors",
    use_when="A model is served from ONNX: before it goes out, and after each update of converter or runtime.",
    avoid_when="The served model is meant to differ, as after pruning: compare errors with negative_flips.",
    requires=("onnx",),
)

Array = NDArray[Any]
_BY = "ConverterCheck"
_TRACED = 32  # rows on which inner values are compared


@dataclass(frozen=True)
class ConversionFinding:
    """One kind of rows on which original and conversion differ.

    Attributes
    ----------
    family : str
        Kind of rows.
    severity : str
        ``fault``, or ``risk`` where the input cannot be held in float32, its arithmetic overflows there, the
        original refuses such rows, or the rows given hold none of the kind, as no missing values.
    cause : str
        The likely cause.
    n_rows, n_differ : int
        Rows compared, and rows that differ.
    largest_gap : float
        Largest difference of an output; NaN where one of the two does not answer, or for labels.
    example : int
        Number of the first row that differs, in its family; -1 if none is told apart.
    """

    family: str
    severity: str
    cause: str
    n_rows: int
    n_differ: int
    largest_gap: float
    example: int


@dataclass(frozen=True)
class Conversion:
    """Outcome of `ConverterCheck.run`.

    Attributes
    ----------
    passed : bool
        Whether no fault was found; risks may have been.
    stage : str
        Where it failed: ``conversion``, ``loading``, ``running``, ``behaviour``; empty if it passed.
    cause : str
        The likely cause, by the rows of which most differ.
    findings : tuple of ConversionFinding
        Faults, then risks.
    divergence : Divergence or None
        The first node that diverges, for faults of behaviour.
    n_rows : int
        Rows compared.
    rtol, atol : float
        Tolerance: outputs agree within ``atol + rtol |original|``.
    converted : ModelProto or None
        The converted model.
    """

    passed: bool
    stage: str
    cause: str
    findings: tuple[ConversionFinding, ...]
    divergence: Divergence | None
    n_rows: int
    rtol: float
    atol: float
    converted: Any = field(default=None, repr=False)

    def frame(self) -> pd.DataFrame:
        """Return the findings as a table."""
        return pd.DataFrame([asdict(f) for f in self.findings], columns=list(ConversionFinding.__annotations__))


class ConverterCheck:
    """Convert a model to ONNX, run both on real and fuzzed rows, and say where and why they differ.

    Parameters
    ----------
    rtol, atol : float, default=1e-3 and 1e-5
        Outputs agree if they differ by at most ``atol + rtol |original|``; labels must be equal except where the
        original's two largest scores are that close.
    n_fuzzed : int, default=200
        Rows of each fuzzed family: within the range of the data, at its boundaries, at thresholds of trees and one
        float32 beside them, missing, infinite, huge, tiny, large integers, unknown words.
    max_rows : int, default=500
        Rows of those given that are used.
    exporter : {"dynamo", "torchscript"}, default="dynamo"
        Of torch.
    random_state : None, int, Generator or RandomState
        Source of the fuzzed rows.

    See Also
    --------
    negative_flips : Counts what a change of labels means to users.

    References
    ----------
    .. [1] Jajal, P., Jiang, W., Tewari, A. and others (2024). Analysis of Failures and Risks in Deep Learning Model
       Converters: A Case Study in the ONNX Ecosystem. ISSTA.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from corrigible.compare import ConverterCheck
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=500).fit(X, y)
    >>> ConverterCheck(random_state=0).run(model, X).passed  # doctest: +SKIP
    True
    """

    def __init__(
        self,
        *,
        rtol: float = 1e-3,
        atol: float = 1e-5,
        n_fuzzed: int = 200,
        max_rows: int = 500,
        exporter: str = "dynamo",
        random_state: RandomState = None,
    ) -> None:
        self.rtol = rtol
        self.atol = atol
        self.n_fuzzed = n_fuzzed
        self.max_rows = max_rows
        self.exporter = exporter
        self.random_state = random_state

    def run(self, model: Any, X: Any, *, converted: Any = None) -> Conversion:
        """Compare a model with its conversion.

        Parameters
        ----------
        model : fitted estimator, torch module, or ONNX model (path, bytes or ModelProto)
            The original; a torch module is asked in evaluation mode.
        X : array-like or dataframe of shape (n_samples, ...)
            Real rows, as the model takes them.
        converted : path, bytes or ModelProto, optional
            A conversion made elsewhere; by default skl2onnx or torch.onnx makes one here.

        Returns
        -------
        Conversion
            The verdict, its reasons, and the first node that diverges.

        Raises
        ------
        DataError
            If the original cannot answer the rows given.
        """
        self._check()
        rng = as_generator(self.random_state)
        original = Original(model)
        rows = _real_rows(X, self.max_rows, rng)
        original.answer(rows)
        proto = None if converted is None else read_onnx(converted, by=_BY)
        try:
            proto = original.convert(rows, self.exporter) if proto is None else proto
        except MissingDependencyError:
            raise
        except Exception as error:  # converters raise whatever they stumble over
            return self._crashed("conversion", error)
        try:
            session = OnnxSession(proto, by=_BY)
        except Exception as error:  # and so does the runtime
            return self._crashed("loading", error, proto)
        return _Comparison(self, original, proto, session).run(rows, rng)

    def _check(self) -> None:
        check_number(self.rtol, name="rtol", by=_BY, low=0.0, high=1.0)
        check_number(self.atol, name="atol", by=_BY, low=0.0, high=1e6)
        check_count(self.n_fuzzed, name="n_fuzzed", by=_BY)
        check_count(self.max_rows, name="max_rows", by=_BY)
        if self.exporter not in ("dynamo", "torchscript"):
            raise InvalidParameterError(
                f"The 'exporter' parameter of {_BY} must be 'dynamo' or 'torchscript'. Got {self.exporter!r}."
            )

    def _crashed(self, stage: str, error: Exception, proto: Any = None) -> Conversion:
        cause = crash_cause(error)
        finding = ConversionFinding("real", "fault", cause, 0, 0, float("nan"), -1)
        return Conversion(False, stage, cause, (finding,), None, 0, self.rtol, self.atol, proto)


def _real_rows(X: Any, max_rows: int, rng: np.random.Generator) -> Any:
    rows = X if isinstance(X, pd.DataFrame) else np.asarray(X)
    if len(getattr(rows, "shape", ())) < 2 or len(rows) == 0:
        raise DataError(f"'X' of {_BY} must have rows and columns. Got shape {getattr(rows, 'shape', ())}.")
    if len(rows) > max_rows:
        chosen = np.sort(rng.choice(len(rows), size=max_rows, replace=False))
        rows = rows.iloc[chosen] if isinstance(rows, pd.DataFrame) else rows[chosen]
    return rows.reset_index(drop=True) if isinstance(rows, pd.DataFrame) else rows


class _Comparison:
    """Both models on all families of rows."""

    def __init__(self, check: ConverterCheck, original: Original, proto: Any, session: OnnxSession) -> None:
        self.check, self.original, self.proto, self.session = check, original, proto, session
        self.findings: list[ConversionFinding] = []
        self.traced: Any = None
        self.n = 0

    def run(self, rows: Any, rng: np.random.Generator) -> Conversion:
        for family in families(self.original.model, rows, n_fuzzed=self.check.n_fuzzed, rng=rng):
            self._compare(family.name, family.rows, "risk" if family.is_risk else "fault")
        if not any(f.severity == "fault" and np.isnan(f.largest_gap) and f.n_differ == 0 for f in self.findings):
            self._batches(rows)
        ordered = sorted(self.findings, key=lambda f: f.severity)
        faults = [f for f in ordered if f.severity == "fault"]
        stage = "" if not faults else "running" if faults[0].n_differ == 0 else "behaviour"
        divergence = None
        if stage == "behaviour" and self.traced is not None:
            divergence = locate(
                self.original.model, self.proto, self.traced, rtol=self.check.rtol, atol=self.check.atol
            )
        cause = _main_cause(faults)
        return Conversion(
            not faults,
            stage,
            cause,
            tuple(ordered),
            divergence,
            self.n,
            self.check.rtol,
            self.check.atol,
            self.proto,
        )

    def _compare(self, family: str, rows: Any, severity: str) -> None:
        self.n += len(rows)
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                old = self.original.answer(rows)
        except Exception:  # an original may refuse such rows in any way
            self._refused(family, rows)
            return
        try:
            new = self._converted(rows)
        except Exception as error:  # the runtime raises types of its own
            self._find(family, severity, self._fixed_size(len(rows)) or crash_cause(error), len(rows))
            return
        pairs = self._pairs(old, new)
        if wrong := next(((a, b) for a, b in pairs if a.shape != b.shape), None):
            self._find(family, severity, likely_cause(*wrong, self._close), len(rows), np.ones(len(rows), bool))
            self.traced = rows[:_TRACED] if self.traced is None else self.traced
            return
        differ, gap = self._differ(pairs)
        if differ.any():
            self._find(family, severity, self._cause(family, rows, pairs, differ), len(rows), differ, gap)
            if severity == "fault" and self.traced is None:
                at = np.concatenate([np.flatnonzero(differ), np.flatnonzero(~differ)])[:_TRACED]
                self.traced = rows.iloc[at] if isinstance(rows, pd.DataFrame) else rows[at]

    def _converted(self, rows: Any, session: OnnxSession | None = None) -> list[Array]:
        return [plain_output(v) for v in (session or self.session)(rows).values()]

    def _refused(self, family: str, rows: Any) -> None:
        try:
            self._converted(rows)
        except Exception:  # both refuse
            return
        self._find(family, "risk", "the original refuses such rows, the conversion answers them", len(rows))

    def _pairs(self, old: list[Array], new: list[Array]) -> list[tuple[Array, Array]]:
        """Return outputs of both, in pairs: scores first, as labels hang on them."""
        if not (self.original.is_estimator and is_classifier(self.original.model)):
            if len(old) != len(new):
                return [(np.empty(len(old)), np.empty(len(new)))]
            return [(_squeezed(a, b)) for a, b in zip(old, new, strict=True)]
        labels = [v for v in new if v.dtype.kind not in "fc"][:1]
        scores = [v for v in new if v.dtype.kind == "f"][-1:]
        pairs = []
        if len(old) > 1 and scores:
            score = scores[0]
            if old[1].ndim == 1:
                score = score[:, -1] if score.ndim == 2 else score
            pairs.append((old[1], score))
        if labels:
            pairs.append((old[0], labels[0].reshape(old[0].shape) if labels[0].size == old[0].size else labels[0]))
        return pairs

    def _differ(self, pairs: list[tuple[Array, Array]]) -> tuple[NDArray[np.bool_], float]:
        differ, gap, tied = np.zeros(len(pairs[0][0]), dtype=bool), float("nan"), None
        for old, new in pairs:
            if old.dtype.kind == "f" or new.dtype.kind == "f":
                with np.errstate(all="ignore"):
                    apart = np.abs(old.astype(float) - new.astype(float))
                    wrong = ~np.isclose(new, old, rtol=self.check.rtol, atol=self.check.atol, equal_nan=True)
                differ |= wrong.reshape(len(old), -1).any(axis=1)
                gap = float(
                    np.nanmax(
                        [gap, *apart[np.isfinite(apart)].ravel()[:1], apart[np.isfinite(apart)].max(initial=0)]
                    )
                )
                tied = self._tied(old)
            else:
                unequal = (old.astype(str) != new.astype(str)).reshape(len(old), -1).any(axis=1)
                differ |= unequal & ~(tied if tied is not None else np.zeros(len(old), dtype=bool))
        return differ, gap

    def _tied(self, scores: Array) -> NDArray[np.bool_]:
        """Return where the original's scores leave the label open within the tolerance."""
        if scores.ndim == 1:
            return np.asarray(np.abs(scores) <= self.check.atol)
        top = -np.sort(-scores, axis=1)[:, :2]
        return np.asarray(top[:, 0] - top[:, 1] <= 2 * (self.check.atol + self.check.rtol * np.abs(top[:, 0])))

    def _close(self, old: Array, new: Array) -> bool:
        return bool(np.allclose(new, old, rtol=self.check.rtol, atol=self.check.atol))

    def _cause(self, family: str, rows: Any, pairs: Any, differ: NDArray[np.bool_]) -> str:
        if (words := family_cause(family)) is not None:
            return words
        with np.errstate(all="ignore"):
            plain = self._pairs(self.original.answer(rows), self._converted(rows, self._unoptimised()))
            if not self._differ(plain)[0].any():
                return "the runtime's rewriting of the graph: without it the outputs agree"
        numeric = [(a, b) for a, b in pairs if a.dtype.kind == "f"]
        table = pd.DataFrame(rows.reshape(len(rows), -1) if isinstance(rows, np.ndarray) else rows)
        with_gaps = table.isna().any(axis=1).to_numpy()
        if with_gaps[differ].all() and not with_gaps.all():
            return family_cause("missing") or UNKNOWN
        for old, new in ((a, b) for a, b in numeric if not self._close(a, b)):
            found = likely_cause(old, new, self._close)
            if found != UNKNOWN:
                return found
        only_labels = not any(~np.isclose(b, a, rtol=self.check.rtol, atol=self.check.atol, equal_nan=True).all()
                              for a, b in numeric)  # fmt: skip
        return "labels differ though scores agree: label order, names or threshold" if only_labels else UNKNOWN

    def _fixed_size(self, n: int) -> str:
        sizes = {i.shape[0] for i in self.session.inputs if i.shape and isinstance(i.shape[0], int)}
        return f"the batch size is fixed in the graph, at {min(sizes)}" if sizes and sizes != {n} else ""

    def _unoptimised(self) -> OnnxSession:
        return OnnxSession(self.proto, by=_BY, optimise=False)

    def _batches(self, rows: Any) -> None:
        """Answers must not hang on the batch, its size, or on luck."""
        whole = self._again(rows)
        if whole is None or not all(len(v) == len(rows) for v in whole):
            return
        if not _same(whole, self._again(rows), self._close):
            self._find("repetition", "fault", "answers are random: dropout or sampling was left on", len(rows),
                       np.ones(len(rows), bool))  # fmt: skip
            return
        for size in (1, min(3, len(rows))):
            part = rows[:size]
            try:
                answers = self._converted(part)
            except Exception as error:  # the runtime raises types of its own
                self._find(
                    "order of rows", "fault", f"the batch size is fixed in the graph ({crash_cause(error)})", size
                )
                return
            if not _same([v[:size] for v in whole], answers, self._close) and self._independent(rows, size):
                self._find("order of rows", "fault", "rows influence each other: normalisation by the batch, or an "
                           "operation along the wrong axis", size, np.ones(size, bool))  # fmt: skip
                self.traced = rows[:size] if self.traced is None else self.traced
                return
        self._empty(rows[:0])

    def _empty(self, none: Any) -> None:
        try:
            self.original.answer(none)
        except Exception:  # the original refuses too
            return
        if (said := run_apart(self.proto, self.session.feed(none))) is not None:
            self._find(
                "empty batch", "risk", f"the original answers no rows with none, the conversion fails: {said}", 0
            )

    def _again(self, rows: Any) -> list[Array] | None:
        try:
            return self._converted(rows)
        except CorrigibleError:
            raise
        except Exception:  # told by `_compare`
            return None

    def _independent(self, rows: Any, size: int) -> bool:
        return _same([v[:size] for v in self.original.answer(rows)], self.original.answer(rows[:size]), self._close)

    def _find(
        self, family: str, severity: str, cause: str, n: int, differ: Any = None, gap: float = float("nan")
    ) -> None:
        count = 0 if differ is None else int(differ.sum())
        example = int(np.argmax(differ)) if count else -1
        self.findings.append(ConversionFinding(family, severity, cause, n, count, gap, example))


def _main_cause(faults: list[ConversionFinding]) -> str:
    """Return the cause of answers that hang on batch or luck, else that of the first rows of which many differ."""
    named = [f for f in faults if f.family in ("order of rows", "repetition")]
    if not faults or named:
        return named[0].cause if named else ""
    shares = [f.n_differ / max(f.n_rows, 1) for f in faults]
    return next(f.cause for f, share in zip(faults, shares, strict=True) if share >= 0.5 * max(shares))


def _squeezed(old: Array, new: Array) -> tuple[Array, Array]:
    """Drop a last axis of length 1 that only one of them has."""
    if old.shape != new.shape and [d for d in old.shape[1:] if d != 1] == [d for d in new.shape[1:] if d != 1]:
        return old, new.reshape(old.shape) if old.size == new.size else new
    return old, new


def _same(a: list[Array], b: list[Array] | None, close: Any) -> bool:
    if b is None:
        return False
    for old, new in zip(a, b, strict=True):
        if old.shape != new.shape:
            return False
        finite = old.dtype.kind != "f" or close(np.nan_to_num(old), np.nan_to_num(new))
        if not (finite if old.dtype.kind == "f" else np.array_equal(old, new)):
            return False
    return True
