"""The page as a whole: that it stands alone, and what a browser makes of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gpt2onnx.page import Node, Option, Run, Step, render
from gpt2onnx.page.chart import Line, chart
from gpt2onnx.page.frame import frame, section
from tests.chromium import CHROMIUM, HEADLESS

NASTY = "</span><script>alert('1')</script> & \"quotes\"\n\t\x00$title ${x}"
RUN = Run(
    NASTY,
    [
        Step(NASTY, 0.5, [Option("<!--", 0.25), Option("]]>", 0.125)], 1.25),
        Step(" end", 0.5, [Option(NASTY, 0.25)], 0.75),
    ],
    "length",
    [("model", "<m>")],
    [
        [Node(NASTY, 0.5, -0.7, 0, "kept", best=True), Node("x", 0.25, -1.4, 0, "pruned")],
        [Node(" end", 0.5, -1.4, 0, "finished", best=True)],
    ],
)
VOID = {"meta", "link", "br"}


class Reader(HTMLParser):
    """What is in a page: its tags, the text of its tokens, the classes and labels."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[tuple[str, set[str]]] = []
        self.tags: list[str] = []
        self.tokens: list[str] = []
        self.labels: list[str] = []
        self.nodes: list[set[str]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        classes = set((given.get("class") or "").split())
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append((tag, classes))
        if tag == "li" and "t" not in classes:
            self.nodes.append(classes)
        if given.get("role") == "note":
            self.tokens.append("")
            self.labels.append(given["aria-label"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        in_text = any("text" in classes for _, classes in self.open)
        if in_text and self.open[-1][1] & {"t"}:
            self.tokens[-1] += data


def expected(read: Reader) -> None:
    assert not {"script", "iframe", "img", "object", "b-"} & set(read.tags)
    assert read.tokens == [
        "</span><script>alert('1')</script> & \"quotes\"⏎\n⇥␀$title ${x}",
        " end",
    ]
    assert read.labels[0].startswith("step 1: </span><script>alert('1')</script> & \"quotes\"⏎⇥␀")
    assert (
        read.labels[0]
        .replace("\N{NO-BREAK SPACE}", " ")
        .endswith("50.00 %, entropy 1.25 bits; others: <!-- 25.00 %, ]]> 12.50 %")
    )
    branches = [classes for classes in read.nodes if classes & {"kept", "pruned", "finished"}]
    assert branches == [{"kept", "best", "p3"}, {"pruned"}, {"finished", "best", "p3"}]


def test_every_token_is_text_and_every_tag_is_closed() -> None:
    read = Reader(render(RUN))
    assert read.open == []
    expected(read)


def test_a_page_asks_for_nothing() -> None:
    page = render(RUN)
    links = re.findall(r"(?:src|href)=\"([^\"]*)\"|url\(([^)]*)\)|(@import)", page)
    assert links == [("data:,", "", "")]
    assert "http:" not in page
    assert "https:" not in page
    assert "default-src 'none'" in page


def test_figures() -> None:
    page = render(RUN)
    facts = re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", page)
    assert facts == [
        ("model", "&lt;m&gt;"),
        ("new tokens", "2"),
        ("perplexity", "2.00"),
        ("mean entropy", "1.00 bits"),
    ]


def test_what_a_run_hasnt_the_page_leaves_out() -> None:
    page = render(Run("", [Step("a", 0.0)], "eos"))
    assert re.findall(r"<h2>([^<]*)</h2>", page) == ["Text", "Step by step"]
    assert "<dd>inf</dd>" in page
    assert "mean entropy" not in page


PDFTOTEXT = shutil.which("pdftotext")
OPTIONS = (*HEADLESS, "--disable-quic", "--disable-component-update", "--disable-sync")


@pytest.mark.skipif(not CHROMIUM, reason="no chromium on the PATH")
def test_a_browser_reads_the_same(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(render(RUN), encoding="utf-8")
    expected(Reader(dumped(page, tmp_path / "user")))


@pytest.mark.skipif(not (CHROMIUM and PDFTOTEXT), reason="no chromium, or no pdftotext")
def test_a_plot_is_printed_below_its_title(tmp_path: Path) -> None:
    plot = chart("t", [Line("a line", [(1, 1), (2, 2)])], "across", "up")
    body = "".join(f"<p>{'some words ' * 50 * n}</p>{section('Title', '', plot)}" for n in range(6))
    page, pdf = tmp_path / "page.html", tmp_path / "page.pdf"
    page.write_text(frame("", "", [], body), encoding="utf-8")
    browse(page, tmp_path / "user", "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    text = subprocess.run([PDFTOTEXT, pdf, "-"], capture_output=True, check=True).stdout.decode()
    counts = [[page.count(part) for part in ("Title", "across")] for page in text.split("\f")]
    assert all(titles == plots for titles, plots in counts), counts
    assert [sum(each) for each in zip(*counts, strict=True)] == [6, 6]


def dumped(page: Path, user: Path) -> str:
    """The page as the browser understood it."""
    return browse(page, user, "--dump-dom")


def browse(page: Path, user: Path, *options: str) -> str:
    """What the browser says of a page. Its helpers end with it, even past the time."""
    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={user}", *options, page.as_uri()]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return process.communicate(timeout=60)[0].decode()
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
