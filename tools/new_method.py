"""Write the four files of a new method: source with its card, test, evidence, change note.

    python tools/new_method.py KIND NAME --room ROOM [--paper SLUG] [--obj OBJECT]

Every TODO must be filled: until then the contract tests, the method's test, its evidence and the house tests fail.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path

from corrigible._card import KINDS
from corrigible._registry import list_methods, method_rooms
from corrigible.errors import CorrigibleError, InvalidParameterError, UnknownNameError, nearest
from corrigible.papers import paper

ROOT = Path(__file__).parents[1]

SOURCE = '''"""TODO: name of the method.

{title}
Original: TODO
"""

from __future__ import annotations

{imports}
from corrigible._card import Card

CARD = Card(
    name="{name}",
    kind="{kind}",
    obj="{obj}",
    papers=({papers}),
    refs=("TODO",),
    source="TODO",
    differs="TODO",
    inputs="{inputs}",
    stochastic=False,
    cost="TODO",
    use_when="TODO",
    avoid_when="TODO",
)


{body}'''

DOCSTRING = '''"""TODO: what is computed, in one line.

{indent}TODO: the paper's equation and what differs from it.

{indent}References
{indent}----------
{indent}.. [1] TODO

{indent}Examples
{indent}--------
{indent}>>> from corrigible.{room} import {obj}  # TODO
{indent}"""'''

FUNCTION = """def {obj}({signature}) -> float:
    {docstring}
    raise NotImplementedError("TODO: {obj}")
"""

CLASS = """class {obj}(BaseEstimator):
    {docstring}

    def __init__(self) -> None:
        pass

