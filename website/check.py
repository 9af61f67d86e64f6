"""What must hold of the built pages: nothing from another host, outputs and pictures in notebooks.

``python website/check.py build/site`` reads every page; ``--browser`` also opens each in Chromium
and records what is asked for.
"""

from __future__ import annotations

import argparse
import re
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

# Attributes that a browser loads by itself, by tag; links are followed by people only.
LOADED = {
    "script": ("src",), "link": ("href",), "img": ("src", "srcset"), "iframe": ("src",),
    "source": ("src", "srcset"), "video": ("src", "poster"), "audio": ("src",),
    "object": ("data",), "embed": ("src",), "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"), "form": ("action",),
}
ELSEWHERE = re.compile(r"\s*(?:https?:|wss?:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")\s]+)", re.IGNORECASE)
IN_SCRIPT = re.compile(r"['\"]((?:https?:)?//[^'\"\s]+\.(?:m?js|css|wasm|json))['\"]")
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
LOOPBACK = "127.0.0.1"


class _Page(HTMLParser):
    """What a page loads from elsewhere, and what its cells hold."""

    def __init__(self) -> None:
        super().__init__()
        self.elsewhere: list[str] = []
        self.outputs = self.pictures = 0
        self._open: list[bool] = []
        self._tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        output = tag == "div" and "cell_output" in given.get("class", "").split()
        self.outputs += output
        self.pictures += tag in ("img", "svg", "canvas") and any(self._open)
        if tag not in VOID:
            self._open.append(output)
        self._tag = tag
        self.elsewhere += IN_STYLE.findall(given.get("style", ""))
        if tag == "link" and given.get("rel") in ("canonical", "license", "author"):
            return
        self.elsewhere += [given[name] for name in LOADED.get(tag, ())
                           if ELSEWHERE.match(given.get(name, ""))]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID and self._open:
            self._open.pop()
        self._tag = ""

    def handle_data(self, data: str) -> None:
        known = {"style": IN_STYLE, "script": IN_SCRIPT}
        if self._tag in known:
            self.elsewhere += known[self._tag].findall(data)


def read(text: str) -> tuple[list[str], int, int]:
    """What a page loads from other hosts; outputs of its cells; pictures in them."""
    page = _Page()
    page.feed(text)
    return page.elsewhere, page.outputs, page.pictures


def pages_of(site: Path) -> list[Path]:
    """The pages; the theme's own templates in _static are none."""
    return [p for p in sorted(site.rglob("*.html")) if "_static" not in p.parts]


def faults(site: Path) -> list[str]:
    """One line for each thing that is wrong with the pages as files."""
    found = []
    for path in pages_of(site):
        elsewhere, outputs, pictures = read(path.read_text(encoding="utf-8"))
        name = path.relative_to(site)
        found += [f"{name}: loads {address}" for address in elsewhere]
        if name.parts[0] == "notebooks" and name.stem != "README":
            if not outputs:
                found.append(f"{name}: no cell has an output")
            if not pictures:
                found.append(f"{name}: no output holds a picture")
    for path in sorted(site.rglob("*.css")):
        found += [f"{path.relative_to(site)}: loads {address}"
                  for address in IN_STYLE.findall(path.read_text(encoding="utf-8"))]
    return found


def asked(site: Path) -> tuple[int, list[str]]:
    """Requests of Chromium for all pages, and one line for each that went elsewhere or failed."""
    from playwright.sync_api import sync_playwright

    handler = partial(_Quiet, directory=str(site))
    server = ThreadingHTTPServer((LOOPBACK, 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    root = f"http://{LOOPBACK}:{server.server_port}"
    found: list[str] = []
    requests = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page()
        here = ""

        def look(address: str) -> None:
            nonlocal requests
            requests += 1
            if urlsplit(address).scheme in ("http", "https", "ws", "wss") \
                    and urlsplit(address).hostname != LOOPBACK:
                found.append(f"{here}: asks for {address}")

        page.route(lambda url: not url.startswith((root, "data:", "blob:")),
                   lambda route: route.abort())
        page.on("request", lambda request: look(request.url))
        page.on("response", lambda answer: found.append(f"{here}: {answer.status} {answer.url}")
                if answer.status >= 400 else None)
        page.on("pageerror", lambda error: found.append(f"{here}: {error}"))
        for path in pages_of(site):
            here = str(path.relative_to(site))
            page.goto(f"{root}/{here}", wait_until="load")
        here = "search"
        page.goto(f"{root}/search.html?q=calibration", wait_until="load")
        page.wait_for_selector("#search-results li a", timeout=30_000)
        browser.close()
    server.shutdown()
    return requests, found


class _Quiet(SimpleHTTPRequestHandler):
    """Files of a folder, without a line for each request."""

    def log_message(self, format: str, *args: object) -> None:
        return


def chromium() -> str:
    """The browser of this machine."""
    import shutil

    for name in ("chromium", "google-chrome", "chromium-browser"):
        if path := shutil.which(name):
            return path
    raise SystemExit("no Chromium found: install the package chromium")


def main(arguments: list[str] | None = None) -> int:
    """Print what is wrong, or how much was looked at; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--browser", action="store_true", help="open every page in Chromium")
    given = parser.parse_args(arguments)
    found = faults(given.site)
    pages = len(list(given.site.rglob("*.html")))
    said = f"{pages} pages: nothing is loaded from another host, every notebook has its pictures"
    if given.browser:
        requests, more = asked(given.site)
        found += more
        said += f"; {requests} requests in Chromium, all to this machine; the search finds"
    print("\n".join(found) or said)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
