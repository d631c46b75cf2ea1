"""Edits: changes of a network that can be applied, taken back bit for bit, kept in a file, stacked and dropped.

An edit holds deltas (of parameters, by name) and adaptors (code hooked onto modules, with tensors of its own). The
first edit that touches a parameter keeps a copy of its bits. A stack of edits on one network is the original plus
the deltas in their order, so that any edit can be dropped: what is left is what the others alone would have given.
"""

from __future__ import annotations

import importlib
import json
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from corrigible._registry import card
from corrigible._utils.files import atomic_path
from corrigible._utils.optional import require
from corrigible.errors import CorrigibleError, DataError, nearest
from corrigible.models._deltas import Dense, LowRank

Tensor = Any
Module = Any  # torch.nn.Module, which need not be installed
_FORMAT = "corrigible-edit-1"


def _torch() -> Any:
    return require("torch", extra="lm", by="An edit")


class AbstractAdaptor:
    """Code that stands in the network's way while an edit is applied: it changes no parameter.

    A subclass stands in its method's file, so that a stored edit finds it by the method's name and `kind`.
    """

    kind: ClassVar[str] = ""

    def attach(self, module: Module) -> Callable[[], None]:
        """Hook onto the network and return what takes it off again."""
        raise NotImplementedError

    def touches(self) -> tuple[str, ...]:
        """Return the names of the modules that are hooked."""
        raise NotImplementedError

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors to store."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Return what else must be stored, as JSON."""
        raise NotImplementedError

    @classmethod
    def build(cls, tensors: dict[str, Tensor], config: dict[str, Any]) -> AbstractAdaptor:
        """Return the adaptor that `tensors` and `config` were taken from."""
        raise NotImplementedError


@dataclass(frozen=True)
class Touched:
    """What an edit does to one parameter or module.

    Attributes
    ----------
    name : str
    rank : int or None
        None for an adaptor.
    norm : float
        Frobenius norm of the delta; of an adaptor's tensors.
    relative : float or None
        The norm over that of the parameter before any edit; None for an adaptor.
    """

    name: str
    rank: int | None
    norm: float
    relative: float | None


@dataclass(eq=False)
class Edit:
    """What an editor proposes: nothing is changed until it is applied.

    Parameters
    ----------
    method : str
        Name of the editor's card.
    deltas : dict of str to LowRank or Dense
        By the parameter's name in the network.
    adaptors : list of AbstractAdaptor
        Hooked on in this order.
    requests : list of dict
        What was asked, as JSON.
    details : dict
        What the editor tells of its work, as JSON: parameters, losses, seconds.

    Examples
    --------
    >>> import torch
    >>> from corrigible.models import Edit, Dense
    >>> layer = torch.nn.Linear(2, 2)
    >>> before = layer.weight.detach().clone()
    >>> edit = Edit("fine_tune", {"weight": Dense(torch.ones(2, 2))})
    >>> edit.apply(layer)
    >>> edit.revert(layer)
    >>> bool((layer.weight == before).all())
    True
    """

    method: str
    deltas: dict[str, LowRank | Dense] = field(default_factory=dict)
    adaptors: list[AbstractAdaptor] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def touches(self) -> tuple[str, ...]:
        """Names of the parameters and modules that the edit changes."""
        return (*self.deltas, *(name for a in self.adaptors for name in a.touches()))

    def apply(self, model: Any) -> None:
        """Put the edit on top of the model's stack.

        Parameters
        ----------
        model : LanguageModel or torch module
            Changed in place.

        Raises
        ------
        DataError
            If it is applied already, or the model lacks a parameter of that name and shape.
        """
        state = _state(network(model))
        if any(e is self for e in state.stack):
            raise DataError(f"The edit by {self.method} is applied already. Revert it first.")
        state.check(self)
        state.push(self)

    def revert(self, model: Any) -> None:
        """Take the edit off the model, wherever it stands in the stack.

        Parameters
        ----------
        model : LanguageModel or torch module
            Changed in place; with no edit left, every byte is as it was.

        Raises
        ------
        DataError
            If the edit is not applied.
        """
        state = _state(network(model))
        if not any(e is self for e in state.stack):
            raise DataError(f"The edit by {self.method} is not applied to this model: there is nothing to revert.")
        state.drop(self)

    def diff(self, model: Any) -> list[Touched]:
        """Return what the edit does to each parameter and module of the model.

        Parameters
        ----------
        model : LanguageModel or torch module
            With or without the edit applied.
        """
        state = _state(network(model))
        state.check(self)
        found = []
        for name, delta in self.deltas.items():
            norm, before = float(delta.full().norm()), float(state.original(name).float().norm())
            found.append(Touched(name, delta.rank, norm, norm / before if before else float("inf")))
        for adaptor in self.adaptors:
            norm = sum(float(t.float().norm()) ** 2 for t in adaptor.tensors().values()) ** 0.5
            found += [Touched(name, None, norm, None) for name in adaptor.touches()]
        return found

    def save(self, path: str | Path) -> None:
        """Write the edit as one safetensors file, atomically.

        Parameters
        ----------
        path : str or Path
            Where; its folder must exist.
        """
        torch_files = require("safetensors.torch", extra="lm", by="Saving an edit")
        tensors: dict[str, Tensor] = {}
        for number, delta in enumerate(self.deltas.values()):
            tensors |= {f"delta.{number}.{k}": t for k, t in delta.tensors().items()}
        for number, adaptor in enumerate(self.adaptors):
            tensors |= {f"adaptor.{number}.{k}": t for k, t in adaptor.tensors().items()}
        said = {
            "format": _FORMAT,
            "method": self.method,
            "deltas": list(self.deltas),
            "adaptors": [{"kind": a.kind, "config": a.config()} for a in self.adaptors],
            "requests": self.requests,
            "details": self.details,
        }
        # Clones: safetensors refuses tensors that share memory.
        stored = {k: t.detach().clone().contiguous() for k, t in tensors.items()}
        with atomic_path(path) as temporary:
            torch_files.save_file(stored, temporary, metadata={"edit": json.dumps(said, default=float)})

    @classmethod
    def load(cls, path: str | Path) -> Edit:
        """Read an edit that `save` has written.

        Parameters
        ----------
        path : str or Path
            The safetensors file.

        Raises
        ------
        DataError
            If the file is absent, damaged or no edit.
        """
        tensors, said = _read(Path(path))
        deltas: dict[str, LowRank | Dense] = {}
        for number, name in enumerate(said["deltas"]):
            parts = _under(tensors, f"delta.{number}.")
            deltas[name] = Dense(parts["delta"]) if "delta" in parts else LowRank(parts["left"], parts["right"])
        adaptors = [
            _adaptor_class(said["method"], a["kind"]).build(_under(tensors, f"adaptor.{number}."), a["config"])
            for number, a in enumerate(said["adaptors"])
        ]
        return cls(said["method"], deltas, adaptors, said["requests"], said["details"])


