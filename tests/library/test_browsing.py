"""A stranger in a real browser: finds a paper by describing a failure, runs its method, votes, subscribes, gets mail."""

import datetime as dt
import email
import email.policy
import os
import re
import socket
import tempfile
import threading
import time
from importlib import resources

import pytest

webdriver = pytest.importorskip("selenium.webdriver")
pytest.importorskip("starlette")
pytest.importorskip("argon2")
uvicorn = pytest.importorskip("uvicorn")
sa = pytest.importorskip("sqlalchemy")

from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException, WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

import corrigible
from corrigible.library import Author, Page, Record
from corrigible.library import _accounts as accounts
from corrigible.library._database import Database
from corrigible.library._mail import Sender
from corrigible.library._papers import add_page
from corrigible.library._post import Outbox
from corrigible.library._schema import notes, papers, runs, subscriptions, votes
from corrigible.library._sending import send_digests
from corrigible.papers import index, results
from corrigible.web import create_app
from corrigible.web._mail_pages import Office

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not os.path.exists("/usr/bin/chromium"), reason="needs Debian's chromium"),
    # Selenium leaves closing its sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning"),
]
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync")  # fmt: skip
SECRET = "correct horse battery"


@pytest.fixture(scope="module")
def driver():
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size=1200,900"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        yield driver
        driver.quit()


class Site:
    """The pages of a library, served on loopback."""

    def __init__(self, url, folder, **options):
        self.database, self.outbox = Database(url), folder / "outbox"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{free.getsockname()[1]}"
        self.sender = Sender("papers@localhost.localdomain", site=self.address)
        app = create_app(self.database, office=Office(Outbox(self.outbox), self.sender), **options)
        port = int(self.address.rsplit(":", 1)[1])
        self.server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", ws="none"))
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)

    def rows(self, table):
        with self.database.read() as connection:
            return connection.execute(sa.select(table)).all()

    def close(self):
        self.server.should_exit = True
        self.thread.join(timeout=30)


def fill(database):
    record = Record(
        key="2611.00001", title="Label errors in test sets", abstract="Mislabelled rows where $x_1 > 0$.", door="atom",
        authors=(Author("Ada Lovelace"),), announced=dt.date.today(),
    )  # fmt: skip
    with database.write() as connection:
        add_page(connection, Page(records=(record,)), door="atom", raw=b"")


@pytest.fixture
def site(library_url, tmp_path):
    found = Site(library_url, tmp_path)
    fill(found.database)
    yield found
    found.close()


@pytest.fixture
def visit(driver):
    driver.delete_all_cookies()
    driver.get_log("browser")
    waits = WebDriverWait(driver, 60, ignored_exceptions=[NoSuchElementException, StaleElementReferenceException])

    class Visit:
        def go(self, address):
            driver.get(address)

        def button(self, words):
            return driver.find_element(By.XPATH, f"//button[contains(., '{words}')]")

        def field(self, label):
            named = driver.find_element(By.XPATH, f"//label[contains(., '{label}')]")
            return driver.find_element(By.ID, named.get_attribute("for"))

        def press(self, words):
            """Press a button that leads to another page, and wait for it."""
            here = driver.find_element(By.TAG_NAME, "html")
            self.button(words).click()
            waits.until(lambda _: gone(here))

        def follow(self, words):
            here = driver.find_element(By.TAG_NAME, "html")
            driver.find_element(By.PARTIAL_LINK_TEXT, words).click()
            waits.until(lambda _: gone(here))

        def until(self, check):
            waits.until(lambda _: check())

        @property
        def text(self):
            return driver.find_element(By.TAG_NAME, "body").text

    yield Visit()
    assert [
        e["message"] for e in driver.get_log("browser") if e["level"] == "SEVERE" and "404" not in e["message"]
    ] == []


def gone(element):
    try:
        element.is_enabled()
    except StaleElementReferenceException:
        return True
    except WebDriverException as error:  # how Chromium says it while the next page comes
        if "does not belong to the document" not in str(error):
            raise
        return True
    return False


def test_a_stranger(site, visit, driver):
    """Find, read, vote, note, run, subscribe, confirm, and get tomorrow's mail."""
    visit.go(f"{site.address}/")
    field = driver.find_element(By.ID, "top-search")
    here = driver.find_element(By.TAG_NAME, "html")
    field.send_keys("rows that were mislabelled in the test set", Keys.ENTER)
    visit.until(lambda: gone(here))
    visit.follow("Label errors in test sets")
    assert driver.find_element(By.TAG_NAME, "h1").text == "Label errors in test sets"
    assert driver.find_elements(By.CSS_SELECTOR, "math msub")

    page = driver.find_element(By.TAG_NAME, "html")
    visit.button("▲ Up").click()
    visit.until(lambda: visit.button("▲ Up").get_attribute("aria-pressed") == "true")
    assert not gone(page)  # the vote alone was replaced
    assert "1 vote" in visit.text
    visit.field("Note").send_keys("to read\nagain")
    visit.press("Keep")
    assert visit.field("Note").get_attribute("value") == "to read\nagain"
    assert [(v.value,) for v in site.rows(votes)] == [(1,)]
    assert [n.text for n in site.rows(notes)] == ["to read\nagain"]

    visit.go(f"{site.address}/papers/{corrigible.card('capa').papers[0]}")
    visit.press("Run its example")
    visit.until(lambda: "capa: done" in visit.text)  # the page follows it by itself
    assert "capa(first, first, y)" in visit.text
    assert [(r.name, r.state, r.exit) for r in site.rows(runs)] == [("capa", "done", 0)]

    subscribe(site, visit, driver)
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    (sent,) = send_digests(site.database, Outbox(site.outbox), site.sender, now=later)
    assert sent.state == "sent"
    assert "Label errors in test sets" in mail(site, "Label errors")


