"""Text as numbers of categories, as Parquet stores it: the report is the same, and models get their own columns."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from corrigible._utils.scan import scan
from corrigible.errors import DataError
from corrigible.versions import compare_versions


@pytest.fixture
def words():
    rng = np.random.default_rng(0)
    names = np.array(["late", "on time", "cancelled"], dtype=object)
    y = rng.integers(3, size=200)
    frame = pd.DataFrame({
        "y": names[y], "v1": names[np.where(rng.uniform(size=200) < 0.6, y, 0)],
        "v2": names[np.where(rng.uniform(size=200) < 0.7, y, 2)],
        "port": rng.choice(np.array(["A", "B", None], dtype=object), size=200),
    })  # fmt: skip
    frame.loc[3, "v2"] = "lost"  # no label of the target
    return frame


def _said(report):
    left_out = ("settings", "versions")
    return {k: v for k, v in report.to_dict().items() if k not in left_out}, report.turned.astype(str).to_dict(
        "list"
    )


def test_files_and_categories_say_what_a_dataframe_says(words, tmp_path):
    expected = _said(compare_versions("v1", "v2", words, target="y", groups=["port"]))
    path = tmp_path / "rows.parquet"
    words.to_parquet(path, row_group_size=23)  # each part numbers its own words
    assert _said(compare_versions("v1", "v2", path, target="y", groups=["port"])) == expected
    other = pd.CategoricalDtype(["unused", "lost", "cancelled", "on time", "late"])
    coded = words.astype({"y": other, "v1": "category", "v2": other, "port": "category"})
    assert _said(compare_versions("v1", "v2", coded, target="y", groups=["port"])) == expected


def test_texts_of_many_kinds_are_compared_too(tmp_path):
    n = 300  # triples of so many labels are not counted in a table
    rows = pd.DataFrame({"y": [f"answer {i}" for i in range(n)]})
    rows = rows.assign(
        v1=rows["y"].where(rows.index % 3 > 0, "no"), v2=rows["y"].where(rows.index % 4 > 0, "other")
    )
    rows.to_parquet(tmp_path / "rows.parquet")
    report = compare_versions("v1", "v2", tmp_path / "rows.parquet", target="y")
    assert (report.flips.n_negative, report.flips.n_positive, report.flips.n_inconsistent) == (50, 75, 25)
    assert report.agreement["agreement"] == pytest.approx(150 / n)


def test_models_get_words_and_not_categories(words, tmp_path):
    words.fillna("none").to_parquet(tmp_path / "rows.parquet")
    table = pd.read_parquet(tmp_path / "rows.parquet")
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(table[["port"]], table["y"])
    report = compare_versions(model, model, tmp_path / "rows.parquet", target="y", groups=["port"], costs=False)
    assert report.flips.old_accuracy == pytest.approx((model.predict(table[["port"]]) == table["y"]).mean())
    assert set(report.groups["port"]) == {"A", "B", "none"}


def test_numbers_as_words_are_values_to_a_regressor(tmp_path):
    rows = pd.DataFrame({"x": np.arange(60.0)})
    model = LinearRegression().fit(rows, 2 * rows["x"])
    rows.assign(y=(2 * rows["x"]).astype(str)).to_parquet(tmp_path / "rows.parquet")
    report = compare_versions(model, model, tmp_path / "rows.parquet", target="y", costs=False)
    assert report.changes["absolute"]["new"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("column", ["y", "v2"])
def test_a_missing_word_is_named_by_its_row(words, tmp_path, column):
    words.loc[57, column] = None
    words.to_parquet(tmp_path / "rows.parquet", row_group_size=40)
    with pytest.raises(DataError, match="Row 57 has none"):
        compare_versions("v1", "v2", tmp_path / "rows.parquet", target="y")


def test_only_text_that_is_asked_for_is_coded(tmp_path):
    pd.DataFrame({"a": ["x", "y"], "b": ["x", "y"], "n": [1, 2]}).to_parquet(tmp_path / "t.parquet")
    (frame,) = scan(tmp_path / "t.parquet", ["b", "a", "n"], batch_rows=10, by="t", coded=["a", "n"])
    assert list(frame.columns) == ["b", "a", "n"]
    assert isinstance(frame["a"].dtype, pd.CategoricalDtype)
    assert not isinstance(frame["b"].dtype, pd.CategoricalDtype)
    assert frame["n"].tolist() == [1, 2]
