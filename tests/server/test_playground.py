"""The page to play on, in headless Chromium: what it shows is what the library gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from gpt2onnx import Model
from gpt2onnx.page.text import flowing, percent, visible
from gpt2onnx.server.app import Rules
from gpt2onnx.server.keys import read_keys
from tests.chromium import CHROMIUM
from tests.server.browser import Browser
from tests.server.conftest import Running, serving

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no chromium on the PATH")
PROMPT = "import os\n"
KEY = "a-key-of-the-page"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser("about:blank", tmp_path_factory.mktemp("user"))
    browser.call("Emulation.setFocusEmulationEnabled", enabled=True)
    try:
        yield browser
    finally:
        browser.close()


class Page:
    """The playground in a browser. `side` is "a", or "b" for the second setting."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.browser, self.js, self.until = browser, browser.js, browser.until
        self.key, self.call = browser.key, browser.call
        self.call("Emulation.setEmulatedMedia", features=[])
        self.resize(1280)
        browser.open(url)
        self.until("document.querySelector('#sides .side') !== null")

    def resize(self, width: int) -> None:
        about = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **about)

    def fill(self, side: str = "a", **values: str) -> None:
        for name, value in values.items():
            field = name if name == "prompt" else f"{name}-{side}"
            self.js(
                f"for (const each of [document.getElementById({field!r})]) {{"
                f"each.value = {json.dumps(value)};"
                "for (const type of ['input', 'change'])"
                "each.dispatchEvent(new Event(type, {bubbles: true})); }"
            )

    def click(self, selector: str) -> None:
        self.js(f"document.querySelector({json.dumps(selector)}).click()")

    def text_of(self, selector: str) -> str:
        return str(self.js(f"document.querySelector({json.dumps(selector)}).textContent"))

    def tokens(self, side: str = "a") -> list[str]:
        return self.texts(f"#text-{side} > .t")

    def texts(self, selector: str) -> list[str]:
        found = f"[...document.querySelectorAll({json.dumps(selector)})]"
        return list(self.js(f"{found}.map((each) => each.textContent)"))

    def ended(self, side: str = "a") -> str:
        """Wait for the end, and say what it was."""
        status = f"document.querySelector('#status-{side}').textContent"
        self.until(f"{status}.includes(', ') || !document.querySelector('#problem-{side}').hidden")
        return self.text_of(f"#problem-{side}") or self.text_of(f"#status-{side}")

    def write(self) -> str:
        self.click("#write")
        return self.ended()


@pytest.fixture
def page(chromium: Browser, server: Running) -> Page:
    page = Page(chromium, server.url)
    page.until("document.querySelector('#model-a').value === 'demo'")
    page.fill(prompt=PROMPT, max_tokens="12", temperature="0")
    return page


def shown(text: str) -> str:
    return unescape(flowing(text))


# --- it writes ------------------------------------------------------------------------------------


@needs_chromium
def test_what_is_typed_is_gone_on_from(page: Page, model: Model) -> None:
    page.fill(prompt="")
    page.js("document.querySelector('#prompt').focus()")
    page.browser.type("import sys\n")
    page.key("Enter", "Control")
    assert page.ended() == "12 tokens, cut short by a limit"
    expected = model.generate("import sys\n", max_new_tokens=12, top_logprobs=8)
    assert "".join(page.tokens()) == shown(expected.text)
    assert page.text_of("#text-a > .prompt") == shown("import sys\n")
    labels = page.js("[...document.querySelectorAll('#text-a > .t')].map((e) => e.ariaLabel)")
    for label, logprob in zip(labels, expected.logprobs, strict=True):
        assert label.endswith(unescape(percent(2.718281828459045**logprob)))
    assert float(page.text_of("#speed-a")) > 0
    assert page.text_of("#first-a").endswith((" ms", " s"))
    assert page.text_of("#count-a") == "12"


@needs_chromium
def test_an_alternative_goes_on_by_a_click(page: Page, model: Model) -> None:
    expected = model.generate(PROMPT, max_new_tokens=12, top_logprobs=8)
    page.write()
    page.browser.point("#text-a > .t:nth-of-type(5)")
    page.until("!document.querySelector('#card-a').hidden")
    options = page.js("[...document.querySelectorAll('#options-a > *')].map((e) => +e.dataset.id)")
    assert options == [each.id for each in expected.alternatives[3]]
    ids = [*expected.prompt_token_ids, *expected.token_ids[:3], options[1]]
    other = model.generate(ids, max_new_tokens=12)
    page.fill(prompt="what is written meanwhile")
    page.click("#options-a > :nth-child(2)")
    page.until("document.querySelectorAll('#text-a > .t').length === 16")
    assert page.ended() == "12 tokens, cut short by a limit"
    assert "".join(page.tokens()[:3]) == "".join(map(shown, page_pieces(model, expected)[:3]))
    assert "".join(page.tokens()[4:]) == shown(other.text)
    assert page.js("document.activeElement === document.querySelectorAll('#text-a > .t')[3]")