def applied_edits(model: Any) -> list[Edit]:
    """Return the edits that a model carries, the oldest first.

    Parameters
    ----------
    model : LanguageModel or torch module
        The network.
    """
    return list(_state(network(model)).stack)


def revert_all(model: Any) -> None:
    """Take every edit off a model: each byte is as it was before the first.

    Parameters
    ----------
    model : LanguageModel or torch module
        Changed in place.
    """
    for edit in reversed(applied_edits(model)):
        edit.revert(model)


def original_parameter(model: Any, name: str) -> Tensor:
    """Return a parameter as it was before any edit; it must not be changed.

    Parameters
    ----------
    model : LanguageModel or torch module
        The network.
    name : str
        Name of the parameter.
    """
    return _state(network(model)).original(name)


def set_parameters(model: Any, tensors: dict[str, Tensor]) -> None:
    """Give parameters the bits of tensors; the model must carry no edit.

    Parameters
    ----------
    model : LanguageModel or torch module
        Changed in place.
    tensors : dict of str to tensor
        By the parameter's name.
    """
    state = _state(network(model))
    known = state.parameters()
    if state.stack:
        raise DataError("Parameters of a model that carries edits cannot be set. Revert the edits first.")
    state.check(Edit("set_parameters", {name: Dense(value) for name, value in tensors.items()}))
    with _torch().no_grad():
        for name, value in tensors.items():
            known[name].copy_(value)


def joined(method: str, edits: Sequence[Edit], details: dict[str, Any] | None = None) -> Edit:
    """Return one edit that does what several do one after another.

    Parameters
    ----------
    method : str
        Name of the editor's card.
    edits : sequence of Edit
        In their order.
    details : dict, optional
        Of the whole.
    """
    torch = _torch()
    parts: dict[str, list[LowRank | Dense]] = {}
    for edit in edits:
        for name, delta in edit.deltas.items():
            parts.setdefault(name, []).append(delta)
    deltas: dict[str, LowRank | Dense] = {}
    for name, each in parts.items():
        low = [d for d in each if isinstance(d, LowRank)]
        if len(low) == len(each):
            deltas[name] = LowRank(torch.cat([d.left for d in low], 1), torch.cat([d.right for d in low], 0))
        else:
            deltas[name] = Dense(sum(d.full() for d in each))
    adaptors = [a for e in edits for a in e.adaptors]
    return Edit(method, deltas, adaptors, [r for e in edits for r in e.requests], details or {})


def network(model: Any) -> Module:
    """Return the torch module of a `LanguageModel`, or the module itself."""
    return getattr(model, "module", model)


