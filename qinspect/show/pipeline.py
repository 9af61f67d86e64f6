"""The decision of a gate as pipelines read it: JUnit XML, GitHub's annotations, a summary."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from qinspect.errors import StoreError
from qinspect.gating import Gate
from qinspect.show.report import markdown
from qinspect.show.text import printable
from qinspect.show.view import view_of
from qinspect.verdicts import GATE

# GitHub's word for each decision, and JUnit's element.
_LEVELS = {"not_worse": "notice", "worse": "error", "cannot_tell": "warning"}
_ELEMENTS = {"worse": "failure", "cannot_tell": "error"}


def junit_xml(found: Gate) -> bytes:
    """A test suite with one case a pair: worse is a failure, cannot tell an error."""
    counts = {element: str(sum(_ELEMENTS.get(said) == element for said in found.verdicts))
              for element in ("failure", "error")}
    numbers = {"tests": str(len(found.verdicts)), "failures": counts["failure"],
               "errors": counts["error"]}
    root = ElementTree.Element("testsuites", numbers)
    suite = ElementTree.SubElement(root, "testsuite", {
        "name": "qinspect gate", **numbers, "skipped": "0", "time": "0"})
    for one, said, text in zip(found.comparisons, found.verdicts, found.sentences, strict=True):
        case = ElementTree.SubElement(suite, "testcase", {
            "classname": "qinspect.gate", "name": printable(f"{one.b} against {one.a}"),
            "time": "0"})
        if said in _ELEMENTS:
            ElementTree.SubElement(case, _ELEMENTS[said], {
                "type": said, "message": printable(text)}).text = printable(text)
        ElementTree.SubElement(case, "system-out").text = printable(
            f"{text} {lost_words(found, one.a, one.b)}")
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content


def github_lines(found: Gate) -> list[str]:
    """A line a pair, as GitHub Actions takes them from the output of a step."""
    return [f"::{_LEVELS[said]} title={_escaped(f'qinspect gate: {GATE[said]}', ':,')}::"
            f"{_escaped(text)}" for said, text in zip(found.verdicts, found.sentences, strict=True)]


def add_summary(found: Gate, path: Path) -> None:
    """Add the decision in Markdown to a file that other steps write to as well."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{markdown(view_of(found))}\n")
    except OSError as error:
        raise StoreError(f"cannot write {str(path)!r}: {error.strerror}.") from error


def lost_words(found: Gate, old: str, new: str, most: int = 10) -> str:
    """Which examples the new model loses, the first of them."""
    lost = found.flips(old, new)["lost"]
    if not lost:
        return "No example is lost."
    more = f" and {len(lost) - most:,} more (all with --json)" if len(lost) > most else ""
    return f"Lost by {new}: {', '.join(map(str, lost[:most]))}{more}."


def _escaped(text: str, also: str = "") -> str:
    """Text in which nothing ends GitHub's command or begins another one."""
    found = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    for character in also:
        found = found.replace(character, f"%{ord(character):02X}")
    return found