def page_pieces(model: Model, written: Any) -> list[str]:
    return [model.tokenizer.decode([id_]) for id_ in written.token_ids]


@needs_chromium
def test_an_alternative_goes_on_by_the_keyboard(page: Page, model: Model) -> None:
    expected = model.generate(PROMPT, max_new_tokens=12, top_logprobs=8)
    page.write()
    page.js("document.querySelector('#text-a > .t').focus()")
    for key in ("ArrowRight", "ArrowRight", "End", "ArrowLeft", "ArrowRight", "Home", "ArrowRight"):
        page.key(key)
    focused = "[...document.querySelectorAll('#text-a > .t')].indexOf(document.activeElement)"
    assert page.js(focused) == 1
    assert page.js("document.querySelectorAll('#text-a > [tabindex=\"0\"]').length") == 1
    page.key("Enter")
    assert page.js("document.activeElement.classList.contains('chosen')")
    page.key("Escape")
    assert page.js(focused) == 1
    assert page.js("document.querySelector('#card-a').hidden")
    for key in ("ArrowDown", "Home", "ArrowDown", "ArrowDown", "Enter"):
        page.key(key)
    page.until("document.querySelectorAll('#text-a > .t').length === 14")
    page.ended()
    third = expected.alternatives[1][2].id
    other = model.generate(
        [*expected.prompt_token_ids, expected.token_ids[0], third], max_new_tokens=12
    )
    assert "".join(page.tokens()[2:]) == shown(other.text)


@needs_chromium
def test_an_empty_prompt_is_gone_on_from(page: Page, model: Model) -> None:
    """It is read as BOS, and so it is before what an alternative writes."""
    page.fill(prompt="", num_beams="2")
    page.write()
    expected = model.generate("", max_new_tokens=12, num_beams=2, top_logprobs=8)
    ids = [*expected.prompt_token_ids, expected.token_ids[0], expected.alternatives[1][1].id]
    page.fill(num_beams="")
    page.js("document.querySelectorAll('#text-a > .t')[1].focus()")
    page.click("#options-a > :nth-child(2)")
    page.until("document.querySelectorAll('#text-a > .t').length === 14")
    page.ended()
    other = model.generate(ids, max_new_tokens=12)
    assert "".join(page.tokens()[2:]) == shown(other.text)


@needs_chromium
def test_what_was_drawn_is_the_seed_s(page: Page, model: Model) -> None:
    page.fill(temperature="0.7", seed="5", top_p="0.9")
    page.write()
    expected = model.generate(
        PROMPT, max_new_tokens=12, do_sample=True, temperature=0.7, seed=5, top_p=0.9, top_k=0
    )
    assert "".join(page.tokens()) == shown(expected.text)


@needs_chromium
def test_characters_of_several_tokens(page: Page) -> None:
    page.fill(form="choices", choices="ég 🙂\\n→", max_tokens="60")
    assert page.write().endswith("ended by itself")
    assert "".join(page.tokens()).replace("∅", "") == "ég 🙂⏎\n→"


@needs_chromium
def test_text_that_a_stop_string_holds_back(page: Page, model: Model) -> None:
    expected = model.generate(PROMPT, max_new_tokens=12).text
    stop = expected[-3:]
    page.fill(stop=stop.replace("\n", "\\n"))
    page.write()
    cut = model.generate(PROMPT, max_new_tokens=12, stop_strings=stop).text
    assert "".join(page.tokens()).replace("∅", "") == shown(cut)


@needs_chromium
def test_it_stops(page: Page, server: Running) -> None:
    page.fill(max_tokens="100000", eos_token_id="[]", overflow="slide")
    page.click("#write")
    page.until("document.querySelectorAll('#text-a > .t').length > 3")
    assert page.js("document.querySelector('#stop').ariaDisabled") == "false"
    page.key("Escape")
    assert page.ended().endswith("tokens, stopped")
    assert page.js("document.querySelector('#stop').ariaDisabled") == "true"
    end = time.monotonic() + 30
    while server.engine.stats().rows:
        assert time.monotonic() < end