def mail(site, words):
    """The text of the mail in the outbox that holds these words."""
    for file in site.outbox.glob("*.eml"):
        message = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
        if words in (text := message.get_body(("plain",)).get_content()):
            return text
    return ""


def subscribe(site, visit, driver):
    visit.go(f"{site.address}/subscribe")
    visit.field("Mail address").send_keys("ada@example.org")
    visit.field("Searches").send_keys("label errors")
    visit.press("Subscribe")
    assert "on its way" in visit.text
    visit.until(lambda: mail(site, "/confirm/"))
    visit.go(re.search(r"http://\S+/confirm/\S+", mail(site, "/confirm/"))[0])
    visit.press("Confirm")
    assert [(s.address, s.state) for s in site.rows(subscriptions)] == [("ada@example.org", "confirmed")]
    visit.go(f"{site.address}/subscriptions")
    for button, state in (("Pause", "paused"), ("Go on", "confirmed")):
        visit.press(button)
        assert site.rows(subscriptions)[0].state == state
    visit.follow("Change")
    assert visit.field("Searches").get_attribute("value") == "label errors"


# --- one database is enough for what the pages are like ---------------------------------------------------


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    found = Site(str(folder / "papers.db"), folder)
    fill(found.database)
    yield found
    found.close()


OWN = next(s for s, p in index().items() if p.methods and any(s in r["papers"] for r in results().values()))
PAGES = ["/", "/trending", "/claims", "/methods", "/methods/capa", "/search?q=calibration", f"/papers/index:{OWN}",
         "/papers/2611.00001", "/subscribe", "/subscriptions", "/settings", "/nothing"]  # fmt: skip


def look(driver, address, *, width=1200, scheme="light"):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.get(address)


def faults(driver):
    """What axe-core finds, one line each."""
    axe = resources.files(pytest.importorskip("axe_core_python")) / "axe.min.js"
    driver.execute_script(axe.read_text(encoding="utf-8"))
    # What is listed in hundreds is all of one making, and to look at each takes minutes.
    driver.execute_script("for (const kind of ['.claim', '.card', '.plain li', 'fieldset .choice'])"
                          "document.querySelectorAll(kind).forEach((e, i) => i > 4 && e.remove())")  # fmt: skip
    found = driver.execute_async_script("const end = arguments[0]; axe.run().then(r => end(r.violations))")
    return [f"{v['id']} ({v['impact']}): {v['nodes'][0]['html'][:120]}" for v in found]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 390)])
def test_axe_finds_nothing(pages, driver, scheme, width):
    wrong = {}
    for path in PAGES:
        look(driver, pages.address + path, scheme=scheme, width=width)
        wrong[path] = faults(driver)
    assert {path: found for path, found in wrong.items() if found} == {}


def test_axe_would_find_something(pages, driver):
    look(driver, pages.address)
    driver.execute_script(
        "document.querySelector('#top-search').previousElementSibling.remove();"
        "document.querySelector('#top-search').placeholder = '';"
    )
    assert any(f.startswith("label (critical)") for f in faults(driver))


def test_a_phone_needs_no_scrolling_sideways(pages, driver):
    for path in PAGES:
        look(driver, pages.address + path, width=360)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 360, path


def test_pages_are_small_and_quick(pages, driver):
    import httpx

    with httpx.Client(base_url=pages.address) as client:
        client.get("/")
        client.get("/search?q=calibration")
        for path in PAGES:
            answer = client.get(path, headers={"accept-encoding": "gzip"})
            assert int(answer.headers.get("content-length", len(answer.content))) < 100_000, path


def test_the_keyboard_alone(pages, driver):
    look(driver, pages.address)
    driver.switch_to.active_element.send_keys(Keys.TAB)
    assert driver.switch_to.active_element.text == "To the content"
    driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert driver.execute_script("return document.activeElement.id") == "main"
    seen = []
    for _ in range(4):
        driver.switch_to.active_element.send_keys(Keys.TAB)
        seen.append(driver.execute_script("return getComputedStyle(document.activeElement).outlineStyle"))
    assert seen == ["solid"] * 4  # what has the focus is seen


def test_without_javascript(pages, driver, visit):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        visit.go(f"{pages.address}/papers/2611.00001")
        visit.press("▼ Down")
        assert "-1 votes" in visit.text
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    with pages.database.read() as connection:
        (paper,) = connection.execute(sa.select(votes.c.paper_id)).scalars()
        assert connection.execute(sa.select(papers.c.key).where(papers.c.id == paper)).scalar() == "2611.00001"


def test_with_an_account(driver, visit, tmp_path):
    site = Site(str(tmp_path / "papers.db"), tmp_path, accounts=True)
    try:
        fill(site.database)
        with site.database.write() as connection:
            accounts.add_user(connection, "ada", SECRET)
        visit.go(f"{site.address}/papers/2611.00001")
        assert faults(driver) == []
        visit.field("Name").send_keys("ada")
        visit.field("Password").send_keys(SECRET)
        visit.press("Log in")
        assert driver.find_element(By.TAG_NAME, "h1").text == "Label errors in test sets"
        visit.go(f"{site.address}/settings")
        visit.press("Make a token")
        assert re.search(r"corr_[\w-]{43}", visit.text)
        assert faults(driver) == []
        driver.find_element(By.CSS_SELECTOR, "input[value=dark]").click()
        visit.press("Keep")
        assert driver.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 25, 29)"
        visit.press("Log out")
        visit.go(f"{site.address}/settings")
        assert driver.current_url.endswith("/login?next=/settings")
    finally:
        site.close()
