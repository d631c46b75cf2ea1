"""The pages in a real browser: no request, no error, keyboard, phone, dark, print."""

import os
import tempfile

import pytest
import sample
import sample_fix

from corrigible.report import notebook_html, render_audit, render_verification

webdriver = pytest.importorskip("selenium.webdriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not os.path.exists("/usr/bin/chromium"), reason="needs Debian's chromium"),
    # Selenium leaves closing its sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
RELATIVE_LUMINANCE = """
const rgb = c => c.match(/[\\d.]+/g).slice(0, 3).map(Number).map(v => v / 255)
  .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const lum = c => { const [r, g, b] = rgb(c); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
  if (!/, 0\\)$|transparent/.test(c)) return c; } return 'rgb(255,255,255)'; };
const low = [];
for (const e of document.querySelectorAll('body *')) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
  if (!e.getClientRects().length || e.getAttribute('stroke')) continue;  // a stroked text is the edge of another
  if (e.closest('.hidden, .skip, script, style')) continue;
  const style = getComputedStyle(e), svg = e.tagName === 'text';
  const a = lum(svg ? style.fill : style.color), b = lum(ground(e));
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) low.push([e.tagName, e.textContent.slice(0, 30), ratio]);
}
return low;
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    pages = {
        "audit": render_audit(sample.audit()),
        "hostile": render_audit(sample.hostile()),
        "verification": render_verification(sample_fix.verification()),
        "notebook": f"<!doctype html><body>{notebook_html(sample.hostile())}{notebook_html(sample_fix.verification())}",
    }
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def driver():
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size=1200,900"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        yield driver
        driver.quit()


@pytest.fixture
def show(driver, folder):
    def show(name, width=1200, **media):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": media.get("scheme", "light")}]
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": features, "media": media.get("media", "")}
        )
        driver.get("about:blank")
        for log in ("browser", "performance"):
            driver.get_log(log)
        driver.get((folder / f"{name}.html").as_uri())
        return driver

    return show


def open_all(driver):
    driver.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")


@pytest.mark.parametrize("name", ["audit", "hostile", "verification", "notebook"])
def test_no_request_no_error_no_alert(show, name):
    driver = show(name)
    open_all(driver)
    assert driver.title or name == "notebook"  # an alert would raise UnexpectedAlertPresentException here
    assert [e for e in driver.get_log("browser") if e["level"] == "SEVERE"] == []
    sent = [e["message"] for e in driver.get_log("performance") if "Network.requestWillBeSent" in e["message"]]
    sent = [m for m in sent if '"documentURL":"chrome:' not in m]  # the browser's own first tab
    assert [m for m in sent if '"url":"file:' not in m and '"url":"data:' not in m] == []
    assert len(sent) >= 1  # the page itself: the log does see requests


def test_an_injected_script_would_not_run(show):
    driver = show("audit")
    driver.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s);"
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">')"
    )
    assert driver.execute_script("return window.ran") is None


@pytest.mark.parametrize("name", ["audit", "hostile", "verification"])
def test_no_overflow_on_a_phone(show, name):
    driver = show(name, width=360)
    open_all(driver)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 360
    wide = driver.execute_script(
        "const apart = '.scroll, pre, .hidden, .skip, svg, script';"
        "return [...document.querySelectorAll('body *')].filter(e => !e.closest(apart)"
        " && e.getBoundingClientRect().right > 361).map(e => e.outerHTML.slice(0, 80))"
    )
    assert wide == []
    shown = driver.execute_script(
        "return [...document.querySelectorAll('svg.narrow, svg.wide')]"
        ".map(e => [e.classList[1], e.checkVisibility()])"
    )
    assert [["wide", False], ["narrow", True]] == shown


def test_texts_in_charts_can_be_read_on_a_phone(show):
    driver = show("audit", width=360)
    open_all(driver)
    heights = driver.execute_script(
        "return [...document.querySelectorAll('svg.chart text')].filter(e => e.checkVisibility())"
        ".map(e => parseFloat(getComputedStyle(e).fontSize) * Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b))"
    )
    assert min(heights) >= 9


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["audit", "verification", "notebook"])
def test_contrast_of_all_text(show, name, scheme):
    driver = show(name, scheme=scheme)
    open_all(driver)
    assert driver.execute_script(RELATIVE_LUMINANCE) == []


def test_dark_is_dark(show):
    driver = show("audit", scheme="dark")
    ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert max(int(v) for v in ground[4:-1].split(",")) < 64
    bar = driver.execute_script(
        "return getComputedStyle(document.querySelector('svg.wide rect, svg.wide path')).fill"
    )
    assert bar


def test_details_open_by_keyboard(show):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    driver = show("audit")
    first = "document.querySelector('details.line')"
    assert driver.execute_script(f"return {first}.open") is False
    for _ in range(60):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        if driver.execute_script(f"return document.activeElement === {first}.querySelector('summary')"):
            break
    else:
        pytest.fail("Tab never reached the first line")
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    assert driver.execute_script(f"return {first}.open") is True


def test_skip_link_is_the_first_stop(show):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    driver = show("audit")
    ActionChains(driver).send_keys(Keys.TAB).perform()
    assert driver.execute_script("return document.activeElement.className") == "skip"
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    assert driver.execute_script("return document.activeElement.id") == "main"


@pytest.mark.parametrize("link", ["table.budget a[href='#line-groups']", "svg.wide a[href='#line-groups'] text"])
def test_links_open_their_line(show, link):
    driver = show("audit")
    # A click as a browser makes it, also on SVG, which has no click() of its own.
    click = 'new MouseEvent("click", {bubbles: true, cancelable: true})'
    driver.execute_script(f'document.querySelector("{link}").dispatchEvent({click})')
    is_open = "return document.getElementById('line-groups').closest('details').open"
    assert driver.execute_async_script(f"setTimeout(() => arguments[0]((() => {{ {is_open} }})()), 200)") is True


def test_copy_button_copies_the_command(show):
    driver = show("audit")
    grant = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    driver.execute_cdp_cmd("Browser.grantPermissions", grant)
    button = driver.find_element("css selector", "#made .command button")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    said = driver.execute_async_script(
        "setTimeout(() => arguments[0](document.getElementById('said').textContent), 300)"
    )
    assert said == "Copied"
    pasted = driver.execute_async_script(
        "navigator.clipboard.readText().then(arguments[0], e => arguments[0](String(e)))"
    )
    assert pasted == sample.audit()["command"]


@pytest.mark.parametrize("name", ["audit", "verification"])
def test_print_shows_all_details_in_light_colours(show, name):
    driver = show(name, media="print", scheme="dark")
    hidden = driver.execute_script(
        "return [...document.querySelectorAll('details .body > *, details.data table')]"
        ".filter(e => !e.checkVisibility({contentVisibilityAuto: true}) || !e.getBoundingClientRect().height)"
        ".map(e => e.outerHTML.slice(0, 60))"
    )
    assert driver.execute_script("return document.querySelectorAll('details[open]').length") == 0
    assert hidden == []
    assert driver.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