@needs_chromium
def test_errors_are_told_in_words(page: Page) -> None:
    page.fill(max_time="-1")
    assert page.write() == "max_time=-1: expected a number of seconds above 0"
    page.fill(max_time="", logit_bias="{1}")
    assert page.write().startswith("logit_bias is no JSON: ")
    page.fill(logit_bias="", temperature="1", seed=str(2**53))
    assert page.write().startswith("seed is too large for a page")
    page.fill(seed="", max_tokens="3")
    assert page.write() == "3 tokens, cut short by a limit"
    assert page.js("document.querySelector('#problem-a').hidden")


# --- beams, forms, two settings -------------------------------------------------------------------


@needs_chromium
def test_beams_grow_a_tree(page: Page, server: Running, model: Model) -> None:
    page.fill(num_beams="3")
    assert page.write() == "12 steps, cut short by a limit"
    best = model.generate(PROMPT, max_new_tokens=12, num_beams=3)
    assert "".join(page.tokens()) == shown(best.text)
    body = {"prompt": PROMPT, "max_tokens": 12, "num_beams": 3}
    *steps, _ = [each for each in server.frames("/v1/beams", body) if each != "[DONE]"]
    expected = [
        (unescape(visible(node["token"])), node["fate"])
        for each in steps
        for node in each["branches"]
    ]
    nodes = page.js(
        "[...document.querySelectorAll('#tree-a li')].map((each) =>"
        "[each.querySelector('code').textContent, each.className.split(' ')[0]])"
    )
    assert [tuple(each) for each in nodes] == expected
    way = page.texts("#tree-a li.best > code")
    assert way == [unescape(visible(model.tokenizer.decode([id_]))) for id_ in best.token_ids]
    lines = page.js("[...document.querySelectorAll('#tree-a svg')].map((e) => e.children.length)")
    assert lines == [len(each["branches"]) for each in steps]
    end = "(({scrollTop: a, clientHeight: b, scrollHeight: c}) => a > 0 && a + b > c - 9)"
    page.until(f"{end}(document.querySelector('#tree-scroll-a'))")
    page.js("document.querySelectorAll('#text-a > .t')[2].focus()")
    assert not page.js("document.querySelector('#card-a').hidden")
    page.fill(num_beams="")
    page.write()
    assert page.js("document.querySelector('#tree-box-a').hidden")


@needs_chromium
def test_beams_go_on_from_an_alternative(page: Page, model: Model) -> None:
    page.fill(num_beams="2")
    page.write()
    expected = model.generate(PROMPT, max_new_tokens=12, num_beams=2, top_logprobs=8)
    ids = [*expected.prompt_token_ids, *expected.token_ids[:4], expected.alternatives[4][2].id]
    page.js("document.querySelectorAll('#text-a > .t')[4].focus()")
    page.click("#options-a > :nth-child(3)")
    page.until("document.querySelectorAll('#text-a > .t').length === 17")
    assert page.ended() == "12 steps, cut short by a limit"
    other = model.generate(ids, max_new_tokens=12, num_beams=2)
    assert "".join(page.tokens()[5:]) == shown(other.text)
    assert len(page.texts("#tree-a .level")) == 12


@needs_chromium
def test_a_search_stops(page: Page, server: Running) -> None:
    page.fill(num_beams="4", max_tokens="900", eos_token_id="[]", early_stopping="never")
    page.click("#write")
    page.until("document.querySelectorAll('#tree-a .level').length > 2")
    page.key("Escape")
    assert page.ended().endswith(" steps, stopped")
    end = time.monotonic() + 30
    while server.engine.stats().rows:
        assert time.monotonic() < end


@needs_chromium
def test_a_form_stands_beside_the_text(page: Page) -> None:
    page.fill(form="json_schema", max_tokens="200")
    assert not page.js("document.querySelector('#json_schema-a').disabled")
    schema = {"enum": ["spam", "eggs", 12]}
    page.fill(json_schema=json.dumps(schema))
    assert page.write().endswith("ended by itself")
    assert json.loads("".join(page.tokens()).replace("∅", "")) in schema["enum"]
    places = page.js(
        "['#json_schema-a', '#text-a'].map((id) => document.querySelector(id))"
        ".map((each) => each.getBoundingClientRect()).map(({left, right}) => [left, right])"
    )
    assert places[0][1] < places[1][0]


