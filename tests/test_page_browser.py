"""The report in headless Chromium: its table sorts and filters, it follows the theme, Tab stops where it scrolls."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_page import Page, _run

from accel.cli.figures import Evidence
from accel.cli.page import html_page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHECK = """
const results = {};
const table = document.getElementById("layers-table1");
const column = (title) => [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.startsWith(title));
const shown = () => [...table.tBodies[0].rows].filter((row) => !row.hidden);
const values = (index) => shown().map((row) => row.cells[index].textContent);
const press = (index) => { const b = table.tHead.rows[0].cells[index].querySelector("button"); b.focus(); b.click();
  return document.activeElement === b; };
const sorted = (index) => [table.tHead.rows[0].cells[index].getAttribute("aria-sort"), values(index)];
results.focus = press(column("cycles"));
results.descending = sorted(column("cycles"));
press(column("cycles"));
results.ascending = sorted(column("cycles"));
press(column("layer"));
results.names = sorted(column("layer"));
press(column("intensity"));
results.missing = sorted(column("intensity"));
results.sorts = table.querySelectorAll("[aria-sort]").length;
const input = document.querySelector("input[type=search]");
input.value = "FC VECTOR";
input.dispatchEvent(new Event("input"));
results.none = [values(0), document.getElementById("layers-table1-count").textContent];
input.value = "gemm fc";
input.dispatchEvent(new Event("input"));
results.filtered = [values(0), document.getElementById("layers-table1-count").textContent];
results.background = getComputedStyle(document.body).backgroundColor;
results.ink = getComputedStyle(document.querySelector("svg")).color;
const wide = [...document.querySelectorAll(".wide")];
results.stops = wide.every((each) => (each.tabIndex === 0) === (each.scrollWidth > each.clientWidth));
wide[0].style.width = "50px";
window.dispatchEvent(new Event("resize"));
results.stop = wide[0].tabIndex;
results.wide = document.documentElement.scrollWidth <= window.innerWidth;
document.body.textContent = JSON.stringify(results);
"""


def _browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None and "CI" in os.environ:
        pytest.fail("no Chromium: the page is not tested (apt-get install chromium)", pytrace=False)
    if found is None:
        pytest.skip("THE PAGE IS NOT TESTED in a browser: no Chromium (apt-get install chromium)")
    return str(found)


def _opened(page: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [_browser(), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
               "--enable-logging=stderr", "--window-size=1300,900", *options, "--dump-dom", page.as_uri()]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


@pytest.mark.parametrize(("scheme", "background"), [(0, "rgb(20, 24, 29)"), (1, "rgb(255, 255, 255)")])
def test_a_browser_sorts_filters_and_follows_the_theme(scheme: int, background: str, tmp_path: Path) -> None:
    whole = html_page(Evidence((_run(blocks=2),)))
    page = tmp_path / "page.html"
    page.write_text(whole)
    if scheme:
        assert "CONSOLE" not in _opened(page, tmp_path).stderr  # the policy lets our own script and style pass
    checked = re.sub(r'<meta http-equiv="Content-Security-Policy".*?>', "", whole)
    page.write_text(checked.replace("</body>", f"<script>{CHECK}</script></body>"))
    dom = _opened(page, tmp_path, f"--blink-settings=preferredColorScheme={scheme}").stdout
    results = json.loads("".join(Page(dom.partition("<body>")[2]).texts))
    layers = {layer.name: layer for layer in _run(blocks=2).layers}
    cycles = sorted((layer.cycles for layer in layers.values()), reverse=True)
    assert results["focus"] is True
    assert results["descending"] == ["descending", [f"{count:,}" for count in cycles]]
    assert results["ascending"] == ["ascending", [f"{count:,}" for count in reversed(cycles)]]
    assert results["names"] == ["ascending", sorted(layers)]
    assert results["missing"][1][-2:] == ["-", "-"] and results["sorts"] == 1
    assert results["none"] == [[], "0 of 10 rows"]
    names = {name for name in layers if ".fc" in name}
    assert (set(results["filtered"][0]), results["filtered"][1]) == (names, "4 of 10 rows")
    assert results["background"] == background
    assert results["ink"] == ("rgb(230, 233, 237)" if scheme == 0 else "rgb(27, 31, 36)")
    assert results["wide"] is True and results["stops"] is True and results["stop"] == 0
