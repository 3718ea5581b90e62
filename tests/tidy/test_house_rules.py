"""The caps and habits of the house, checked on every file."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "penstock"
MODULES = sorted(SOURCE.rglob("*.py"))
ROOMS = sorted(p for p in SOURCE.iterdir() if p.is_dir() and (p / "__init__.py").exists())

MAX_FILE_LINES = 700
MAX_FUNCTION_LINES = 70
MAX_PARAMETERS = 6
MAX_EXPORTS = 5
NOT_NAMES = re.compile(r"(utils?|helpers?|common|manager|base_\w+)$")


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(_tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _look_through_all(check: Callable[[Path], Iterator[str]]) -> None:
    """Fails with what a check finds in any of the files."""
    assert len(MODULES) > 100
    faults = [f"{_id(path)}: {fault}" for path in MODULES for fault in check(path)]
    assert not faults, "\n".join(faults)


def test_a_file_keeps_within_the_caps() -> None:
    def check(path: Path) -> Iterator[str]:
        if (length := path.read_text().count("\n")) > MAX_FILE_LINES:
            yield f"{length} lines"
        for function in _functions(path):
            lines = (function.end_lineno or 0) - function.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{function.name} has {lines} lines"
            arguments = function.args
            named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            count = len([a for a in named if a.arg not in ("self", "cls")])
            if count > MAX_PARAMETERS and not _is_injected(function):
                yield f"{function.name} has {count} parameters"

    _look_through_all(check)


def _is_injected(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether somebody else fills in the parameters: a route's or a command's."""
    decorators = [ast.unparse(decorator) for decorator in function.decorator_list]
    return any(word in each for each in decorators for word in ("app.", "router.", "command"))


def test_a_file_says_what_it_is_and_has_a_name_that_means_something() -> None:
    def check(path: Path) -> Iterator[str]:
        if not ast.get_docstring(_tree(path)):
            yield "no module docstring"
        if NOT_NAMES.search(path.stem):
            yield "a name that means nothing"

    _look_through_all(check)


def test_imports_stand_at_the_top() -> None:
    def check(path: Path) -> Iterator[str]:
        for function in _functions(path):
            inside = [n.lineno for n in ast.walk(function) if isinstance(n, ast.Import | ast.ImportFrom)]
            if inside:
                yield f"{function.name} imports inside itself at lines {inside}"

    _look_through_all(check)


def test_no_exception_is_swallowed_and_nothing_is_left_to_do() -> None:
    def check(path: Path) -> Iterator[str]:
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ExceptHandler):
                broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
                if broad and len(node.body) == 1 and isinstance(node.body[0], ast.Pass):
                    yield f"line {node.lineno} swallows {ast.unparse(node.type) if node.type else 'all'}"
        if left := re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text()):
            yield f"{left[0]} is left"

    _look_through_all(check)


@pytest.mark.parametrize("room", ROOMS, ids=_id)
def test_a_room_says_what_it_owns_and_exports_little(room: Path) -> None:
    tree = ast.parse((room / "__init__.py").read_text())
    assert len((ast.get_docstring(tree) or "").splitlines()) >= 5
    exported = [n for n in tree.body if isinstance(n, ast.ImportFrom) for _ in n.names]
    assert len(exported) <= MAX_EXPORTS


@pytest.mark.parametrize(
    ("process", "heavy"),
    [
        ("worker", {"fastapi", "sqlalchemy", "genai_prices", "pydantic", "typer", "rich", "alembic"}),
        (
            "control.__main__",
            {"fastapi", "starlette", "typer", "rich", "alembic", "authlib", "joserfc", "sqlalchemy.orm", "httpx2"},
        ),
    ],
    ids=["a worker, none of the control plane", "a control process, before its workers are served, no admin surface"],
)
def test_a_process_begins_without(process: str, heavy: set[str]) -> None:
    script = f"import sys, penstock.app.{process}; print(sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_the_tree_names_no_machine_and_no_registry() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in listed:
        path = ROOT / name
        if path.suffix in (".png", ".ico") or path == Path(__file__) or not path.exists():
            continue
        text = path.read_text(errors="replace")
        assert not re.search(r"(?<![\w.])/(?:work|root)/", text), f"{name} names a path of a machine"
        assert not re.search(r"https?://\S*(/simple/|pypi\.org|registry\.npm|files\.python)", text), (
            f"{name} names a registry"
        )
