"""A real JupyterLab on loopback, a headless Chromium, and what a test needs to work a widget.

The browser tests import these fixtures.  They live as long as one module: what two modules import
are two fixtures, and Playwright runs once at a time.  Nothing waits for the notebook's execution
indicator, which goes idle before the kernel is connected; the run-all command itself is awaited.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from parts import ROOT, missing, need_package

for package in ("playwright", "jupyterlab", "ipywidgets", "anywidget"):
    need_package(package)

from playwright.sync_api import BrowserContext, Locator, Page, expect, sync_playwright  # noqa: E402

expect.set_options(timeout=15_000)

ARTIFACTS = ROOT / "artifacts"
SIZES = ((1400, 1000), (1024, 768))
_ARGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]
_RUN_ALL = """async () => {
  const app = window.jupyterapp; await app.restored;
  const p = app.shell.currentWidget; await p.context.ready; await p.sessionContext.ready;
  await app.commands.execute('notebook:run-all-cells');
  return p.content.model.sharedModel.cells.flatMap(c => c.cell_type === 'code' ? c.outputs : [])
    .filter(o => o.output_type === 'error').map(o => o.ename + ': ' + o.evalue); }"""
# The kernel answers in the order of asking: after this reply every change sent before is through.
# A widget sends one change at a time and keeps the newest back meanwhile: that one is sent before
# the first reply, so it is through after the second.
_ANSWERED = """async () => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  await kernel.requestKernelInfo();
  await kernel.requestKernelInfo(); }"""


def find_chromium() -> str:
    """Path of a Chromium; without one the test is skipped, in CI it fails."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("QINSPECT_CHROMIUM") or next(filter(None, map(shutil.which, names)), "")
    if not found:
        missing("Chromium is not installed (Debian: apt-get install chromium)")
    return found


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    path = find_chromium()
    with sync_playwright() as p:
        context = p.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("chromium"), executable_path=path, headless=True, args=_ARGS,
            viewport={"width": SIZES[0][0], "height": SIZES[0][1]},
        )
        yield context
        context.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, str]]:
    """Folder, address and token of a running JupyterLab with settings of its own."""
    root, own = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("jupyter")
    quiet = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
    (own / "overrides.json").write_text(
        json.dumps({"@jupyterlab/apputils-extension:notification": quiet,
                    # Cells out of sight are drawn, too.
                    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"}})
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, url = secrets.token_hex(16), f"http://127.0.0.1:{port}"
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
        f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={root}", f"--LabApp.app_settings_dir={own}",
        "--LabApp.expose_app_in_browser=True",
    ]
    with (own / "lab.log").open("w") as log:
        server = subprocess.Popen(
            command, env={**os.environ, **{name: str(own / name) for name in places}},
            stdout=log, stderr=subprocess.STDOUT,
        )
        try:
            _wait_for(f"{url}/api/status?token={token}", server, own / "lab.log")
            yield root, url, token
        finally:
            server.terminate()
            server.wait(30)


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(900):
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=2)
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"JupyterLab did not start in 90 seconds: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def open_cells(
    lab: tuple[Path, str, str], chromium: BrowserContext
) -> Iterator[Callable[..., Page]]:
    """Open a notebook made of some cells, run all of them, and give the page.

    The page has a list ``errors``: exceptions of the page and errors on its console.
    """
    root, url, token = lab
    pages: list[Page] = []

    def go(name: str, *cells: str) -> Page:
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(notebook, root / f"{name}.ipynb")
        pages.append(run_notebook(chromium, url, token, name))
        return pages[-1]

    yield go
    for page in pages:
        page.close()
    stop_kernels(url, token)


def run_notebook(chromium: BrowserContext, url: str, token: str, name: str) -> Page:
    """Open a notebook of the server's folder and run all its cells; none may fail."""
    page = chromium.new_page()
    page.errors = watch_errors(page)  # type: ignore[attr-defined]
    page.goto(f"{url}/doc/tree/{name}.ipynb?token={token}&reset")
    page.wait_for_function(
        "window.jupyterapp?.shell?.currentWidget?.sessionContext", timeout=90_000
    )
    failed = page.evaluate(_RUN_ALL)
    assert failed == [], failed
    return page


