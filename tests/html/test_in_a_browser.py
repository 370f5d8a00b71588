"""Every report in a browser: no label is cut or covered, and no page scrolls sideways."""

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="needs chromium on the path"),
]

COMMANDS = {
    "found/report.html": "discover --samples 20 --draws 3 --out found",
    "exam/report.html": "eval --limit 12 --resamples 200 --out exam",
    "three/report.html": "eval --limit 12 --resamples 200 --heads L4H4,L3H1,L5H5 --out three",
    "both/comparison.html": "eval --compare exam three --out both",
    "ablated/report.html": "ablate --samples 20 --draws 2 --limit 8 --resamples 200 --out ablated",
}
# Runs inside the report. A line of text is higher than its letters: a quarter of it may overlap.
MEASURE = """
const faults = [], page = document.documentElement;
if (page.scrollWidth > page.clientWidth) faults.push(`the page is ${page.scrollWidth} px wide`);
const apart = (a, b) => a.right - 1 <= b.left || b.right - 1 <= a.left
  || a.bottom - a.height / 4 <= b.top || b.bottom - b.height / 4 <= a.top;
for (const chart of document.querySelectorAll("svg.chart")) {
  const frame = chart.getBoundingClientRect(), name = chart.getAttribute("aria-label");
  const texts = [...chart.querySelectorAll("text")];
  const boxes = texts.map(text => text.getBoundingClientRect());
  texts.forEach((text, i) => {
    const words = text.firstChild.textContent, box = boxes[i];
    const size = parseFloat(getComputedStyle(text).fontSize) * chart.getScreenCTM().a;
    if (size < 10.9) faults.push(`${name}: "${words}" has ${size} px`);
    if (words.endsWith("\\u2026")) faults.push(`${name}: "${words}" is cut`);
    if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 3
      || box.bottom > frame.bottom + 3) faults.push(`${name}: "${words}" leaves the chart`);
    for (let j = 0; j < i; j++) if (!apart(box, boxes[j]))
      faults.push(`${name}: "${words}" covers "${texts[j].firstChild.textContent}"`);
  });
}
const picture = document.querySelector(".zoom img");
if (picture) {
  const small = picture.width, summary = picture.parentElement;
  summary.focus();
  if (document.activeElement !== summary) faults.push("no key reaches a picture");
  summary.click();
  if (picture.width <= small) faults.push(`a picture of ${small} px does not grow`);
}
const charts = document.querySelectorAll("svg.chart").length;
parent.postMessage(JSON.stringify({charts, faults}), "*");
"""


def measured(page: str, width: int, folder: Path) -> dict[str, object]:
    """What the browser says of a page in a frame of a width; its own windows are never narrow."""
    bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    bare = bare.replace("</body>", f"<script>onload = () => {{{MEASURE}}}</script></body>")
    around = folder / f"around-{width}.html"
    around.write_text(
        f'<iframe width="{width}" height="900" style="border: 0" srcdoc="{html.escape(bare)}">'
        "</iframe><script>onmessage = e => document.body.dataset.told = e.data</script>"
    )
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
               "--window-size=1400,1000", "--virtual-time-budget=5000", "--dump-dom",
               f"--user-data-dir={folder / 'profile'}")  # fmt: skip
    command = [str(BROWSER), *options, around.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    (told,) = re.findall(r'data-told="(.*?)"', done.stdout)
    return json.loads(html.unescape(told))


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    for words in COMMANDS.values():
        command = [sys.executable, "-m", "vg_engine", *words.split()]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("report", COMMANDS)
def test_every_label_can_be_read(reports: Path, report: str, width: int, tmp_path: Path) -> None:
    told = measured((reports / report).read_text(), width, tmp_path)
    assert told["charts"]
    assert not told["faults"]
