"""The documentation: its examples give what it says, its links lead somewhere, its prose wraps."""

from __future__ import annotations

import doctest
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Written by programs, with lines as long as their cells.
GENERATED = {"docs/help.md", "docs/errors.md", "docs/parameters.md", "docs/compare/compare.md"}
# What GitHub shows beside the site.
BESIDE = [
    *ROOT.glob("*.md"),
    *(ROOT / name / "README.md" for name in ("js", "kernels", "examples", "examples/browser")),
    *(ROOT / "gpt2onnx" / "demo").glob("*/README.md"),
]
PAGES = [*BESIDE, *DOCS.rglob("*.md")]
WIDTH, README_LINES = 100, 100


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The numbered lines that are no table, no code and written by no program."""
    inside = {"```": False, "<!--": False}
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if bare.startswith("```"):
            inside["```"] = not inside["```"]
        elif re.match(r"<!-- .*(written by|begins)", bare):
            inside["<!--"] = True
        elif re.match(r"<!-- .*ends?\b", bare):
            inside["<!--"] = False
        elif not any(inside.values()) and not bare.startswith(("|", ">>>", "...", "![")):
            yield number, line


@pytest.mark.parametrize("page", [p for p in PAGES if name(p) not in GENERATED], ids=name)
def test_prose_wraps(page: Path) -> None:
    long = [n for n, line in prose(page.read_text(encoding="utf-8")) if len(line) > WIDTH]
    # What an example prints is as long as it is.
    code = page.name == "decoding.md" and page.parent == DOCS
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [n for n in long if not (code and lines[n - 1].startswith("    "))] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


@pytest.mark.parametrize("page", BESIDE, ids=name)
def test_links_beside_the_site(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_a_page_tells_to_run_is_there(page: Path) -> None:
    """Scripts and modules by their names, but those of which it says that they are history."""
    text = " ".join(page.read_text(encoding="utf-8").split())
    named = re.findall(r"(?<![\w/])(scripts/[\w.]*\w)(`? \(in the history\))?", text)
    modules = re.findall(r"python -m ((?:benchmarks|tests|training)[\w.]*)", text)
    paths = [ROOT / module.replace(".", "/") for module in modules if "NAME" not in module]
    assert [script for script, gone in named if not gone and not (ROOT / script).exists()] == []
    assert [p for p in paths if not (p.with_suffix(".py").exists() or p.is_dir())] == []


def test_the_code_names_pages_that_there_are() -> None:
    """A comment that gives a page of the docs leads to one; "its docs/" are another project's."""
    pattern = re.compile(r"(?<![\w/])(?<!its )docs/[\w/-]+\.md")
    named = [
        (file, page)
        for folder in ("gpt2onnx", "benchmarks", "scripts", "tests", "training", "kernels")
        for file in (ROOT / folder).rglob("*.py")
        for page in pattern.findall(file.read_text(encoding="utf-8"))
    ]
    assert len(named) > 10
    assert [(file, page) for file, page in named if not (ROOT / page).exists()] == []


def test_the_site_builds(tmp_path: Path) -> None:
    """Strictly: a link or an anchor that leads nowhere, or a page out of the menu, is an error."""
    pytest.importorskip("mkdocstrings", reason="the site needs [docs]")
    pytest.importorskip("material", reason="the site needs [docs]")
    site = tmp_path / "site"
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    api = (site / "api" / "index.html").read_text(encoding="utf-8")
    assert 'id="gpt2onnx.models.load"' in api
    loaded = re.compile(r'<(?:script|link|img)[^>]+(?:src|href)="(?:https?:)?//')
    assert [page for page in site.rglob("*.html") if loaded.search(page.read_text("utf-8"))] == []


@pytest.mark.parametrize("page", ["parameters", "architecture"])
def test_a_page_of_the_code_is_up_to_date(page: str) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / f"{page}.py"))
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    made = script["page"](text) if page == "architecture" else script["document"]()
    assert text == made, f"run scripts/{page}.py and commit docs/{page}.md"


def test_the_drawing_is_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "architecture.py"))
    assert (DOCS / "architecture.svg").read_text(encoding="utf-8") == script["drawing"](), (
        "run scripts/architecture.py and commit docs/architecture.svg"
    )


def test_the_drawing_leaves_out_what_follows() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "architecture.py"))
    graph = {"a": {"b", "c", "base"}, "b": {"c"}, "c": {"base"}, "base": set()}
    arrows = script["above"](graph, {"base"})
    assert arrows == {"a": {"b"}, "b": {"c"}, "c": set()}
    assert script["levels"](arrows) == [["a"], ["b"], ["c"]]


def test_a_docstrings_parameters_are_a_list() -> None:
    pytest.importorskip("griffe", reason="the site needs [docs]")
    as_list = runpy.run_path(str(ROOT / "scripts" / "docstrings.py"))["as_list"]
    text = "Opens it.\n\nname: a folder, or\none of ours.\nsize: bytes.\n\nRaises StorageError."
    assert as_list(text, {"name", "size"}).split("\n\n") == [
        "Opens it.",
        "\n- **name**: a folder, or\n  one of ours.\n- **size**: bytes.",
        "Raises StorageError.",
    ]


def test_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llguidance", reason="the examples of structure need [structured]")
    monkeypatch.chdir(tmp_path)
    failed, examples = doctest.testfile(str(DOCS / "decoding.md"), module_relative=False)
    assert examples > 40
    assert failed == 0


def test_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Python runs from top to bottom."""
    pytest.importorskip("llguidance", reason="the example of structure needs [structured]")
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "quickstart.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "quickstart.md", "exec"), names)
    assert len(names["three"]) == 3  # type: ignore[arg-type]
