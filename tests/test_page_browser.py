"""The page of a run in a browser without a network: real clicks, keys and words, and what they change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("bokeh", reason="bokeh is not installed (the extra html)")
pytest.importorskip("selenium", reason="selenium is not installed (the extra dev)")

from paged import MODELS, known_tables
from PIL import Image
from selenium.webdriver import ActionChains, Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from mimic.page import page_html
from mimic.page_tables import NULL

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="chromium and chromedriver are not installed")

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1280,900"),
    *("--enable-unsafe-swiftshader", "--host-resolver-rules=MAP * ~NOTFOUND"),
)

# Bokeh puts what it draws into shadow roots: look for a selector in all of them, below the root of a model.
DEEP = """
const deep = (node, selector) => {
  const found = [...node.querySelectorAll(selector)]
  for (const child of node.querySelectorAll("*")) if (child.shadowRoot) found.push(...deep(child.shadowRoot, selector))
  return found
}
const of = (name) => {
  const model = Bokeh.documents[0].get_model_by_name(name)
  return document.querySelector(`[data-root-id="${model.id}"]`)
}
"""


class Page:
    """A page in a browser."""

    def __init__(self, browser: Chrome) -> None:
        self.browser = browser

    def run(self, code: str, *values: object) -> Any:
        return self.browser.execute_script(code, *values)

    def find(self, name: str, selector: str) -> list[WebElement]:
        """The elements that a model of bokeh is drawn with."""
        found: list[WebElement] = self.run(DEEP + "return deep(of(arguments[0]), arguments[1])", name, selector)
        return found

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).innerText", selector))

    def wait(self, code: str, *values: object) -> None:
        WebDriverWait(self.browser, 15).until(lambda _: self.run("return " + code, *values))

    def wait_for(self, selector: str, text: str) -> None:
        self.wait("document.querySelector(arguments[0]).innerText.includes(arguments[1])", selector, text)

    def select(self, name: str, value: str) -> None:
        """Choose in a select as a person does."""
        Select(self.find(name, "select")[0]).select_by_visible_text(value)

    def place(self, x: float, y: float) -> tuple[int, int]:
        """The pixel of the window at a place of the map, degrees, by the scales of bokeh's own view."""
        at = self.run(
            """
            const view = [...Bokeh.index.query((v) => v.model.name == "map")][0]
            view.el.scrollIntoView({block: "center"})
            const box = view.canvas_view.el.getBoundingClientRect(), scale = view.frame
            return [box.left + scale.x_scale.compute(arguments[0]), box.top + scale.y_scale.compute(arguments[1])]
            """,
            x,
            y,
        )
        return round(at[0]), round(at[1])

    def click(self, x: float, y: float) -> None:
        """A real click on a place of the map."""
        mouse = ActionChains(self.browser, duration=50)
        mouse.w3c_actions.pointer_action.move_to_location(*self.place(x, y))
        mouse.click().perform()

    def color(self, x: float, y: float) -> tuple[int, ...]:
        """What is on the screen at a place of the map."""
        at = self.place(x, y)
        screen = Image.open(BytesIO(self.browser.get_screenshot_as_png())).convert("RGB")
        found: tuple[int, ...] = screen.getpixel(at)  # type: ignore[assignment]
        return found

    def wait_for_color(self, x: float, y: float, wanted: tuple[int, ...]) -> None:
        """Colors may be off by a few parts: dots let a little of the sea through."""

        def is_near(_: object) -> bool:
            return max(abs(a - b) for a, b in zip(self.color(x, y), wanted, strict=True)) < 30

        WebDriverWait(self.browser, 10).until(is_near, message=f"the color at {x}, {y} is not {wanted}")

    def rows(self, name: str) -> list[list[str]]:
        """The texts of the rows that a table shows now, from the top."""
        code = """
        const rows = deep(of(arguments[0]), ".slick-row").sort((a, b) => parseFloat(a.style.top) - parseFloat(b.style.top))
        return rows.map((row) => [...row.querySelectorAll(".slick-cell")].map((cell) => cell.innerText.trim()))
        """
        found: list[list[str]] = self.run(DEEP + code, name)
        return found