def stop_kernels(url: str, token: str) -> None:
    """Else the next notebook of that name would meet the old kernel."""
    with urllib.request.urlopen(f"{url}/api/sessions?token={token}") as answer:
        sessions = json.load(answer)
    for session in sessions:
        address = f"{url}/api/sessions/{session['id']}?token={token}"
        urllib.request.urlopen(urllib.request.Request(address, method="DELETE"))


# JupyterLab 4.2 to 4.4 stumble over this field while they list the contents of a running notebook.
_OF_JUPYTERLAB = ("'isRunning'", "/jlab_core.")


def watch_errors(page: Page) -> list[str]:
    """A list that collects what goes wrong in the page from now on."""
    found: list[str] = []

    def note(said: str) -> None:
        if not all(mark in said for mark in _OF_JUPYTERLAB):
            found.append(said)

    page.on("pageerror", lambda error: note(str(error)))
    page.on("console", lambda said: note(said.text) if said.type == "error" else None)
    return found


def answered(page: Page) -> None:
    """Wait until the kernel has dealt with everything done so far."""
    page.evaluate(_ANSWERED)


def state(place: Locator) -> str:
    """What stands in a place: addresses of pictures, drawing, text."""
    return str(
        place.evaluate(
            """e => [e, ...e.querySelectorAll('img, svg')].map(
                 n => n.tagName === 'IMG' ? n.src : n.tagName === 'svg' ? n.innerHTML : '')
               .join() + e.textContent"""
        )
    )


def changes(page: Page, act: Callable[[], Any], *places: str) -> None:
    """Do something to a control and wait until every one of some places has changed.

    Afterwards no error may be on show.

    Parameters
    ----------
    page : Page
    act : callable
    places : str
        CSS selectors.
    """
    before = {place: state(page.locator(place)) for place in places}
    act()
    for place, old in before.items():
        deadline = time.monotonic() + 15
        while state(page.locator(place)) == old:
            assert time.monotonic() < deadline, f"{place} did not change: {old[:300]}"
            page.wait_for_timeout(20)
    answered(page)
    no_alert(page)


def select(page: Page, hook: str, chosen: str) -> Callable[[], object]:
    """Choose from a list, by what it says."""
    return lambda: page.locator(f".{hook} select").select_option(label=chosen)


def type_in(page: Page, hook: str, value: str) -> Callable[[], object]:
    """Replace what stands in a field."""

    def act() -> None:
        field = page.locator(f".{hook} input")
        field.fill(value)
        field.press("Enter")

    return act


def press(page: Page, place: str, key: str, times: int = 1) -> Callable[[], object]:
    """Press a key on something, such as the handle of a slider."""

    def act() -> None:
        handle = page.locator(place)
        handle.focus()
        for _ in range(times):
            handle.press(key)

    return act


def no_alert(page: Page) -> None:
    """No error in a cell, on the console or in a widget."""
    alerts = page.locator('[role="alert"]:visible')
    assert alerts.count() == 0, alerts.all_inner_texts()
    assert page.errors == [], page.errors  # type: ignore[attr-defined]


def keep_pictures(page: Page, name: str) -> None:
    """Screenshots at the sizes of a laptop and of a projector, as seen and in full length."""
    ARTIFACTS.mkdir(exist_ok=True)
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(300)
        page.screenshot(path=ARTIFACTS / f"{name}-{width}x{height}.png")
        page.set_viewport_size({"width": width, "height": 2400})
        page.wait_for_timeout(300)
        page.screenshot(path=ARTIFACTS / f"{name}-{width}-whole.png")
    page.set_viewport_size({"width": SIZES[0][0], "height": SIZES[0][1]})


def open_tab(page: Page, title: str, ready: str) -> None:
    page.get_by_role("tab", name=title, exact=True).click()
    expect(page.locator(ready).first).to_be_visible()
    answered(page)
    no_alert(page)
