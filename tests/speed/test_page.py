"""How fast the page of the committed records opens and answers its slider, in Chromium: `make speed RUN='-k page'`."""

import statistics
from pathlib import Path

import pytest

from bench.report.__main__ import main
from tests.bench.test_page import visit

REFERENCE = Path(__file__).parents[2] / "results/reference"
MOVE = """async value => {
    const range = document.getElementById("handicap"), begin = performance.now();
    range.value = value;
    range.dispatchEvent(new Event("input"));
    await new Promise(painted => requestAnimationFrame(() => setTimeout(painted)));
    return (performance.now() - begin) / 1000;
}"""
CAPTIONS = "[...document.querySelectorAll('caption')].map(one => one.textContent).join()"
OPENED = "performance.getEntriesByName('report')[0].startTime / 1000"  # the page's script is through


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> str:
    folders = sorted(folder for folder in REFERENCE.iterdir() if folder.is_dir())
    if not folders:
        pytest.skip("needs the committed reference records")
    out = tmp_path_factory.mktemp("page")
    assert main([f"records={','.join(map(str, folders))}", f"out={out}"]) in (0, 2)
    return (out / "index.html").as_uri()


def noted(benchmark, seconds: list[float], must: float) -> None:
    """The median; as interval all that were measured, as they are few."""
    info = {"value": statistics.median(seconds), "interval": (min(seconds), max(seconds)), "unit": " s", "must": must}
    benchmark.extra_info.update(info)


def test_page_opens(browser, url, benchmark):
    seconds = []

    def opened() -> None:
        with browser.new_page() as tab:
            visit(tab, url)
            seconds.append(tab.evaluate(OPENED))

    benchmark.pedantic(opened, rounds=9)
    noted(benchmark, seconds, must=1.0)


def test_page_answers_the_slider(browser, url, benchmark):
    """From an event of the slider to the next frame, with the part in sight whose median is the longest."""
    with browser.new_page() as tab:
        visit(tab, url)
        parts = tab.evaluate("report.parts.map(part => `${part.name}-explore`)")
        slowest: list[float] = [0.0]
        before = tab.evaluate(CAPTIONS)

        def moved() -> None:
            nonlocal slowest
            for part in parts:
                tab.evaluate("part => document.getElementById(part).scrollIntoView()", part)
                found = []
                for step in range(9):
                    tab.wait_for_timeout(50)  # between two moves of a hand
                    found.append(tab.evaluate(MOVE, str(0.05 + 0.03 * step)))
                slowest = max(slowest, found, key=statistics.median)

        benchmark.pedantic(moved, rounds=1)
        assert tab.evaluate(CAPTIONS) != before, "there was something to do"
    noted(benchmark, slowest, must=0.1)
