"""The page of a watch: its words, and how it stands in a real browser."""

import os
import tempfile

import numpy as np
import pandas as pd
import pytest

from corrigible.report._watch_charts import _row as watch_row
from corrigible.report._watch_page import METHOD_NAMES, METRIC_NAMES, headline, metric_name, render_watch
from corrigible.watch import watch
from corrigible.watch._settings import BY


def rows(n, seed, sure=2.0, start="2024-01-01"):
    rng = np.random.default_rng(seed)
    p = rng.beta(sure, sure, size=n)
    when = pd.date_range(start, periods=n, freq="30min")
    return pd.DataFrame({"when": when, "late": (rng.uniform(size=n) < p).astype(float), "p": p})


@pytest.fixture(scope="module")
def reports():
    late = rows(48 * 10, 3, sure=9.0, start="2024-02-05").assign(late=np.nan)
    table = pd.concat([rows(48 * 30, 2), late])
    words = {"target": "late", "proba_columns": ["p"], "metrics": ["accuracy", "log_loss", "confusion_matrix"]}
    moved = watch(rows(2000, 1), table, **words, chunk="1D", time="when")
    quiet = watch(rows(2000, 1), rows(400, 5).drop(columns="late"), **words | {"metrics": ["accuracy"]}, chunk=100)
    return {"moved": moved, "quiet": quiet}


@pytest.fixture(scope="module")
def pages(reports):
    return {name: render_watch(report.page()) for name, report in reports.items()}


def test_every_metric_and_method_has_a_name():
    from corrigible.shift._expected_metrics import METRICS
    from corrigible.watch._settings import REGRESSION_METRICS

    assert set(METRIC_NAMES) == (set(METRICS) | set(REGRESSION_METRICS)) - {"confusion_matrix"}
    assert set(METHOD_NAMES) == set(BY)
    assert metric_name("true_0_pred_1", ["no", "yes"]) == "Label no, predicted yes: share of rows"


def test_the_headline_says_what_moved():
    def said(*alerts, tested=12):
        found = [{"chunk": c, "metric": m, "worse": w} for c, m, w in alerts]
        return headline({"summary": {"tested": tested}, "alerts": found}, {"f1": "F1", "mae": "Error"})

    assert said(tested=0) == "No chunk could be tested yet."
    assert said() == "Nothing moved beyond chance in 12 chunks."
    assert said(("May", "f1", True)) == "F1 was worse than chance allows in 1 of 12 chunks, in May."
    several = said(("May", "f1", True), ("June", "f1", True), ("May", "mae", True), ("July", "f1", False))
    assert several == "F1 was worse than chance allows in 2 of 12 chunks, first in May. One other metric moved too."
    assert said(("May", "mae", False)) == "Error was better than chance allows in 1 of 12 chunks, in May."


def test_the_page_says_what_the_report_holds(reports, pages):
    page = pages["moved"]
    assert "Accuracy was worse than chance allows in" in page
    assert "first in 2024-02-05" in page
    assert "at most 5\u00a0%" in page
    assert page.count("<figcaption") == 6  # accuracy, log loss and four cells
    for chunk in reports["moved"].chunks:
        assert chunk.label in page
    assert 'id="alerts"' in page
    assert "Nothing moved beyond chance in 4 chunks." in pages["quiet"]
    assert 'id="alerts"' not in pages["quiet"]
    assert "No labels have come" in pages["quiet"]


def test_periods_without_rows_leave_a_gap(reports):
    page = reports["moved"].page()
    numbers = [c["number"] for c in page["chunks"]]
    assert numbers[30] - numbers[29] == 6
    render_watch(page)
    assert "5 periods without rows" in " ".join(page["warnings"])


def test_the_same_report_gives_the_same_bytes(reports, pages):
    assert render_watch(reports["quiet"].page()) == pages["quiet"]


def test_one_chunk_and_none_estimated():
    table = rows(400, 5)
    one = watch(rows(500, 1), table, target="late", proba_columns=["p"], metrics=["accuracy"], chunk="1chunks")
    assert "in 1 chunk." in render_watch(one.page())
    page = one.page()
    page["chunks"][0] |= {"estimated": {}, "realised": {}}
    assert "no chunk could be estimated" in render_watch(page)


# --- in a browser -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def driver():
    webdriver = pytest.importorskip("selenium.webdriver")
    if not os.path.exists("/usr/bin/chromium"):
        pytest.skip("needs Debian's chromium")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        yield driver
        driver.quit()


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["moved", "quiet"])
def test_on_a_phone_offline(driver, pages, tmp_path, name):
    (tmp_path / "page.html").write_text(pages[name], encoding="utf-8")
    size = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for log in ("browser", "performance"):
        driver.get_log(log)
    driver.get((tmp_path / "page.html").as_uri())
    driver.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 360
    shown = "return [...document.querySelectorAll('svg.chart')].filter(e => e.checkVisibility()).map(e => e.classList[1])"
    assert set(driver.execute_script(shown)) == {"narrow"}
    heights = driver.execute_script(
        "return [...document.querySelectorAll('svg.chart text')].filter(e => e.checkVisibility())"
        ".map(e => parseFloat(getComputedStyle(e).fontSize) * Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b))"
    )
    assert min(heights) >= 9
    assert [e for e in driver.get_log("browser") if e["level"] == "SEVERE"] == []
    sent = [e["message"] for e in driver.get_log("performance") if "Network.requestWillBeSent" in e["message"]]
    sent = [m for m in sent if '"documentURL":"chrome:' not in m]  # the browser's own first tab
    assert sent
    assert [m for m in sent if '"url":"file:' not in m and '"url":"data:' not in m] == []
    named = (
        "return [...document.querySelectorAll('svg.chart')].every(e => e.getAttribute('aria-labelledby').split(' ')"
    )
    named += ".concat(e.getAttribute('aria-describedby')).every(i => document.getElementById(i)))"
    assert driver.execute_script(named) is True


def test_the_range_of_chance_ends_where_the_metric_ends():
    """A range above 1 for an accuracy, or below 0 for an error, would be drawn and mean nothing."""
    reading = {"value": 0.99, "band_low": -0.2, "band_high": 1.1}
    chunk = {"x": 0, "label": "a", "rows": 40, "estimated": {}, "realised": {}}
    for metric, ends in (
        ("accuracy", (0.0, 1.0)), ("true_0_pred_1", (0.0, 1.0)), ("rmse", (0.0, 1.1)), ("business_value", (-0.2, 1.1)),
    ):  # fmt: skip
        for kind, names in (("estimated", ("band_low", "band_high")), ("realised", ("seen_low", "seen_high"))):
            row = watch_row(chunk | {kind: {metric: reading}}, metric)
            assert tuple(row[name] for name in names) == ends
    assert reading["band_high"] == 1.1
    assert watch_row(chunk, "accuracy")["band_high"] is None
