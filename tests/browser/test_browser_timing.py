"""How long from a key press to the painted figure, measured in Chromium on a real JupyterLab.

Nothing else may run beside it: ``pytest -m timing``.
"""

from __future__ import annotations

import os
import statistics

import pytest
from lab_browser import (
    Page,
    answered,
    no_alert,
    open_tab,
)

pytestmark = [pytest.mark.slow, pytest.mark.timing]

SVG_LIMIT_MS, MATPLOTLIB_LIMIT_MS = 50.0, 150.0
PRESSES = 21

# From the keydown to the end of the first frame that shows the new picture.  The promise is made
# before the key is pressed; a picture counts when it is decoded.
_ARM = """place => {
  const painted = () => new Promise(done => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => done(performance.now());
    channel.port2.postMessage(0); }));
  window.timed = new Promise((done, failed) => {
    setTimeout(() => failed(new Error(`${place} was not drawn anew`)), 10000);
    let pressed = null;
    window.addEventListener('keydown', e => { pressed = e.timeStamp; },
                            { capture: true, once: true });
    const target = document.querySelector(place);
    // The histogram draws in a keydown listener that runs before the one above.
    const watcher = new MutationObserver(async () => {
      if (target.tagName === 'IMG') await target.decode();
      const now = await painted();
      if (pressed === null) return;
      watcher.disconnect();
      done(now - pressed);
    });
    watcher.observe(target, { attributes: true, childList: true, subtree: true });
  }); }"""

# Tab, what has the focus, keys to press in turn, figure, limit.
_SLIDER = " .noUi-handle"
CONTROLS = {
    "RangeExplorer histogram": (
        "Ranges", ".qi-range-histogram .qi-hist-handle1", ["ArrowLeft"],
        ".qi-range-histogram svg", SVG_LIMIT_MS,
    ),
    "RangeExplorer chart of layers": (
        "Ranges", ".qi-range-overview svg", ["ArrowRight", "ArrowLeft"], ".qi-range-overview svg",
        SVG_LIMIT_MS,
    ),
    "RangeExplorer histogram of another layer": (
        "Ranges", ".qi-range-overview svg", ["ArrowRight", "ArrowLeft"],
        ".qi-range-histogram svg", MATPLOTLIB_LIMIT_MS,
    ),
    "ErrorExplorer threshold": (
        "Errors", f".qi-err-least{_SLIDER}", ["ArrowRight"], ".qi-err-count",
        MATPLOTLIB_LIMIT_MS,
    ),
    "QuantizationPlayground histogram": (
        "Playground", ".qi-play-histogram .qi-hist-handle1", ["ArrowLeft"],
        ".qi-play-histogram svg", SVG_LIMIT_MS,
    ),
    "QuantizationPlayground figure": (
        "Playground", ".qi-play-histogram .qi-hist-handle0", ["ArrowRight"],
        ".qi-play-figure", MATPLOTLIB_LIMIT_MS,
    ),
    "ErrorExplorer figure": (
        "Errors", ".qi-err-layer select", ["ArrowDown", "ArrowDown", "ArrowUp", "ArrowUp"],
        ".qi-err-histogram", MATPLOTLIB_LIMIT_MS,
    ),
    "SignificanceExplorer figure": (
        "Significance", f".qi-sig-n{_SLIDER}", ["ArrowLeft"] * 5 + ["ArrowRight"] * 5,
        ".qi-sig-figure", MATPLOTLIB_LIMIT_MS,
    ),
    "ObserverPlayer figure": (
        "Observers", f".qi-obs-step{_SLIDER}", ["ArrowLeft"] * 2 + ["ArrowRight"] * 2,
        ".qi-obs-figure", MATPLOTLIB_LIMIT_MS,
    ),
}


@pytest.mark.parametrize("name", CONTROLS)
def test_key_press_to_painted_figure(page: Page, name: str, capsys: pytest.CaptureFixture) -> None:
    title, focus, keys, figure, limit = CONTROLS[name]
    open_tab(page, title, figure)
    handle = page.locator(focus)
    handle.scroll_into_view_if_needed()
    handle.focus()
    if title == "Observers":  # the first steps move by less than a pixel
        handle.press("End")
        answered(page)
    taken = []
    for turn in range(PRESSES):
        page.evaluate(_ARM, figure)
        page.keyboard.press(keys[turn % len(keys)])
        taken.append(float(page.evaluate("window.timed")))
        answered(page)
    no_alert(page)
    taken = sorted(taken[1:])  # the first one may still load code
    median = statistics.median(taken)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    with capsys.disabled():
        print(f"\n{name}: median {median:.0f} ms, {taken[0]:.0f} to {taken[-1]:.0f} ms, "
              f"limit {limit:.0f} ms, load {load}")
    assert median <= limit
