"""Merge recipes: the YAML that mergekit reads, for the methods both have, checked before anything is opened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corrigible._core.tensor_blocks import FLOAT_KINDS
from corrigible._utils.optional import require
from corrigible.errors import DataError, InvalidParameterError, UnknownNameError, nearest


@dataclass(frozen=True)
class Method:
    """How a recipe's method is computed.

    Attributes
    ----------
    merger : str
        Card of the merger; empty for passthrough, which copies.
    fixed : dict
        Arguments that the method sets.
    each, shared : dict of str to (str, default)
        A recipe's parameter by model, or for all, to the merger's argument and the default of a recipe.
    base : bool
        Whether the base is what models are compared with; else it is one of them, or nothing.
    """

    merger: str
    fixed: dict[str, Any] = field(default_factory=dict)
    each: dict[str, tuple[str, Any]] = field(default_factory=dict)
    shared: dict[str, tuple[str, Any]] = field(default_factory=dict)
    base: bool = True


_WEIGHT = {"weight": ("weights", 1.0)}
_BOTH = {**_WEIGHT, "density": ("density", 1.0)}
_LAMBDA = {"lambda": ("scale", 1.0)}


def _normalize(default: bool) -> dict[str, tuple[str, Any]]:
    return {"normalize": ("normalize", default), **_LAMBDA}


METHODS = {
    "linear": Method("linear", each=_WEIGHT, shared={"normalize": ("normalize", True)}, base=False),
    "slerp": Method("slerp", shared={"t": ("t", 0.5)}, base=False),
    "task_arithmetic": Method("task_arithmetic", each=_WEIGHT, shared=_normalize(False)),
    "ties": Method("ties", each=_BOTH, shared=_normalize(True)),
    "dare_linear": Method("dare", each=_BOTH, shared={**_normalize(False), "rescale": ("rescale", True)}),
    "dare_ties": Method(
        "dare", {"elect_signs": True}, each=_BOTH, shared={**_normalize(False), "rescale": ("rescale", True)}
    ),
    "breadcrumbs": Method("breadcrumbs", each=_BOTH, shared={**_normalize(False), "gamma": ("outliers", 0.01)}),
    "breadcrumbs_ties": Method(
        "breadcrumbs", {"elect_signs": True}, each=_BOTH, shared={**_normalize(False), "gamma": ("outliers", 0.01)}
    ),
    "sce": Method("sce", shared={"select_topk": ("select_topk", 1.0)}),
    "model_stock": Method("model_stock"),
    "expo": Method("expo", shared={"alpha": ("alpha", 0.3)}),
    "passthrough": Method("", base=False),
}
_KEYS = ("merge_method", "base_model", "models", "slices", "parameters", "dtype", "out_dtype", "tokenizer_source",
         "name")  # fmt: skip
_WITHOUT_EFFECT = ("int8_mask",)  # how another tool stores masks


@dataclass(frozen=True)
class Source:
    """A model, or some of its layers, with parameters of its own."""

    model: str
    parameters: dict[str, Any]
    layers: tuple[int, int] | None = None


@dataclass(frozen=True)
class Slice:
    """Sources that are merged to consecutive layers."""

    sources: tuple[Source, ...]
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """A checked recipe. A recipe of whole models is one slice whose sources have no range of layers."""

    name: str
    method: Method
    base: str | None
    slices: tuple[Slice, ...]
    parameters: dict[str, Any]
    dtype: str | None
    tokenizer: str | None
    text: str

    @property
    def models(self) -> list[str]:
        """Every model named, the base first."""
        named = [s.model for part in self.slices for s in part.sources]
        return list(dict.fromkeys([*([self.base] if self.base else []), *named]))

    def arguments(self, part: Slice, sources: list[Source], tensor: str, t: float) -> dict[str, Any]:
        """Return the merger's arguments for a tensor.

        Parameters
        ----------
        part : Slice
            Its slice.
        sources : list of Source
            The models merged, without a base.
        tensor : str
            Its name, for filters.
        t : float
            How deep its layer lies in the slice, 0 to 1, for gradients; 0 outside of layers.
        """
        found = dict(self.method.fixed)
        for key, (argument, default) in self.method.each.items():
            scopes = [(s.parameters, part.parameters, self.parameters) for s in sources]
            found[argument] = [_number(_looked_up(key, scope, tensor, t, default), key) for scope in scopes]
        for key, (argument, default) in self.method.shared.items():
            value = _looked_up(key, (part.parameters, self.parameters), tensor, t, default)
            found[argument] = value if isinstance(default, bool) else _number(value, key)
        return found


def read_recipe(recipe: str | Path | dict[str, Any]) -> Recipe:
    """Read and check a recipe: a path of a YAML file, or what it holds."""
    yaml = require("yaml", extra="merge", by="corrigible merge")
    if isinstance(recipe, dict):
        text, given = yaml.safe_dump(recipe, sort_keys=False), recipe
    else:
        try:
            text = Path(recipe).read_text(encoding="utf-8")
            given = yaml.safe_load(text)
        except OSError as error:
            raise DataError(f"The recipe {str(recipe)!r} cannot be read: {error.strerror}.") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"The recipe {str(recipe)!r} is no YAML: {reason}.") from error
    if not isinstance(given, dict):
        raise DataError("A recipe must be a mapping with merge_method and models. Got something else.")
    _known(given, _KEYS, "recipe")
    return _checked(given, text)


def _checked(given: dict[str, Any], text: str) -> Recipe:
    name = given.get("merge_method")
    if name not in METHODS:
        raise UnknownNameError(
            f"The recipe's merge_method must be one of {', '.join(METHODS)}. Got {name!r}.{nearest(str(name), METHODS)}"
        )
    method = METHODS[name]
    slices = _slices(given, method)
    base = given.get("base_model")
    if method.base and base is None:
        raise InvalidParameterError(f"{name} compares models with their base: the recipe needs base_model.")
    if name == "passthrough" and any(len(s.sources) != 1 for s in slices):
        raise InvalidParameterError("passthrough copies layers: each slice must have one source.")
    kinds = [given[k] for k in ("out_dtype", "dtype") if given.get(k) is not None]
    for kind in kinds:
        if kind not in FLOAT_KINDS:
            known = ", ".join(FLOAT_KINDS)
            raise InvalidParameterError(f"The recipe's dtype must be one of {known}. Got {kind!r}.")
    parameters = _parameters(given, (*method.each, *method.shared), "recipe")
    return Recipe(name, method, None if base is None else str(base), slices, parameters, kinds[0] if kinds else None,
                  _tokenizer(given), text)  # fmt: skip


def _slices(given: dict[str, Any], method: Method) -> tuple[Slice, ...]:
    if ("models" in given) == ("slices" in given):
        raise InvalidParameterError("A recipe must have either models or slices.")
    if "models" in given:
        return (Slice(tuple(_source(m, method, ranged=False) for m in _list(given["models"], "models")), {}),)
    found = []
    for part in _list(given["slices"], "slices"):
        _known(part, ("sources", "parameters"), "slice")
        sources = tuple(_source(s, method, ranged=True) for s in _list(part.get("sources"), "sources"))
        if len({s.layers[1] - s.layers[0] for s in sources if s.layers}) != 1:
            raise InvalidParameterError("The sources of a slice must have as many layers as each other.")
        found.append(Slice(sources, _parameters(part, (*method.each, *method.shared), "slice")))
    return tuple(found)


def _source(given: Any, method: Method, *, ranged: bool) -> Source:
    what = "source" if ranged else "model"
    _known(given, ("model", "parameters", *(["layer_range"] if ranged else [])), what)
    if not isinstance(given.get("model"), str):
        raise InvalidParameterError(
            f"Each {what} of a recipe must name its model: a local file or folder. Got {given!r}."
        )
    layers = None
    if ranged:
        span = given.get("layer_range")
        ok = (
            isinstance(span, list)
            and len(span) == 2
            and all(isinstance(i, int) for i in span)
            and 0 <= span[0] < span[1]
        )
        if not ok:
            raise InvalidParameterError(f"layer_range must be two integers, [first, end). Got {span!r}.")
        layers = (span[0], span[1])
    # What all models share may stand with one of them in mergekit's files too.
    return Source(given["model"], _parameters(given, tuple(method.each), what), layers)


def _tokenizer(given: dict[str, Any]) -> str | None:
    source = given.get("tokenizer_source")
    if source == "union":
        raise InvalidParameterError(
            "tokenizer_source 'union' is not supported: models must share their tokens. Name 'base' or one of the models."
        )
    return None if source is None else str(source)


def _parameters(given: dict[str, Any], known: Iterable[str], where: str) -> dict[str, Any]:
    parameters = given.get("parameters") or {}
    _known(parameters, (*known, *_WITHOUT_EFFECT), f"{where}'s parameters")
    return dict(parameters)


def _known(given: Any, known: Iterable[str], where: str) -> None:
    if not isinstance(given, dict):
        raise InvalidParameterError(f"A {where} must be a mapping. Got {given!r}.")
    known = tuple(known)
    for key in given:
        if key not in known:
            hint = nearest(str(key), known) or f" Known: {', '.join(known) or 'none'}."
            raise UnknownNameError(f"The {where} has an unknown key {key!r}.{hint}")


def _list(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise InvalidParameterError(f"The recipe's {key} must be a list that is not empty. Got {value!r}.")
    return value


def _looked_up(key: str, scopes: Iterable[dict[str, Any]], tensor: str, t: float, default: Any) -> Any:
    """Return the first setting that speaks of the tensor, from the narrowest scope to the widest."""
    for scope in scopes:
        if key in scope and (value := _setting(scope[key], tensor, t)) is not None:
            return value
    return default


def _setting(value: Any, tensor: str, t: float) -> Any:
    """Return a number as it is, a list of numbers interpolated over the layers, a filter's value where it matches."""
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        return value
    if all(isinstance(v, int | float) for v in value) and value:
        position = t * (len(value) - 1)
        low = min(int(position), len(value) - 2) if len(value) > 1 else 0
        high = min(low + 1, len(value) - 1)
        return value[low] + (position - low) * (value[high] - value[low])
    for one in value:
        _known(one, ("filter", "value"), "setting")
        pattern = one.get("filter")
        if pattern is None or pattern == "*" or pattern in tensor:
            return _setting(one.get("value"), tensor, t)
    return None


def _number(value: Any, key: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InvalidParameterError(f"The recipe's {key!r} must be a number. Got {value!r}.") from None