{methods}"""

METHOD = '''    def {method}(self, {signature}) -> {returns}:
        """TODO.

        Parameters
        ----------
{parameters}
        """
        raise NotImplementedError("TODO: {obj}.{method}")
'''

# What each kind's contract asks for: the card's inputs, and the methods (name, arguments, result).
CONTRACTS: dict[str, tuple[str, tuple[tuple[str, str, str], ...]]] = {
    "calibrator": ("pred_proba, y", (("fit", "pred_proba y", "Self"), ("predict_proba", "pred_proba", "NDArray"))),
    "conformal": ("X, y", (("fit", "X y", "Self"), ("predict_interval", "X", "NDArray"))),
    "detector": ("labels, pred_proba", (("fit", "labels pred_proba", "Self"),)),
    "estimator": ("X, y", (("fit", "X y", "Self"), ("predict", "X", "NDArray"))),
    "law": (
        "X, y",
        (("fit", "X y", "Self"), ("predict", "X", "NDArray"), ("predict_interval", "X *alpha", "NDArray")),
    ),
    "measure": ("y, pred_proba", ()),
    "merger": ("tensors, base", ()),
    "performance_estimator": (
        "y, pred_proba",
        (("fit", "y pred_proba", "Self"), ("estimate", "pred_proba", "dict")),
    ),
}

TEST = '''"""TODO: known answers, invariants, an independent reference, extremes."""

from corrigible.{room} import {obj}


def test_known_answer():
    raise NotImplementedError(f"TODO: a known answer of {{{obj}.__name__}}")
'''

EVIDENCE = '''"""TODO: the claim in one line."""

from __future__ import annotations

{imports}

CLAIM = """{claim}"""
PROTOCOL = "TODO: data, sizes, seeds, baseline, bar."
METHODS = ("{name}",)
DATA = ()


def run(data):
    yield Measurement(f"TODO: what is measured of {{{obj}.__name__}}", float("nan"), at_least=0.0)
    raise NotImplementedError("TODO: measure the claim")
'''

_RETURNS = {"Self": "Self", "NDArray": "NDArray[np.floating]", "dict": "dict[str, Any]"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", metavar="KIND", help=", ".join(CONTRACTS))
    parser.add_argument("name", metavar="NAME", help="snake_case, unique")
    parser.add_argument("--room", required=True)
    parser.add_argument("--paper", help="slug of the paper index")
    parser.add_argument("--obj", help="public class or function; by default made of NAME")
    args = parser.parse_args()
    try:
        files = skeletons(args.kind, args.name, room=args.room, slug=args.paper, obj=args.obj)
        for path in files:
            if path.exists():
                raise InvalidParameterError(f"{path.relative_to(ROOT)} exists; nothing was written.")
    except CorrigibleError as error:
        sys.exit(f"new_method: {error}")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
    print("Fill every TODO, then run tools/build_index.py and pytest.")


def skeletons(kind: str, name: str, *, room: str, slug: str | None, obj: str | None) -> dict[Path, str]:
    """Return path to text of the four files."""
    _check(kind, name, room)
    found = paper(slug) if slug else None
    inputs, methods = CONTRACTS[kind]
    obj = obj or (name if not methods else "".join(part.capitalize() for part in name.split("_")))
    docstring = DOCSTRING.format(indent="    ", room=room, obj=obj)
    body = _class(obj, docstring, methods) if methods else _function(obj, docstring, inputs)
    source = SOURCE.format(
        title=_wrapped(f"Paper: {found.title if found else 'TODO'} (TODO: authors, venue, year)."),
        imports=_imports(methods), name=name, kind=kind,
        obj=obj, papers=f'"{slug}",' if slug else "", inputs=inputs, body=body,
    )  # fmt: skip
    claim = _wrapped(f"TODO: {found.evidence if found else 'what must be shown'}.")
    imports = "\n".join(
        sorted([f"from corrigible.{room} import {obj}", "from corrigible.papers import Measurement"])
    )
    return {
        ROOT / "src" / "corrigible" / room / f"_{name}.py": source,
        ROOT / "tests" / room / f"test_{name}.py": TEST.format(room=room, obj=obj),
        ROOT / "evidence" / f"{name}.py": EVIDENCE.format(imports=imports, obj=obj, name=name, claim=claim),
        ROOT / "changes" / f"{name}.feature.md": f"`{room}.{obj}`: TODO what it does for the user.\n",
    }


def _check(kind: str, name: str, room: str) -> None:
    if kind not in CONTRACTS:
        known = nearest(kind, CONTRACTS) or f" Kinds with a contract: {', '.join(CONTRACTS)}."
        why = "has no contract in corrigible.testing yet" if kind in KINDS else "is no kind"
        raise UnknownNameError(f"{kind!r} {why}.{known}")
    if not name.isidentifier() or name != name.lower() or name.startswith("_"):
        raise InvalidParameterError(f"NAME must be snake_case. Got {name!r}.")
    if name in list_methods():
        raise InvalidParameterError(f"There is a method named {name!r} already.")
    if room not in method_rooms():
        raise UnknownNameError(f"There is no method room {room!r}.{nearest(room, method_rooms())}")


def _imports(methods: tuple[tuple[str, str, str], ...]) -> str:
    if not methods:
        return "from numpy.typing import ArrayLike\n"
    returns = {result for _, _, result in methods}
    typing = ", ".join(n for n, wanted in (("Any", "dict"), ("Self", "Self")) if wanted in returns)
    array = "NDArray" in returns
    lines = ["from numpy.typing import ArrayLike" + (", NDArray" if array else "")]
    lines = [*(["import numpy as np"] if array else []), *lines, "from sklearn.base import BaseEstimator"]
    return f"from typing import {typing}\n\n" + "\n".join(lines) + "\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(text.replace('"', "'"), width=104, break_long_words=False)


def _function(obj: str, docstring: str, inputs: str) -> str:
    signature = ", ".join(f"{name}: ArrayLike" for name in inputs.split(", "))
    return FUNCTION.format(obj=obj, signature=signature, docstring=docstring)


def _class(obj: str, docstring: str, methods: tuple[tuple[str, str, str], ...]) -> str:
    written = []
    for method, arguments, result in methods:
        names = arguments.split()
        signature = ", ".join(f"*, {n[1:]}: float" if n[0] == "*" else f"{n}: ArrayLike" for n in names)
        parameters = "\n".join(f"        {n.lstrip('*')} : TODO" for n in names)
        written.append(
            METHOD.format(
                method=method, signature=signature, returns=_RETURNS[result], parameters=parameters, obj=obj
            )
        )
    return CLASS.format(obj=obj, docstring=docstring, methods="\n".join(written))


if __name__ == "__main__":
    main()