@needs_chromium
def test_an_alternative_goes_on_within_a_form(page: Page, model: Model) -> None:
    """What comes behind it completes what was begun, as the library has it."""
    name = {"type": "string", "pattern": "^[a-z]{3,12}$"}
    schema = {"type": "object", "properties": {"name": name, "size": {"enum": [1, 22, 333]}}}
    closed = {"required": ["name", "size"], "additionalProperties": False}
    form: Any = {"json_schema": schema | closed}
    page.fill(form="json_schema", json_schema=json.dumps(form["json_schema"]), max_tokens="60")
    assert page.write().endswith("ended by itself")
    before = model.generate(PROMPT, max_new_tokens=60, top_logprobs=8, **form)
    place, other = next(
        (place, each)
        for place, id_ in enumerate(before.token_ids)
        for each in before.alternatives[place]
        if place > 2 and each.id != id_
        if each.id in [allowed.id for allowed in before.processed_alternatives[place]]
    )
    page.js(f"document.querySelectorAll('#text-a > .t')[{place}].focus()")
    page.click(f"#options-a > [data-id='{other.id}']")
    page.until(f"document.querySelectorAll('#text-a > .t').length > {place + 1}")
    assert page.ended().endswith("ended by itself")
    begun = [*before.token_ids[:place], other.id]
    rest = model.generate(PROMPT, max_new_tokens=60 + len(begun), prefill_ids=begun, **form)
    written = "".join(page.tokens())
    assert written == model.tokenizer.decode(begun) + rest.text != before.text
    assert json.loads(written).keys() == {"name", "size"}


@needs_chromium
def test_what_a_form_forbids_is_told_and_its_end_ends_it(page: Page, model: Model) -> None:
    page.fill(form="choices", choices="import sys\nimport json", max_tokens="30")
    page.write()
    written = model.generate(PROMPT, choices=["import sys", "import json"], top_logprobs=8)
    page.js("document.querySelectorAll('#text-a > .t')[0].focus()")
    wrong = next(each.id for each in written.alternatives[0] if each.id != written.token_ids[0])
    page.click(f"#options-a > [data-id='{wrong}']")
    before = page.js("document.querySelector('#text-a').innerHTML")
    assert page.ended().startswith(f"prefill_ids: token {wrong}, number 1 of them, isn't what")
    # What was there stays, and can be gone on from.
    assert page.js("document.querySelector('#text-a').innerHTML") == before
    assert "".join(page.tokens()) == shown(written.text)
    assert page.text_of("#status-a").endswith(", ended by itself")
    assert page.js("document.activeElement === document.querySelector('#text-a > .t')")
    page.fill(choices="import sys")
    page.write()
    last = len(page.tokens()) - 1
    page.js(f"document.querySelectorAll('#text-a > .t')[{last}].focus()")
    page.click("#options-a > .chosen")
    assert page.ended() == "0 tokens, ended by itself"
    assert "".join(page.tokens()) == "import sys"


@needs_chromium
@pytest.mark.parametrize("form", ["regex", "json_schema", "grammar", "choices"])
def test_each_form_has_an_example_that_works(page: Page, form: str) -> None:
    page.fill(form=form, max_tokens="200")
    assert page.write().endswith(("ended by itself", "cut short by a limit"))
    assert page.tokens()


@needs_chromium
def test_two_settings_side_by_side(page: Page, model: Model) -> None:
    page.click("#compare")
    page.fill("b", max_tokens="5")
    page.click("#write")
    assert page.ended("a") == "12 tokens, cut short by a limit"
    assert page.ended("b") == "5 tokens, cut short by a limit"
    expected = model.generate(PROMPT, max_new_tokens=12)
    assert "".join(page.tokens("a")) == shown(expected.text)
    assert page.tokens("b") == page.tokens("a")[:5]
    assert page.text_of("#alike") == "Both texts begin with the same 5 tokens."
    lefts = page.js(
        "[...document.querySelectorAll('.side')].map((e) => e.getBoundingClientRect().left)"
    )
    assert lefts[0] < lefts[1]
    page.click("#compare")
    assert page.js("document.querySelectorAll('.side')[1].hidden")


@needs_chromium
def test_of_a_long_prompt_the_end_is_shown(page: Page) -> None:
    lines = [f"x{n} = {n}\n" for n in range(40)]
    page.fill(prompt="".join(lines), max_tokens="1")
    page.write()
    assert page.text_of("#text-a > .prompt") == "… " + shown("".join(lines[-7:]))


