"""A table of predictions streamed in batches gives the budget of all its rows."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from corrigible.audit import AuditSettings, _previous, _settings, _stream, audit_predictions, run_audit
from corrigible.audit._run import LINES
from corrigible.audit._suspects import LabelCutoffs
from corrigible.data import ConfidentLearning
from corrigible.errors import DataError
from corrigible.models import Predictions

N = 6000


@pytest.fixture
def table(rng):
    p = rng.beta(1, 2, N)
    said = p**3 / (p**3 + (1 - p) ** 3)
    label = np.where(rng.uniform(size=N) < p, "yes", "no")
    return pd.DataFrame({"y": label, "p_no": 1 - said, "p_yes": said, "g": rng.choice(["a", "b"], N)})


@pytest.fixture
def small_batches(monkeypatch):
    for module in (_stream, _settings):
        monkeypatch.setattr(module, "SAMPLE_ROWS", 3000)
        monkeypatch.setattr(module, "BATCH_ROWS", 700)


def _settings_of(path):
    return AuditSettings(test=str(path), target="y", proba_columns=("p_no", "p_yes"), groups=("g",), loss="log")


def test_streamed_budget_is_that_of_all_rows(table, tmp_path, small_batches):
    path = tmp_path / "table.parquet"
    table.to_parquet(path, row_group_size=1000)
    streamed = run_audit(_settings_of(path), quiet=True).budget
    roles = {"target": "y", "proba": ["p_no", "p_yes"], "groups": ["g"]}
    whole = audit_predictions(Predictions.from_frame(table, **roles), loss="log").budget
    assert streamed.n_test == N
    assert streamed.total["value"] == pytest.approx(whole.total["value"], rel=1e-9)
    assert streamed["calibration"].points == pytest.approx(whole["calibration"].points, rel=0.05)
    low, high = streamed["calibration"].low, streamed["calibration"].high
    assert low < whole["calibration"].points < high
    points = sum(line.points or 0 for line in streamed.lines)
    assert points + streamed.rest["value"] == pytest.approx(streamed.total["value"], abs=1e-9)


def test_streamed_rows_are_written_batch_by_batch(table, tmp_path, small_batches):
    path = tmp_path / "table.parquet"
    table.to_parquet(path)
    report = run_audit(_settings_of(path), quiet=True)
    report.save(tmp_path / "report")
    rows = pd.read_parquet(tmp_path / "report" / "rows.parquet")
    assert rows["index"].tolist() == list(range(N))
    assert rows["loss"].mean() == pytest.approx(report.budget.total["value"], rel=1e-9)
    assert {"label_errors_score", "label_errors_flag", "calibration_score", "groups_flag"} <= set(rows)


def test_streaming_twice_gives_the_same_bits(table, tmp_path, small_batches):
    path = tmp_path / "table.parquet"
    table.to_parquet(path)
    first, second = (run_audit(_settings_of(path), quiet=True).budget.to_dict() for _ in range(2))
    assert first == second


def _reports(path, tmp_path, monkeypatch, **options):
    """Return the report of a streamed audit and of the same audit in memory."""
    settings = dataclasses.replace(_settings_of(path), groups=(), **options)
    streamed = run_audit(settings, quiet=True)
    with monkeypatch.context() as patched:
        patched.setattr(_settings, "SAMPLE_ROWS", 10**9)
        return streamed, run_audit(settings, quiet=True)


def test_suspect_rows_are_told_in_the_words_of_the_audit_in_memory(table, tmp_path, small_batches, monkeypatch):
    path = tmp_path / "table.parquet"
    table.to_parquet(path)
    streamed, whole = _reports(path, tmp_path, monkeypatch)
    streamed.save(tmp_path / "report")
    rows = pd.read_parquet(tmp_path / "report" / "rows.parquet")
    told, flags = rows["suspect"], rows["label_errors_flag"].astype(bool)
    assert told.notna().equals(flags)
    assert told.dropna().str.match(r"the model gives its label (no|yes) \d+%, and (no|yes) \d+%").all()
    both = told.notna() & whole.rows["suspect"].notna()
    assert (told[both] == whole.rows["suspect"][both]).all()
    # The cutoffs are learned on half of the rows, so that those at the border differ.
    agree = (flags == whole.rows["label_errors_flag"].astype(bool)).mean()
    assert agree > 0.98
    assert streamed.budget["label_errors"].rows == flags.sum()


@pytest.mark.parametrize("k", [2, 4])
def test_cutoffs_flag_what_confident_learning_flags(rng, k):
    p = rng.dirichlet(np.ones(k), 3000)
    y = np.array([rng.choice(k, p=row) for row in p])
    flags = LabelCutoffs(y, p).flags(y, p)
    assert flags.any()
    assert (flags == ConfidentLearning().fit(y, p).issue_mask).all()


def _earlier(table, rng, **columns):
    said = np.where(rng.uniform(size=len(table)) < 0.8, table["y"], np.where(table["y"] == "no", "yes", "no"))
    return pd.DataFrame({"prediction": said, **columns})


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_an_earlier_version_streams_beside_the_rows(table, rng, tmp_path, small_batches, monkeypatch, ending):
    path, old = tmp_path / "table.parquet", tmp_path / f"old.{ending}"
    table.to_parquet(path)
    earlier = _earlier(table, rng)
    earlier.to_parquet(old) if ending == "parquet" else earlier.to_csv(old, index=False)
    streamed, whole = _reports(path, tmp_path, monkeypatch, previous=str(old))
    now = np.where(table["p_yes"] > 0.5, "yes", "no")
    turned = (earlier["prediction"] == table["y"]) & (now != table["y"])
    assert streamed.budget.previous == whole.budget.previous
    assert streamed.budget.previous["negative_flips"] == turned.sum() > 0
    assert streamed.sections["previous"] == whole.sections["previous"]
    rows = [row[0] for row in streamed.sections["previous"][0]["rows"]]
    assert rows == np.flatnonzero(turned)[:12].tolist()


def test_an_earlier_version_is_matched_by_id(table, rng, tmp_path, small_batches, monkeypatch):
    monkeypatch.setattr(_previous, "_PART_ROWS", 900)
    path, old = tmp_path / "table.parquet", tmp_path / "old.parquet"
    table = table.assign(key=rng.permutation(N) * 7)
    table.to_parquet(path)
    earlier = _earlier(table, rng, key=table["key"])
    in_order, _ = _reports(path, tmp_path, monkeypatch, previous=_write(old, earlier[["prediction"]]))
    extra = earlier.iloc[:5].assign(key=[-1, -2, -3, -4, -5])
    shuffled = pd.concat([earlier, extra]).sample(frac=1, random_state=0)
    streamed, whole = _reports(path, tmp_path, monkeypatch, previous=_write(old, shuffled), id="key")
    assert streamed.budget.previous == whole.budget.previous == in_order.budget.previous
    assert streamed.sections["previous"] == whole.sections["previous"] == in_order.sections["previous"]
    as_text = shuffled.assign(key=shuffled["key"].astype(str))
    again, _ = _reports(path, tmp_path, monkeypatch, previous=_write(old, as_text), id="key")
    assert again.budget.previous == whole.budget.previous


def _write(path, frame):
    frame.to_parquet(path, index=False)
    return str(path)


def test_earlier_probabilities_serve_as_well(table, rng, tmp_path, small_batches, monkeypatch):
    path = tmp_path / "table.parquet"
    table.to_parquet(path)
    p = rng.uniform(size=N)
    said = pd.DataFrame({"prediction": np.where(p > 0.5, "yes", "no")})
    proba = pd.DataFrame({"y": table["y"], "p_no": 1 - p, "p_yes": p})
    one, _ = _reports(path, tmp_path, monkeypatch, previous=_write(tmp_path / "a.parquet", said))
    two, whole = _reports(path, tmp_path, monkeypatch, previous=_write(tmp_path / "b.parquet", proba))
    assert one.budget.previous == two.budget.previous == whole.budget.previous


def test_earlier_values_give_the_same_means(rng, tmp_path, small_batches, monkeypatch):
    y = rng.normal(size=N)
    path = tmp_path / "table.parquet"
    pd.DataFrame({"y": y, "guess": y + rng.normal(size=N), "key": np.arange(N)}).to_parquet(path)
    old = pd.DataFrame({"prediction": y + 2 * rng.normal(size=N), "key": np.arange(N)})
    options = {"proba_columns": (), "loss": "squared", "prediction_column": "guess"}
    given = _write(tmp_path / "old.parquet", old.sample(frac=1, random_state=1))
    streamed, whole = _reports(path, tmp_path, monkeypatch, previous=given, id="key", **options)
    for name in ("old_loss", "new_loss", "worse_share"):
        assert streamed.budget.previous[name] == pytest.approx(whole.budget.previous[name], rel=1e-12)


def test_earlier_predictions_that_do_not_fit(table, rng, tmp_path, small_batches, monkeypatch):
    monkeypatch.setattr(_settings, "LINES", {"label_errors": LINES["label_errors"]})
    path, old = tmp_path / "table.parquet", tmp_path / "old.parquet"
    table = table.assign(key=np.arange(N))
    table.to_parquet(path)
    earlier = _earlier(table, rng, key=table["key"])
    cases = [
        (earlier.iloc[:-1][["prediction"]], None, f"one a test row \\({N}\\). Got {N - 1}"),
        (pd.concat([earlier, earlier.iloc[:3]])[["prediction"]], None, f"Got {N + 3}"),
        (earlier.iloc[:0], "key", "at least one row"),
        (earlier.drop(index=4321), "key", "key '4321' \\(row 4321\\) has none"),
        (pd.concat([earlier, earlier.iloc[7:8]]), "key", "It has '7' twice"),
        (earlier.assign(key=earlier["key"].where(earlier["key"] != 5)), "key", "must name each row"),
        (earlier.assign(prediction="maybe")[["prediction"]], None, "Class 'maybe' of the previous predictions"),
        (earlier[["prediction"]].rename(columns={"prediction": "a"}).assign(b=1), None, "a column 'prediction'"),
    ]
    for frame, row_id, message in cases:
        chosen = dataclasses.replace(_settings_of(path), groups=(), previous=_write(old, frame), id=row_id)
        for limit in (3000, 10**9):
            monkeypatch.setattr(_settings, "SAMPLE_ROWS", limit)
            with pytest.raises(DataError, match=message):
                run_audit(chosen, quiet=True)
    monkeypatch.setattr(_settings, "SAMPLE_ROWS", 3000)
    with pytest.raises(DataError, match="must be predictions too"):
        run_audit(dataclasses.replace(chosen, previous="model.skops"), quiet=True)
