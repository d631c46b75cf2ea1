"""The hash of what runs in a Python file: docstrings, whole-line comments and blank lines are left out."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path


def source_hash(path: Path, leave_out: Collection[str] = ()) -> str:
    """Return the SHA-256 of the lines of a Python file that can change what it does.

    The lines are hashed as they are written, not as they parse, because how a file parses differs between versions
    of Python.

    Parameters
    ----------
    path : Path
        A Python file.
    leave_out : collection of str
        Names assigned at the top level whose assignments are left out as well.
    """
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    unread = _covered([*_docstrings(tree), *_assignments(tree, leave_out)])
    quoted = _covered(n for n in ast.walk(tree) if isinstance(n, ast.Constant | ast.JoinedStr))
    kept = [
        line.rstrip()
        for number, line in enumerate(text.split("\n"), start=1)
        if number not in unread and (number in quoted or line.strip()[:1] not in ("", "#"))
    ]
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()


def _docstrings(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            alone = first is not None and first.lineno > getattr(node, "lineno", 0)  # not: def f(): "..."
            if alone and isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                if isinstance(first.value.value, str):
                    yield first.value


def _assignments(tree: ast.Module, names: Collection[str]) -> Iterator[ast.stmt]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id in names for t in node.targets):
            yield node
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id in names:
            yield node


def _covered(nodes: Iterator[ast.AST] | list[ast.AST]) -> set[int]:
    """Return the numbers of the lines that nodes lie on."""
    return {line for n in nodes for line in range(n.lineno, (n.end_lineno or n.lineno) + 1)}  # type: ignore[attr-defined]
