"""How large the house is, and what a change costs: a table for two revisions side by side.

    python benchmarks/house.py                     # 56cdcdf against HEAD
    python benchmarks/house.py --before v1 --after v2 --files

Everything is read from git; nothing is imported, and no network is needed.  What a change costs is
counted on what is there: the files that name a cause, an error metric or a widget.  The one that is
named in the fewest shows what a change needs, the median what has grown around it.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import subprocess
import tarfile
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("qinspect", "qinspect_bench")
# Of batchnorm-lag: its id, and functions and thresholds written for it alone.
ONE_CAUSE = re.compile(
    r"batchnorm[-_]lag|batchnorm_plot|batchnorm_channels|batchnorm_distance|BN_SHIFT|BN_RATIO"
    r"|(?:ptq|qat)_settled"
)
# Results and lessons need no change.
NOT_CODE = ("data/", "notebooks/", "CHANGELOG.md", "README.md", "docs/diagnosis_benchmark.md")

Files = dict[str, str]
Rows = dict[str, int | list[str]]


def files_of(revision: str) -> Files:
    """Text files of a revision by path."""
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", "--format=tar", revision], capture_output=True,
        check=True,
    ).stdout
    found = {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            if Path(member.name).suffix in {".py", ".pyi", ".md", ".ipynb", ".js", ".html"}:
                stream = archive.extractfile(member)
                assert stream is not None
                found[member.name] = stream.read().decode()
    return found


def modules(files: Files, package: str) -> Files:
    """Python modules of a package."""
    return {path: text for path, text in files.items()
            if path.startswith(f"{package}/") and path.endswith(".py")}


def code_lines(text: str) -> int:
    """Lines that hold code: not blank, not a comment, not a docstring."""
    held = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT,
                              tokenize.DEDENT, tokenize.ENDMARKER}
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        if (isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)):
            held -= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return len(held)


def notebook_modules(files: Files) -> set[str]:
    """Modules of the packages that the notebooks import by name."""
    found = set()
    for path, text in files.items():
        if path.endswith(".ipynb"):
            for cell in json.loads(text)["cells"]:
                if cell["cell_type"] == "code":
                    found |= set(imported("".join(cell["source"]), files))
    return found


def imported(source: str, files: Files) -> Iterator[str]:
    """Names of the modules of the packages in a cell's imports."""
    lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # A module that is imported from its package counts itself.
            deeper = [f"{node.module}.{alias.name}" for alias in node.names]
            inner = [name for name in deeper if is_module(name, files)]
            names = inner + [node.module] * (len(inner) < len(deeper))
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


def is_module(name: str, files: Files) -> bool:
    path = name.replace(".", "/")
    return f"{path}.py" in files or f"{path}/__init__.py" in files


def causes(files: Files) -> set[str]:
    """Ids of the causes, as the files of their rules give them."""
    return {
        cause
        for path, text in files.items()
        if re.match(r"qinspect/(causes|diagnose/rules)/\w+\.py$", path)
        for cause in re.findall(r'^ +id="([a-z-]+)",$', text, re.MULTILINE)
    }


def error_metrics(files: Files) -> set[str]:
    """Names of the error metrics, as their dictionary gives them."""
    text = files.get("qinspect/measure/error_metrics.py") or files["qinspect/measure/metrics.py"]
    return set(re.findall(r'"(\w+)":', text[text.index("def metrics") :]))


def widgets(files: Files) -> set[str]:
    """Classes that the package of widgets offers."""
    folder = "qinspect/show/widgets"
    offered = files[f"{folder}/__init__.py"] + files.get(f"{folder}/__init__.pyi", "")
    defined = {
        name for path, text in modules(files, folder).items()
        for name in re.findall(r"^class ([A-Z]\w+)", text, re.MULTILINE)
    }
    return {name for name in defined if name in offered}


def naming(files: Files, pattern: str) -> list[str]:
    """Files that have to be written or changed by hand in which a pattern occurs."""
    return [path for path, text in files.items()
            if not path.startswith(NOT_CODE) and not is_generated(path, text)
            and re.search(pattern, text)]


def is_generated(path: str, text: str) -> bool:
    return path.startswith("docs/") and "<!-- Made by `make docs`" in text


def costs(files: Files, kind: str, names: Iterable[str], pattern: str) -> Rows:
    """In which files one of some names occurs, the one in the fewest, and the median count."""
    found = sorted((naming(files, pattern.format(name=name, other=name.replace("-", "_")))
                    for name in sorted(names)), key=len)
    return {f"files to add {kind}, fewest": found[0],
            f"files to add {kind}, median": len(found[len(found) // 2])}


def measured(revision: str) -> Rows:
    """Every row of the table; a list stands for its length."""
    files = files_of(revision)
    rows: Rows = {}
    for package in PACKAGES:
        code = modules(files, package)
        rows[f"modules in {package}/"] = len(code)
        rows[f"lines in {package}/"] = sum(text.count("\n") for text in code.values())
        rows[f"lines of code in {package}/"] = sum(map(code_lines, code.values()))
    tests = modules(files, "tests")
    rows["lines in tests/"] = sum(text.count("\n") for text in tests.values())
    rows["modules that notebooks import"] = sorted(notebook_modules(files))
    rows["code files of one cause, batchnorm-lag"] = [
        path for package in PACKAGES for path, text in modules(files, package).items()
        if ONE_CAUSE.search(text)]
    rows["causes"] = len(causes(files))
    rows |= costs(files, "a cause", causes(files), r"\b({name}|{other})\b")
    rows |= costs(files, "an error metric", error_metrics(files), r'["`]{name}["`]')
    rows |= costs(files, "a widget", widgets(files), r"\b{name}\b")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", default="56cdcdf")
    parser.add_argument("--after", default="HEAD")
    parser.add_argument("--files", action="store_true", help="name the files that are counted")
    given = parser.parse_args()
    before, after = measured(given.before), measured(given.after)
    print(f"| | {given.before} | {given.after} |\n|---|---:|---:|")
    for name in before:
        counts = [value if isinstance(value, int) else len(value)
                  for value in (before[name], after[name])]
        print(f"| {name} | {counts[0]:,} | {counts[1]:,} |")
    if given.files:
        for revision, rows in ((given.before, before), (given.after, after)):
            for name, value in rows.items():
                if isinstance(value, list):
                    print(f"\n{name}, {revision}:", *value, sep="\n  ")


if __name__ == "__main__":
    main()
