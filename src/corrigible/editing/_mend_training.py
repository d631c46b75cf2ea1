"""Training MEND: what an edit must reach, what it must leave alone, and the gradient of both in the editor's weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible._utils.optional import require
from corrigible._utils.progress import progress
from corrigible.editing._gradient_factors import (
    Row,
    Rows,
    changed,
    gradient_factors,
    prepared,
    target_tokens,
    together,
)
from corrigible.editing._mend_network import FactorNetwork, all_weights, transformed
from corrigible.errors import DataError
from corrigible.models import EditRequest, LanguageModel

Tensor = Any
_TEXT_TOKENS = 32  # of a text that must not move
_POSITIONS = 8  # of it, drawn anew at each step, at which the next token is compared
_CLIP = 100.0  # largest norm of a gradient, as the authors have it


@dataclass(frozen=True, eq=False)
class Lesson:
    """One edit to learn from: the prompt with its target, and all prompts that must get the target."""

    subject: str
    inner: Row
    outer: list[Row]


@dataclass(eq=False)
class Editor:
    """What is trained, and where it acts.

    Attributes
    ----------
    networks : dict of str to FactorNetwork
        By shape.
    groups : dict of str to list of str
        Projections by shape.
    steps : dict of str to tensor
        The step size of each projection.
    """

    networks: dict[str, FactorNetwork]
    groups: dict[str, list[str]]
    steps: dict[str, Tensor]

    @property
    def names(self) -> list[str]:
        """All projections."""
        return list(self.steps)

    def changes(
        self, model: LanguageModel, rows: Rows, *, n_edits: int = 1, learn: bool = False
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the edits of rows of targets, `n_edits` rows an edit: factors of shapes (n, rank, n_in or n_out)."""
        factors = transformed(self.networks, self.groups, gradient_factors(model, rows, self.names), learn=learn)
        found = {}
        for name in self.names:
            u, delta = (f.reshape(len(f) // n_edits, -1, f.shape[-1]) for f in factors[name])
            found[name] = (u, -self.steps[name] * delta)
        return found

    def copy(self) -> dict[str, Any]:
        """Return the values of all that is trained, to go back to."""
        return {
            "weights": [w.detach().clone() for w in all_weights(self.networks)],
            "steps": {n: s.detach().clone() for n, s in self.steps.items()},
            "moments": {shape: dict(n.moments) for shape, n in self.networks.items()},
        }

    def restore(self, kept: dict[str, Any]) -> None:
        """Go back to what `copy` gave."""
        torch = require("torch", extra="lm", by="MEND")
        with torch.no_grad():
            for weight, value in zip(all_weights(self.networks), kept["weights"], strict=True):
                weight.copy_(value)
            for name, value in kept["steps"].items():
                self.steps[name].copy_(value)
        for shape, network in self.networks.items():
            network.moments = dict(kept["moments"][shape])


class Course:
    """The material of a training: lessons and texts, run up to the first block that is edited.

    Parameters
    ----------
    model : LanguageModel
        Left as it is.
    requests : sequence of EditRequest
        Each an edit of its own.
    texts : sequence of str
        What must not move.
    layer : int
        The first block that is edited.
    """

    def __init__(
        self, model: LanguageModel, requests: Sequence[EditRequest], texts: Sequence[str], layer: int
    ) -> None:
        self.model = model
        self.layer = layer
        asked = [(r, p) for r in requests for p in (r.text, *r.paraphrases)]
        rows, self.returns_tuple = prepared(model, [target_tokens(model, r, p) for r, p in asked], layer)
        of_request = iter(rows)
        self.lessons = []
        for request in requests:
            outer = [next(of_request) for _ in range(1 + len(request.paraphrases))]
            self.lessons.append(Lesson(request.subject, outer[0], outer))
        cut = [model.encode(t)[:_TEXT_TOKENS] for t in texts]
        self.texts, _ = prepared(model, [(tokens, len(tokens)) for tokens in cut if tokens], layer)

    def batch(self, rows: Sequence[Row]) -> Rows:
        """Return rows as one batch."""
        return together(self.model, rows, self.layer, self.returns_tuple)

    def losses(
        self, editor: Editor, lessons: Sequence[Lesson], n_edits: int, rng: np.random.Generator, *, learn: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the mean edit and locality losses of lessons, `n_edits` to an edit, both in nats a token.

        Parameters
        ----------
        editor : Editor
            What makes the edits.
        lessons : sequence of Lesson
            Of a number that `n_edits` divides.
        n_edits : int
            Lessons that one edit takes up together.
        rng : Generator
            Draws a prompt of each lesson, and a text and positions in it for each edit.
        learn : bool
            Whether the editor's moments learn from these lessons.
        """
        torch = require("torch", extra="lm", by="MEND")
        changes = editor.changes(self.model, self.batch([x.inner for x in lessons]), n_edits=n_edits, learn=learn)
        outer = [x.outer[rng.integers(len(x.outer))] for x in lessons]
        n = len(lessons) // n_edits
        texts = [self.texts[i] for i in rng.integers(len(self.texts), size=n)]
        held = [(i, int(p)) for i, t in enumerate(texts) for p in _some(len(t.tokens), rng)]
        with torch.no_grad():
            apart = self.batch(texts)
            with self.model.resumed(apart.start):
                before = self.model.logits(apart.start.batch, held).float().log_softmax(dim=-1)
        which = [i // n_edits for i in range(len(lessons))] + list(range(n))
        rows = self.batch([*outer, *texts])
        where = rows.where + [(len(outer) + i, p) for i, p in held]
        with self.model.resumed(rows.start), changed(
            self.model, {name: (u[which], d[which]) for name, (u, d) in changes.items()}
        ):  # fmt: skip
            log_p = self.model.logits(rows.start.batch, where).float().log_softmax(dim=-1)
        said = log_p[: len(rows.where)].gather(1, rows.goal[:, None])[:, 0]
        edit = -(said * rows.share).sum() / len(outer)
        locality = torch.nn.functional.kl_div(
            log_p[len(rows.where) :], before, log_target=True, reduction="batchmean"
        )
        return edit, locality


def _some(length: int, rng: np.random.Generator) -> NDArray[np.intp]:
    return rng.choice(length, size=min(_POSITIONS, length), replace=False)


@dataclass(frozen=True)
class Plan:
    """How the editor is trained; see `MEND` for the words."""

    n_steps: int
    batch_size: int
    n_edits: int
    learning_rate: float
    step_rate: float
    c_edit: float
    validation: float
    check_every: int


def train(
    course: Course, editor: Editor, plan: Plan, rng: np.random.Generator, *, quiet: bool
) -> list[dict[str, Any]]:
    """Train the editor by Adam; what is left is its best state on lessons of subjects held out.

    Returns
    -------
    list of dict
        A row a check: steps so far, and losses on the lessons that are held out (of the last batch without any).
    """
    torch = require("torch", extra="lm", by="MEND")
    for tensor in (*all_weights(editor.networks), *editor.steps.values()):
        tensor.requires_grad_()
    optimiser = torch.optim.Adam([
        {"params": all_weights(editor.networks), "lr": plan.learning_rate},
        {"params": list(editor.steps.values()), "lr": plan.step_rate},
    ])  # fmt: skip
    learnt, held = _split(course.lessons, plan, rng)
    seed, history, best = int(rng.integers(2**31)), [], None
    with progress(-(-plan.n_steps // plan.check_every), quiet=quiet) as bar:
        for step in range(1, plan.n_steps + 1):
            if step % plan.check_every == 1 or plan.check_every == 1:
                bar.step(f"MEND, step {step} of {plan.n_steps}")
            lessons = [learnt[i] for i in _draw(len(learnt), plan, rng)]
            edit, locality = course.losses(editor, lessons, plan.n_edits, rng, learn=True)
            optimiser.zero_grad()
            (plan.c_edit * edit + locality).backward()
            norm = torch.nn.utils.clip_grad_norm_([*all_weights(editor.networks), *editor.steps.values()], _CLIP)
            if not bool(torch.isfinite(norm)):
                raise DataError(
                    f"The training of MEND must keep losses finite. At step {step} a gradient is not. Lower "
                    "learning_rate or step_rate."
                )
            optimiser.step()
            if step % plan.check_every and step < plan.n_steps:
                continue
            found = _held_losses(course, editor, held, plan, seed) if held else (edit.item(), locality.item())
            total = plan.c_edit * found[0] + found[1]
            history.append({"step": step, "edit": found[0], "locality": found[1], "loss": total})
            if held and (best is None or total < best[0]):
                best = (total, editor.copy())
    for tensor in (*all_weights(editor.networks), *editor.steps.values()):
        tensor.requires_grad_(False)
    if best is not None:
        editor.restore(best[1])
    return history


def _draw(n: int, plan: Plan, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return lessons of one step: of edits that are tried together none twice, as far as there are enough."""
    each = [rng.choice(n, size=plan.n_edits, replace=plan.n_edits > n) for _ in range(plan.batch_size)]
    return np.concatenate(each)


def _split(lessons: list[Lesson], plan: Plan, rng: np.random.Generator) -> tuple[list[Lesson], list[Lesson]]:
    """Return lessons to learn from and held-out ones: no subject is in both."""
    subjects = list(dict.fromkeys(x.subject for x in lessons))
    apart = {subjects[i] for i in rng.permutation(len(subjects))[: int(plan.validation * len(subjects))]}
    learnt, held = [x for x in lessons if x.subject not in apart], [x for x in lessons if x.subject in apart]
    return learnt, held if len(held) >= plan.n_edits else []


def _held_losses(course: Course, editor: Editor, held: list[Lesson], plan: Plan, seed: int) -> tuple[float, float]:
    """Return mean losses on held-out lessons, with the same prompts, texts and positions at every check."""
    torch = require("torch", extra="lm", by="MEND")
    rng, size = np.random.default_rng(seed), plan.n_edits * max(1, 8 // plan.n_edits)
    found = []
    with torch.no_grad():
        for at in range(0, len(held), size):
            lessons = held[at : at + size]
            lessons = lessons[: len(lessons) // plan.n_edits * plan.n_edits]
            if lessons:
                edit, locality = course.losses(editor, lessons, plan.n_edits, rng, learn=False)
                found.append((len(lessons), edit.item(), locality.item()))
    n = sum(f[0] for f in found)
    return sum(f[0] * f[1] for f in found) / n, sum(f[0] * f[2] for f in found) / n