@needs_chromium
def test_a_knob_is_explained(page: Page) -> None:
    page.js("document.querySelector('#num_beams-a').focus()")
    assert page.text_of("#help-a") == (
        "num_beams: number of beams; the best text is given (default: 1)"
    )


@needs_chromium
def test_what_would_have_no_effect_cant_be_set(page: Page) -> None:
    def disabled(*names: str) -> list[bool]:
        return [page.js(f"document.getElementById('{name}-a').disabled") for name in names]

    assert disabled("temperature", "top_p", "length_penalty") == [False, True, True]
    page.fill(temperature="0.5")
    assert disabled("top_p", "xtc_threshold", "negative_prompt") == [False, True, True]
    page.fill(xtc_probability="0.1", guidance_scale="1.5")
    assert disabled("xtc_threshold", "negative_prompt") == [False, False]
    page.fill(num_beams="2")
    assert disabled("temperature", "seed", "xtc_probability", "xtc_threshold") == [True] * 4
    assert disabled("length_penalty", "num_beam_groups", "diversity_penalty") == [
        *(False, False, True)
    ]
    page.fill(do_sample="true")
    assert disabled("temperature", "seed", "xtc_threshold") == [False] * 3


# --- commands, keys, models -----------------------------------------------------------------------


def run(command: str, kind: str, **environment: str) -> str:
    """What a copied command prints."""
    bin_ = Path(sys.executable).parent
    shell = ["python", "-c", command] if "python" in kind else ["bash", "-c", command]
    done = subprocess.run(
        shell,
        capture_output=True,
        check=True,
        text=True,
        timeout=120,
        env={**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", **environment},
    )
    if kind == "curl":
        return str(json.loads(done.stdout)["choices"][0]["text"])
    return done.stdout.removesuffix("\n")


@needs_chromium
def test_copied_commands_run(page: Page) -> None:
    """Each of them gives the text of the page."""
    page.call(
        "Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"]
    )
    prompt = '# it\'s "$HOME" \\ é\n'
    page.fill(prompt=prompt, temperature="0.9", seed="7", stop="zzz\n\\n\\n\\n", min_p="0.05")
    page.write()
    expected = "".join(page.tokens()).replace("⏎\n", "\n")
    for kind in ("curl", "python", "gpt2onnx", "gpt2onnx-python"):
        page.click(f"[data-command={kind}]")
        page.until("document.querySelector('#command-note-a').textContent !== ''")
        assert page.text_of("#command-note-a") == "Copied."
        command = page.text_of("#command-a")
        assert page.js("navigator.clipboard.readText()") == command
        assert run(command, kind) == expected, kind
    page.fill(prompt="other")
    assert page.js("document.querySelector('#command-box-a').hidden")


