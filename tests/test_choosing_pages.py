"""The pages that say which method to use when hold the numbers of the evidence."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    not (ROOT / "evidence/results").is_dir(), reason="the sources alone, without evidence"
)


PAGES = [
    f"choosing_{room}" for room in ("data", "uncertainty", "shift", "compare", "fairness", "merging", "editing")
]


@pytest.mark.parametrize("page", PAGES)
def test_the_advice_holds_the_numbers_of_the_evidence(page):
    """Each number of a page stands behind a comment that names its evidence, measurement and format."""
    text = (ROOT / f"docs/{page}.rst").read_text(encoding="utf-8")
    told = re.findall(r"^\.\. ([\w]+) \| (.+?) \| (\S+) \| (\S+)$", text, flags=re.MULTILINE)
    assert len(told) > 20
    shown_text = " ".join(line for line in text.splitlines() if not line.startswith(".. "))
    for slug, name, form, shown in told:
        result = json.loads((ROOT / f"evidence/results/{slug}.json").read_text(encoding="utf-8"))
        value = next(m["value"] for m in result["measurements"] if m["name"] == name)
        assert format(value, form) == shown, f"{slug}, {name} is {format(value, form)} now"
        assert shown.removeprefix("+") in shown_text, f"{shown} ({name}) is not in the text"
