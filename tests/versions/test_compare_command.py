"""`corrigible compare`: exit codes, what it prints and writes."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from corrigible.cli import app


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y = rng.choice(["a", "b"], 300)
    frame = pd.DataFrame(
        {"y": y, "old": np.where(rng.uniform(size=300) < 0.7, y, "a"), "city": rng.choice(["u", "v"], 300)}
    )
    frame["new"] = np.where(np.arange(300) < 6, np.where(y == "a", "b", "a"), y)
    frame.to_csv("test.csv", index=False)
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, ["compare", *map(str, words), "--test", "test.csv", "--target", "y"])


def test_exit_codes(folder):
    assert run("old", "new").exit_code == 0
    assert run("new", "old").exit_code == 1  # worse
    assert run("old", "new", "--fail-on", "negative_flips=0.5").exit_code == 0
    refused = run("old", "new", "--fail-on", "negative_flips=0.001")
    assert refused.exit_code == 1
    assert "above the limit" in refused.stdout
    assert run("old", "old", "--strict", "--tolerance", "0").exit_code == 0  # nothing turned: not worse


def test_open_is_refused_only_if_strict(folder):
    frame = pd.read_csv("test.csv")
    frame["same"] = np.where(np.arange(300) % 50 == 0, np.where(frame["y"] == "a", "b", "a"), frame["y"])
    frame["other"] = np.where(np.arange(300) % 50 == 1, np.where(frame["y"] == "a", "b", "a"), frame["y"])
    frame.to_csv("test.csv", index=False)
    assert run("same", "other").exit_code == 0
    assert run("same", "other", "--strict").exit_code == 1


def test_json_and_files(folder):
    result = run("old", "new", "--group", "city", "--json", "--out", "report")
    found = json.loads(result.stdout)
    assert found["verdict"] == "better"
    assert set(found["groups"]["city"]) == {"u", "v"}
    assert sorted(p.name for p in (folder / "report").iterdir()) == ["compare.json", "index.html", "turned.parquet"]
    again = run("old", "new", "--out", "report")
    assert again.exit_code == 2
    assert again.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("old", "nwe"), "Did you mean"),
        (("old", "new", "--fail-on", "negative_flips"), "MEASURE=LIMIT"),
        (("old", "new", "--fail-on", "flips=1"), "no measure"),
        (("old", "missing.csv"), "There is none"),
        (("old", "new", "--tolerance", "-1"), "tolerance"),
    ],
)
def test_bad_input(folder, words, match):
    result = run(*words, "--out", "report")
    assert result.exit_code == 2, result.output
    assert match in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (folder / "report").exists()