def _open(folder: Path, html: str) -> Chrome:
    (folder / "page.html").write_text(html, encoding="utf-8")
    options = ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = Chrome(options=options, service=ChromeService(str(DRIVER)))
    browser.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    browser.get((folder / "page.html").as_uri())
    return browser


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all tests: each leaves the page as it was."""
    browser = _open(tmp_path_factory.mktemp("browser"), page_html(known_tables()))
    try:
        page = Page(browser)
        page.wait('document.body.dataset.ready == "yes"')
        page.wait("[...Bokeh.index.query((v) => v.model.name == 'groups_table')].every((v) => v.grid != null)")
        yield page
    finally:
        browser.quit()


@pytest.fixture
def page(opened: Page) -> Iterator[Page]:
    """The open page; when a test ends nobody is chosen and no error is on the console."""
    yield opened
    opened.run("mimicPage.clear()")
    errors = [entry for entry in opened.browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []


def test_only_the_file_itself_is_asked_for(page: Page) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in page.browser.get_log("performance")]
    asked = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    # the browser's own start page comes before
    urls = [one["request"]["url"] for one in asked if one["documentURL"] == page.browser.current_url]
    assert urls[0] == page.browser.current_url
    assert urls[0].startswith("file://")
    assert [url for url in urls[1:] if not url.startswith(("data:", "blob:"))] == []


def test_at_first_all_decisions_are_shown_and_nobody_is_chosen(page: Page) -> None:
    assert page.text("#shown") == "1 May 2020 12:00 to 6 May 2020 13:00: 12 of 12 decisions, of 3 individuals"
    assert "No individual chosen" in page.text("#individual")


def test_nothing_is_wider_than_the_window(page: Page) -> None:
    assert page.run("return document.documentElement.scrollWidth <= window.innerWidth")
    window = page.browser.get_window_size()
    try:
        page.browser.set_window_size(1000, 900)
        page.wait("document.documentElement.scrollWidth <= window.innerWidth && window.innerWidth <= 1000")
    finally:
        page.browser.set_window_size(window["width"], window["height"])


def test_click_on_a_decision_chooses_its_individual_and_on_the_sea_nobody(page: Page) -> None:
    # the last decision of seal 1 lies at 179.5 degrees west: 180.5 on a map around the date line
    page.click(180.5, 60.6)
    page.wait_for("#individual", "seal 1")
    facts = page.text("#individual-facts")
    assert "1 May 2020 to 4 May 2020" in facts
    assert "25.0 %" in facts
    cells = "[...document.querySelectorAll('#individual-models tbody tr')].map((row) => [...row.cells].map((c) => c.innerText.trim()))"
    # D = ln 0.5, twice the null of 4 choices; and ln 0.25, the null itself
    assert page.run("return " + cells) == [
        [MODELS[0], "−0.693", "0.500", "2.00"],
        [MODELS[1], "−1.386", "0.250", "1.00"],
        [NULL, "−1.386", "0.250", "1.00"],
    ]
    assert page.run('return Bokeh.documents[0].get_model_by_name("track").data.x') == [176, 177.5, 179, 180.5]
    page.click(183.0, 61.8)  # nobody was there
    page.wait_for("#individual", "No individual chosen")
    assert page.run('return Bokeh.documents[0].get_model_by_name("track").data.x') == []


def test_hover_tells_probability_and_rank_of_every_model(page: Page) -> None:
    page.click(178.0, 62.0)  # leaves the mouse there
    page.wait('!document.getElementById("tip").hidden')
    lines = page.text("#tip").splitlines()
    assert lines[0] == "seal 2   2 May 2020 12:00 UTC"
    assert [line.split()[-2:] for line in lines[2:]] == [["0.5000", "1"], ["0.5000", "2"], ["0.2500", "2.5"]]
    # the chosen model is marked
    assert [line[0] == "▸" for line in lines[2:]] == [False, True, False]


def test_button_clears_what_a_select_has_chosen(page: Page) -> None:
    page.select("individual", "seal 10")
    page.wait_for("#individual", "seal 10")
    assert "validation" in page.text("#individual-facts")
    page.find("clear", "button")[0].click()
    page.wait_for("#individual", "No individual chosen")
    assert Select(page.find("individual", "select")[0]).first_selected_option.text == "none"


def test_row_of_the_list_chooses_an_individual(page: Page) -> None:
    cells = page.find("people_table", ".slick-cell.l0")
    next(cell for cell in cells if cell.text == "seal 2").click()
    page.wait_for("#individual", "seal 2")


def test_slider_shows_only_decisions_within_its_dates(page: Page) -> None:
    low, high = page.find("time", ".noUi-handle")
    value = 'return Bokeh.documents[0].get_model_by_name("time").value'
    times = page.run('return Array.from(Bokeh.documents[0].get_model_by_name("decisions").data.time)')
    try:
        low.send_keys(Keys.ARROW_RIGHT)
        page.wait_for("#shown", "11 of 12 decisions, of 3 individuals")  # the first was made at the left end itself
        high.send_keys(*[Keys.ARROW_LEFT] * 40)
        start, end = page.run(value)
        left = sum(start <= time < end for time in times)
        assert 0 < left < 11
        page.wait_for("#shown", f"{left} of 12 decisions")
        # the bar between the ends moves both: dragged to the left, the first decision is there again
        mouse = ActionChains(page.browser, duration=50)
        mouse.drag_and_drop_by_offset(page.find("time", ".noUi-connect")[0], -60, 0).perform()
        page.wait(f"Bokeh.documents[0].get_model_by_name('time').value[0] < {start}")
        moved = page.run(value)
        page.wait_for("#shown", f"{sum(moved[0] <= time < moved[1] for time in times)} of 12 decisions")
    finally:
        page.run('const s = Bokeh.documents[0].get_model_by_name("time"); s.value = [s.start, s.end]')
        page.wait_for("#shown", "12 of 12 decisions")


def test_split_shows_only_its_decisions_and_the_screen_follows(page: Page) -> None:
    sea, green, yellow = (0xEE, 0xF3, 0xF7), (0x20, 0x90, 0x8C), (0xFD, 0xE7, 0x25)
    page.wait_for_color(178.0, 62.0, green)  # of seal 2, p = 0.5: the middle of ln 0.25 to 0 in viridis
    page.wait_for_color(183.0, 60.0, yellow)  # of seal 10, p = 1
    page.select("split", "validation")
    page.wait_for("#shown", "4 of 12 decisions, of 1 individual")
    page.wait_for_color(178.0, 62.0, sea)
    page.wait_for_color(183.0, 60.0, yellow)
    page.select("split", "all")
    page.wait_for("#shown", "12 of 12 decisions, of 3 individuals")
    page.wait_for_color(178.0, 62.0, green)


def test_words_in_the_filter_and_selects_leave_their_rows(page: Page) -> None:
    # at first: two models x two choice groups of validation, individuals weighing the same
    assert page.text("#groups-shown") == "4 of 16 rows"
    assert len(page.rows("groups_table")) == 4
    field = page.find("groups_text", "input")[0]
    field.send_keys("MOVE dist")
    page.wait_for("#groups-shown", "1 of 16 rows")
    (row,) = page.rows("groups_table")
    assert row[:5] == [f"■ {MODELS[0]}", "validation", "move", "all", "individual"]
    page.select("groups_split", "all")
    page.wait_for("#groups-shown", "2 of 16 rows")
    field.send_keys(*[Keys.BACKSPACE] * 9)
    page.select("groups_split", "validation")
    page.wait_for("#groups-shown", "4 of 16 rows")


def test_click_on_a_head_sorts_the_table(page: Page) -> None:
    def gmp() -> list[float]:
        return [float(row[8]) for row in page.rows("groups_table")]

    before = gmp()
    assert before == sorted(before, reverse=True)
    head = next(cell for cell in page.find("groups_table", ".slick-header-column") if cell.text == "GMP")
    head.click()
    assert gmp() == sorted(before)


def test_missing_values_are_last_whichever_way_a_table_is_sorted(page: Page) -> None:
    page.run("const d = Bokeh.documents[0].get_model_by_name('groups').data; d.lift[0] = NaN; d.lift[4] = NaN")
    page.select("groups_split", "all")
    page.wait_for("#groups-shown", "8 of 16 rows")
    try:
        head = next(cell for cell in page.find("groups_table", ".slick-header-column") if cell.text == "lift")
        for reverse in (False, True):
            head.click()
            lifts = [row[11] for row in page.rows("groups_table")]
            assert lifts[-2:] == ["–", "–"]
            assert lifts.count("–") == 2
            numbers = [float(lift) for lift in lifts if lift != "–"]
            assert numbers == sorted(numbers, reverse=reverse)
    finally:
        page.select("groups_split", "validation")


def test_names_sort_by_the_numbers_in_them(page: Page) -> None:
    head = page.find("people_table", ".slick-header-column")[0]
    for names in (["seal 1", "seal 2", "seal 10"], ["seal 10", "seal 2", "seal 1"]):
        head.click()
        assert [row[0] for row in page.rows("people_table")] == names
        page.run("mimicPage.recolor()")  # with new values in its rows
        assert [row[0] for row in page.rows("people_table")] == names
    head.click()


def test_tab_key_leaves_a_table(page: Page) -> None:
    page.find("people_table", ".slick-cell.l0")[0].click()
    inside = DEEP + "return document.activeElement === of('people_table').firstElementChild"
    assert page.run(inside)
    for _ in range(8):  # its three rows have 27 cells
        ActionChains(page.browser).send_keys(Keys.TAB).perform()
    assert not page.run(inside)
    page.run("document.activeElement.blur()")


def test_table_is_as_high_as_its_rows(page: Page) -> None:
    height = "return Bokeh.documents[0].get_model_by_name('groups_table').height"
    before = page.run(height)
    page.find("groups_text", "input")[0].send_keys("MOVE dist")
    page.wait_for("#groups-shown", "1 of 16 rows")
    assert page.run(height) == before - 3 * 26
    page.find("groups_text", "input")[0].send_keys(*[Keys.BACKSPACE] * 9)
    page.wait_for("#groups-shown", "4 of 16 rows")


def test_scale_has_several_marks_whatever_its_range(page: Page) -> None:
    # p from 0.25 to 1; differences of up to ln 2
    texts = "return Bokeh.documents[0].get_model_by_name('scale_ticks').ticks.map((v) => mimicPage.scaleText(v))"
    assert page.run(texts) == ["0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1"]
    page.select("mode", "lift over 1/n (A)")
    assert page.run(texts) == ["1/3", "×1", "×3"]
    page.select("model", MODELS[0])
    page.select("mode", "probability (A)")
    page.select("model", MODELS[1])


def test_color_follows_the_chosen_kind_and_models(page: Page) -> None:
    state = """
    const m = (name) => Bokeh.documents[0].get_model_by_name(name), image = m("dots").data.image[0]
    const colors = new Set(Array.from(image).filter((v) => v >>> 24 == 255).map((v) => v & 0xffffff))
    return [m("scale").title, m("colors").low, m("colors").high, colors.size]
    """
    title, low, high, n = page.run(state)
    # p of the second model: 0.25, 0.5 and 1
    assert title == f"probability of the selected choice by {MODELS[1]}"
    assert (round(low, 3), high, n) == (-1.386, 0, 3)
    page.select("mode", "difference of ln p (A - B)")
    title, low, high, n = page.run(state)
    # 0.25, 0.5 and 1 against 0.5: ln 1/2, 0 and ln 2 on a symmetric scale
    assert title.startswith(f"ln p by {MODELS[1]} less ln p by {MODELS[0]}")
    assert (round(low, 3), round(high, 3), n) == (-0.693, 0.693, 3)
    page.select("model", MODELS[0])
    # of a model against itself there is no difference, and one color
    assert page.run(state)[3] == 1
    assert [row[6] for row in page.rows("people_table")] == ["0.5000"] * 3
    page.select("model", MODELS[1])
    page.select("mode", "probability (A)")
    assert [row[6] for row in page.rows("people_table")] == ["0.2500", "0.5000", "1.0000"]


def test_curves_are_of_the_models_that_have_the_feature(page: Page) -> None:
    shown = "return [0, 1].map((k) => Bokeh.documents[0].get_model_by_name(`curve_line_${k}`).visible)"
    assert page.run(shown) == [True, True]
    page.select("feature", "stay")
    assert page.run(shown) == [False, True]
    assert page.run('return Array.from(Bokeh.documents[0].get_model_by_name("curve_1").data.x)') == [0, 1]
    page.select("feature", "depth")


def test_page_without_a_map_has_its_tables(tmp_path: Path) -> None:
    browser = _open(tmp_path, page_html(known_tables(no_map="There is no map of bins.")))
    try:
        page = Page(browser)
        page.wait('document.body.dataset.ready == "yes"')
        assert page.text("#no-map") == "There is no map of bins."
        page.select("individual", "seal 10")
        page.wait_for("#individual", "seal 10")
        assert page.text("#groups-shown") == "4 of 16 rows"
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    finally:
        browser.quit()