@needs_chromium
def test_a_server_with_keys_and_several_models(
    chromium: Browser, model: Model, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    rules = Rules(read_keys(keys))
    with serving({"one": model, "two": model}, rules, max_rows=2) as server:
        page = Page(chromium, server.url)
        page.until("!document.querySelector('#problem').hidden")
        assert page.text_of("#problem").startswith("the API key is missing")
        assert page.js("document.querySelector('#key-box').open")
        page.js("document.querySelector('#key').focus()")
        page.browser.type(KEY)
        page.key("Tab")
        page.until("document.querySelector('#model-a').length === 2")
        assert page.js("document.querySelector('#problem').hidden")
        page.fill(model="two", prompt=PROMPT, max_tokens="4", temperature="0")
        assert page.write() == "4 tokens, cut short by a limit"
        assert server.models[1].engine.stats().finished == 1
        for kind in ("curl", "python"):
            page.click(f"[data-command={kind}]")
            page.until("document.querySelector('#command-note-a').textContent !== ''")
            command = page.text_of("#command-a")
            assert KEY not in command
            assert run(command, kind, OPENAI_API_KEY=KEY) == "".join(page.tokens()).replace(
                "⏎\n", "\n"
            )


# --- for everybody --------------------------------------------------------------------------------

ODD = ["", " ", "  a  ", "a\n b", "\t\r\x7f\x00\x1f", "a    b", "‎\xad", "é🙂", "\n\n", "\n  \n"]


@needs_chromium
def test_tokens_are_written_as_on_the_other_pages(page: Page) -> None:
    found = page.js(
        "import('/playground/signs.js').then(({visible, flowing, percent}) =>"
        f"[{ODD}.map(visible), {ODD}.map(flowing),"
        "[0.5, 0.12345, 1e-5, 1].map((each) => percent(Math.log(each)))])"
    )
    assert found[0] == [unescape(visible(each)) for each in ODD]
    assert found[1] == [unescape(flowing(each)) for each in ODD]
    assert found[2] == [unescape(percent(each)) for each in (0.5, 0.12345, 1e-5, 1)]


NAMED = ("button", "textbox", "spinbutton", "combobox", "menuitem", "menu", "region")


@needs_chromium
def test_everything_has_a_role_and_a_name(page: Page) -> None:
    page.fill(num_beams="2")
    page.write()
    page.js("document.querySelector('.more').open = true")
    page.js("document.querySelectorAll('#text-a > .t')[1].focus()")
    page.click("[data-command=curl]")
    page.until("!document.querySelector('#command-box-a').hidden")
    nodes = [
        node
        for node in page.call("Accessibility.getFullAXTree")["nodes"]
        if not node["ignored"] and node["role"]["value"] in NAMED
    ]
    assert {node["role"]["value"] for node in nodes} >= {*NAMED}
    unnamed = [node for node in nodes if not node.get("name", {}).get("value", "").strip()]
    assert not unnamed
    # What is told aloud is short, and not the text itself.
    live = page.js("[...document.querySelectorAll('[role=status], [role=alert]')].map((e) => e.id)")
    assert live == ["problem", "alike", "problem-a", "status-a", "command-note-a"]
    ids = page.js("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids))
    for attribute in ("for", "aria-labelledby", "aria-describedby"):
        used = page.js(
            f"[...document.querySelectorAll('[{attribute}]')]"
            f".map((each) => each.getAttribute('{attribute}'))"
        )
        assert set(used) <= set(ids)


CONTRASTS = """
(() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((each) => each / 255).map((each) =>
    each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
    .reduce((sum, each, at) => sum + each * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const color = channels(getComputedStyle(each).backgroundColor);
      if ((color[3] ?? 1) === 1) return color;
    }
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (element.closest(':disabled, [aria-disabled=true], option, .said')) continue;
    const both = [getComputedStyle(element).color, behind(element)].map((each) =>
      luminance(typeof each === 'string' ? channels(each) : each)).sort((a, b) => b - a);
    found.push([(both[0] + 0.05) / (both[1] + 0.05), element.outerHTML.slice(0, 120)]);
  }
  return found.sort(([a], [b]) => a - b)[0];
})()
"""


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(page: Page, scheme: str) -> None:
    """A contrast of 4.5: https://www.w3.org/TR/WCAG22/#contrast-minimum"""
    page.call(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
    )
    page.fill(num_beams="3", max_tokens="20")
    page.write()
    page.fill(temperature="1", num_beams="", seed="3", max_tokens="40")
    page.write()
    page.js("document.querySelector('.more').open = document.querySelector('#key-box').open = true")
    page.js("document.querySelectorAll('#text-a > .t')[1].focus()")
    page.fill(max_time="-1")
    least, where = page.js(CONTRASTS)
    assert least >= 4.5, where


@needs_chromium
def test_narrow_screens_and_still_ones(page: Page) -> None:
    still = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    page.call("Emulation.setEmulatedMedia", features=still)
    page.resize(320)
    page.click("#compare")
    page.fill(num_beams="4", max_tokens="30")
    page.click("#write")
    page.ended("a")
    page.ended("b")
    page.js("for (const each of document.querySelectorAll('.more')) each.open = true")
    page.js("document.querySelectorAll('#text-a > .t')[20].focus()")
    assert page.js("document.documentElement.scrollWidth <= innerWidth")
    assert page.js(
        "document.getAnimations().length === 0 && [...document.querySelectorAll('*')].every("
        "(each) => getComputedStyle(each, '::after').animationName === 'none')"
    )


def test_nothing_else_may_run_in_it(server: Running) -> None:
    status, text, headers = server.ask("/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "unsafe" not in policy
    assert "//" not in text


def test_its_files(server: Running, model: Model, tmp_path: Path) -> None:
    """They are there without a key, and nothing else is."""
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    with serving({"demo": model}, Rules(read_keys(keys))) as closed:
        for name, kind in (
            ("page.css", "css"),
            ("playground.css", "css"),
            ("text.js", "javascript"),
        ):
            status, content, headers = closed.ask(f"/playground/{name}")
            assert (status, headers["content-type"]) == (200, f"text/{kind}; charset=utf-8")
            assert "http" not in content.replace("http://www.w3.org/2000/svg", "")
        for name in ("playground.html", "nothing.js", "..%2Fapp.py", "../app.py"):
            assert closed.ask(f"/playground/{name}")[0] == 404
