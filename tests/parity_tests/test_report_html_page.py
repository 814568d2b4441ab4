"""The page is well formed, asks for nothing, runs nothing but its own script, and renders."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="needs Jinja: pip install -e '.[parity]'")

from support.loopback import Files, serving
from support.reports import EVERY, HOSTILE, MEASURE, hostile

from parity_tests import report as reports
from parity_tests.model import Comparison, ParityReport, ProbeResult

ANY = pytest.mark.parametrize("report", EVERY.values(), ids=EVERY)
VOID = {"meta", "link", "input", "br"}
TAGS = set(
    re.findall(
        r"\w+",
        """html head meta link title style body header main section article div p span h1 h2 h3
        dl dt dd ul ol li code pre details summary table thead tbody tr th td label input select
        option svg path text circle rect script""",
    )
)


class Page(HTMLParser):
    """Checks nesting, and gathers what the tests look at."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        where = self.open[-1] if self.open else ""
        self.raw.get(where, self.text).append(data)


@ANY
def test_the_page_is_well_formed_and_asks_for_nothing(report: ParityReport) -> None:
    page = Page(reports.html(report))
    assert page.open == []
    assert {tag for tag, _ in page.tags} <= TAGS
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("style", "srcset", "action", "background", "xlink:href")
            if name in ("src", "href"):
                assert value.startswith(("#", "data:")), value
    for source in page.raw["style"] + page.raw["script"]:
        assert not re.search(r"@import|url\(|fetch|XMLHttp|https?:|innerHTML|eval", source)


@ANY
def test_the_policy_allows_this_style_and_script_only(report: ParityReport) -> None:
    page = Page(reports.html(report))
    (policy,) = (a["content"] for _, a in page.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for kind, sources in page.raw.items():
        assert [tag for tag, _ in page.tags].count(kind) == 1
        digest = base64.b64encode(hashlib.sha256("".join(sources).encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize("bad", HOSTILE)
def test_hostile_strings_are_text(bad: str) -> None:
    markup = reports.html(hostile(bad))
    assert "<script>alert" not in markup
    assert "<img" not in markup
    markup.encode()
    tame = Page(reports.html(hostile("tame")))
    tags = [tag for tag, _ in Page(markup).tags]
    assert tags == [tag for tag, _ in tame.tags]


def test_the_page_says_what_was_found() -> None:
    text = " ".join("".join(Page(reports.html(EVERY["failed"])).text).split())
    for piece in ("FAILED at conv: transposed", "x <= 1", "Error against depth", "source", "2e-5"):
        assert piece in text, piece


def test_the_page_stays_small() -> None:
    assert len(reports.html(EVERY["deep"]).encode()) < 300_000


def test_without_jinja_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['jinja2'] = None\n"
        "from parity_tests.report import html, text\n"
        "from parity_tests.model import ParityReport\n"
        "text(ParityReport('', '', '', {}, ()))\n"
        "html(ParityReport('', '', '', {}, ()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingPackageError" in done.stderr
    assert "facenet-parity[parity]" in done.stderr


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("needs chromium on PATH: apt-get install chromium")
    return found


def browse(chromium: str, home: Path, *arguments: str) -> str:
    flags = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--disable-background-networking",
        f"--user-data-dir={home}",
    )
    done = subprocess.run(
        [chromium, *flags, *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """Serves `tmp_path` on this machine, and lists what is asked for."""
    asked: list[str] = []

    class Noting(Files):
        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    with serving(partial(Noting, directory=tmp_path)) as address:
        yield address, asked


@pytest.mark.parametrize("name", ["failed", "hostile1"])
def test_a_browser_renders_it_and_asks_for_nothing_else(
    name: str, chromium: str, server: tuple[str, list[str]], tmp_path: Path
) -> None:
    reports.save(EVERY[name], tmp_path / "page.html", "html")
    address, asked = server
    shown = browse(chromium, tmp_path / "home", "--dump-dom", f"{address}/page.html")
    assert asked == ["/page.html"]
    count = len(EVERY[name].probes)
    assert f"{count} of {count} layers" in shown, "the policy let the page's script run"
    assert "<button" in shown


def test_a_page_that_asked_would_be_caught(
    chromium: str, server: tuple[str, list[str]], tmp_path: Path
) -> None:
    page = reports.html(EVERY["failed"])
    leaking = page.replace("<main>", '<main><img src="/pixel.png">')
    (tmp_path / "kept.html").write_text(leaking, encoding="utf-8")
    open_policy = re.sub(r'<meta http-equiv="Content-Security-Policy".*?>', "", leaking)
    (tmp_path / "leaks.html").write_text(open_policy, encoding="utf-8")
    address, asked = server
    browse(chromium, tmp_path / "home", "--dump-dom", f"{address}/kept.html")
    assert asked == ["/kept.html"], "the policy alone keeps it in"
    browse(chromium, tmp_path / "home", "--dump-dom", f"{address}/leaks.html")
    assert "/pixel.png" in asked


def test_the_table_sorts_and_filters(chromium: str, tmp_path: Path) -> None:
    acts = """
        const head = document.querySelectorAll("#layers thead button")[3];
        head.click();
        head.click();
        document.querySelector("#filter-text").value = "KEPT";
        document.querySelector("#filter-text").dispatchEvent(new Event("input"));
    """
    names = {"a-kept": 1e-9, "b": 5.0, "c-kept": 3.0, "d-kept": 2e-3, "e-kept": None}
    probes = tuple(
        ProbeResult(
            name, (), "same", Comparison("same", None, size and replace(MEASURE, max_abs=size))
        )
        for name, size in names.items()
    )
    page = reports.html(replace(EVERY["passed"], probes=probes))
    page = re.sub(r'<meta http-equiv="Content-Security-Policy".*?>', "", page)
    page = page.replace("</body>", f"<script>{acts}</script></body>")
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    address = (tmp_path / "page.html").as_uri()
    shown = browse(chromium, tmp_path / "home", "--dump-dom", address)
    rows = re.findall(r"<tr data-verdict=.*?</tr>", shown)
    kept = [re.findall(r"<code>(.*?)</code>", row)[0] for row in rows if ' hidden=""' not in row]
    assert kept == ["e-kept", "c-kept", "d-kept", "a-kept"], "largest first; no number before all"
    assert "4 of 5 layers" in shown
    assert '<th scope="col" aria-sort="descending"><button type="button">Cumulative' in shown


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_takes_a_picture_of_it(width: int, chromium: str, tmp_path: Path) -> None:
    reports.save(EVERY["failed"], tmp_path / "page.html", "html")
    picture = tmp_path / "page.png"
    size = (f"--window-size={width},900", f"--screenshot={picture}")
    browse(chromium, tmp_path / "home", *size, (tmp_path / "page.html").as_uri())
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20], "big") == width
    assert len(content) > 15_000, "there is more than an empty page"
