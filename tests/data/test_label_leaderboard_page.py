import json
import runpy
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
CELLS = ROOT / "evidence" / "results" / "aqua_cells.csv.gz"

pytestmark = pytest.mark.skipif(not CELLS.is_file(), reason="the sources alone, without evidence")


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "tools" / "build_leaderboard.py"))


def test_the_page_is_fresh(script):
    assert script["PAGE"].read_text(encoding="utf-8") == script["page"](), "run tools/build_leaderboard.py"


def test_the_cells_are_those_of_the_evidence():
    measured = json.loads((ROOT / "evidence/results/aqua.json").read_text(encoding="utf-8"))["measurements"]
    values = {m["name"]: m["value"] for m in measured}
    cells = pd.read_csv(CELLS)
    for method, f1 in cells.groupby("method")["f1"].mean().dropna().items():
        if method != "no cleaning":
            assert values[f"f1, all noises: {method}"] == pytest.approx(f1, abs=1e-4)