class _State:
    """The stack of one network, and the bits from before the first edit of each parameter."""

    def __init__(self, module: Module) -> None:
        self.module = weakref.ref(module)
        self.stack: list[Edit] = []
        self.originals: dict[str, Tensor] = {}
        self.versions: dict[str, int] = {}
        self.detach: dict[int, list[Callable[[], None]]] = {}

    def parameters(self) -> dict[str, Tensor]:
        module = self.module()
        return dict(module.named_parameters()) if module is not None else {}

    def original(self, name: str) -> Tensor:
        return self.originals[name] if name in self.originals else self.parameters()[name].detach()

    def check(self, edit: Edit) -> None:
        known = self.parameters()
        for name, delta in edit.deltas.items():
            if name not in known:
                raise DataError(
                    f"The edit by {edit.method} changes the parameter {name!r}, which this model does not have."
                    f"{nearest(name, known)} Apply it to the model it was made for."
                )
            if tuple(known[name].shape) != delta.shape:
                raise DataError(
                    f"The edit by {edit.method} changes {name!r} of shape {delta.shape}. This model's has shape "
                    f"{tuple(known[name].shape)}. Apply it to the model it was made for."
                )

    def push(self, edit: Edit) -> None:
        known = self.parameters()
        for name in edit.deltas:
            if name not in self.originals:
                self.originals[name] = known[name].detach().clone()
            self._untouched(name, known[name])
        offs = []
        try:
            for adaptor in edit.adaptors:
                offs.append(adaptor.attach(self.module()))
        except BaseException:
            for off in reversed(offs):
                off()
            self._forget(edit)
            raise
        self.stack.append(edit)
        self.detach[id(edit)] = offs
        torch = _torch()
        for name, delta in edit.deltas.items():
            if known[name].dtype == torch.float32:  # as the sum over the whole stack would end
                self._set(known[name], name, known[name].detach() + delta.full().to(known[name].device))
            else:
                self._write([name])

    def drop(self, edit: Edit) -> None:
        known = self.parameters()
        for name in edit.deltas:
            self._untouched(name, known[name])
        for off in reversed(self.detach.pop(id(edit))):
            off()
        self.stack = [e for e in self.stack if e is not edit]
        self._write(edit.deltas)
        self._forget(edit)

    def _forget(self, edit: Edit) -> None:
        for name in edit.deltas:
            if not any(name in e.deltas for e in self.stack):
                self.originals.pop(name, None)
                self.versions.pop(name, None)

    def _untouched(self, name: str, parameter: Tensor) -> None:
        if self.versions.get(name, parameter._version) != parameter._version:
            raise CorrigibleError(
                f"The parameter {name!r} was changed by something else while edits were applied to it: taking an edit "
                "off would undo that, too. Revert edits before training or loading weights."
            )

    def _write(self, names: Iterable[str]) -> None:
        known = self.parameters()
        for name in names:
            parts = [e.deltas[name] for e in self.stack if name in e.deltas]
            value = self.originals[name]
            if parts:  # summed in float32 and rounded once, so that half precision loses no small edit
                value = value.float()
                for delta in parts:
                    value = value + delta.full().to(value.device)
            self._set(known[name], name, value)

    def _set(self, parameter: Tensor, name: str, value: Tensor) -> None:
        with _torch().no_grad():
            parameter.copy_(value)
        self.versions[name] = parameter._version


_STATES: weakref.WeakKeyDictionary[Any, _State] = weakref.WeakKeyDictionary()


def _state(module: Module) -> _State:
    if not hasattr(module, "named_parameters"):
        raise DataError(f"An edit needs a LanguageModel or a torch module. Got {type(module).__name__}.")
    if module not in _STATES:
        _STATES[module] = _State(module)
    return _STATES[module]


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    safetensors = require("safetensors", extra="lm", by="Loading an edit")
    if not path.is_file():
        raise DataError(f"An edit must be a file. There is none at {str(path)!r}.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            said = json.loads((file.metadata() or {}).get("edit", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise DataError(f"The edit {str(path)!r} cannot be read: {error}. Write it anew with Edit.save.") from error
    if said.get("format") != _FORMAT:
        raise DataError(f"The file {str(path)!r} holds no edit. Write one with Edit.save.")
    return tensors, said


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def _adaptor_class(method: str, kind: str) -> type[AbstractAdaptor]:
    """Return the adaptor of that kind in the method's file; a file names no code outside the index."""
    module = importlib.import_module(card(method).module)
    for found in vars(module).values():
        if isinstance(found, type) and issubclass(found, AbstractAdaptor) and found.kind == kind:
            return found
    raise DataError(f"The method {method!r} has no adaptor of kind {kind!r}: the edit is of another version.")
