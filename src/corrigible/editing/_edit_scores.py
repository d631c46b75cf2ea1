"""What an edit did: the same questions to the model before and after, judged by what it writes."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible._core.answers import names
from corrigible._core.reference_texts import reference_texts
from corrigible._utils.optional import require
from corrigible.editing._ability_tasks import ability_tasks, choose
from corrigible.models import EditRequest, LanguageModel, Probe

Floats = NDArray[np.floating]
PREFIX = "It is known that "
_SPOKEN = 5  # requests whose longer continuations tell fluency
_ROWS = 8  # texts a pass
_STEP = 8  # every how many tokens the next-token distribution is compared


@dataclass(frozen=True)
class EditScores:
    """What an edit did; shares lie in [0, 1], and are NaN where nothing was asked.

    Attributes
    ----------
    efficacy, efficacy_prefixed : float
        Share of requests whose continuation begins with the new target: bare prompt, and behind a neutral prefix.
    paraphrase : float
        Share of paraphrases whose continuation holds the new target.
    neighbour_kept : float
        Share of neighbours whose continuation is the same text as before.
    neighbour_right : float
        Of the neighbours answered rightly before, the share still answered rightly.
    same_subject_kept, same_subject_right : float
        As for neighbours, on other relations of the subject.
    portability : float
        Share of questions whose answer follows from the new fact that are answered so.
    fluency : float
        Entropy of word pairs and triples in longer continuations, in bits; falls when a model repeats itself.
    kl : float
        Mean divergence of the next-token distribution on held-out text from before, in nats.
    perplexity_ratio : float
        Mean perplexity of held-out passages over that before.
    negative_flips : float
        Share of all questions of the set that were right before and are wrong now.
    abilities : dict of str to float
        Share of choices right, a task.
    memory_mb : float
        Largest memory of the process so far.
    """

    efficacy: float
    efficacy_prefixed: float
    paraphrase: float
    neighbour_kept: float
    neighbour_right: float
    same_subject_kept: float
    same_subject_right: float
    portability: float
    fluency: float
    kl: float
    perplexity_ratio: float
    negative_flips: float
    abilities: dict[str, float]
    memory_mb: float

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says to all that is asked."""

    said: dict[str, list[str]]
    spoken: list[str]
    perplexities: Floats
    log_p: Any
    right: NDArray[np.bool_]
    abilities: dict[str, Floats]


class EditProbes:
    """The questions that tell what an edit did; ask before, ask after, compare.

    Parameters
    ----------
    requests : sequence of EditRequest
        What is edited.
    texts : sequence of str, optional
        Held-out text; by default passages of Python's documentation that no statistics are taken of.
    questions : sequence of Probe
        With answers: the set on which negative flips are counted.
    n_texts, max_tokens : int
        Passages used, and tokens of each.
    abilities : bool
        Whether to set the small tasks.
    """

    def __init__(
        self,
        requests: Sequence[EditRequest],
        *,
        texts: Sequence[str] | None = None,
        questions: Sequence[Probe] = (),
        n_texts: int = 16,
        max_tokens: int = 96,
        abilities: bool = True,
    ) -> None:
        self.requests = list(requests)
        self.texts = list(texts)[:n_texts] if texts is not None else reference_texts(n_texts, held_out=True)
        self.questions = [q for q in questions if q.answer]
        self.max_tokens = max_tokens
        self.abilities = abilities

    def ask(self, model: LanguageModel) -> Answers:
        """Return what the model says now.

        Parameters
        ----------
        model : LanguageModel
            With or without the edit.
        """
        asked = {
            "bare": [r.text for r in self.requests],
            "prefixed": [PREFIX + r.text for r in self.requests],
            "paraphrases": [p for r in self.requests for p in r.paraphrases],
            "questions": [q.prompt for q in self.questions],
        }
        asked |= {
            kind: [p.prompt for _, p in self._probes(kind)]
            for kind in ("neighbours", "same_subject", "portability")
        }
        prompts = list(dict.fromkeys(p for group in asked.values() for p in group))
        once = dict(zip(prompts, model.generate(prompts, max_new_tokens=10), strict=True))
        said = {kind: [once[p] for p in group] for kind, group in asked.items()}
        right = [names(s, q.answer or "") for s, q in zip(said["questions"], self.questions, strict=True)]
        tasks = ability_tasks() if self.abilities else {}
        perplexities, log_p = self._read(model)
        return Answers(
            said,
            model.generate(asked["bare"][:_SPOKEN], max_new_tokens=40),
            perplexities,
            log_p,
            np.array(right, dtype=bool),
            {name: choose(model, choices).astype(float) for name, choices in tasks.items()},
        )

    def compare(self, before: Answers, after: Answers) -> EditScores:
        """Return what changed.

        Parameters
        ----------
        before, after : Answers
            Of `ask`.
        """
        torch = require("torch", extra="lm", by="EditProbes")
        wanted = [r.target_new for r in self.requests]
        spread = [r.target_new for r in self.requests for _ in r.paraphrases]
        follows = [p.answer or "" for _, p in self._probes("portability")]
        kl = torch.nn.functional.kl_div(after.log_p, before.log_p, log_target=True, reduction="batchmean")
        return EditScores(
            efficacy=_hits(after.said["bare"], wanted, at_once=True),
            efficacy_prefixed=_hits(after.said["prefixed"], wanted, at_once=True),
            paraphrase=_hits(after.said["paraphrases"], spread),
            neighbour_kept=_kept(before, after, "neighbours"),
            neighbour_right=self._still_right(before, after, "neighbours"),
            same_subject_kept=_kept(before, after, "same_subject"),
            same_subject_right=self._still_right(before, after, "same_subject"),
            portability=_hits(after.said["portability"], follows),
            fluency=_mean([word_entropy(s) for s in after.spoken]),
            kl=max(float(kl), 0.0),
            perplexity_ratio=float(after.perplexities.mean() / before.perplexities.mean()),
            negative_flips=_mean(before.right & ~after.right),
            abilities={name: _mean(found) for name, found in after.abilities.items()},
            memory_mb=_memory(),
        )

    def _probes(self, kind: str) -> list[tuple[EditRequest, Probe]]:
        return [(r, p) for r in self.requests for p in getattr(r, kind)]

    def _still_right(self, before: Answers, after: Answers, kind: str) -> float:
        said = zip(before.said[kind], after.said[kind], self._probes(kind), strict=True)
        return _mean([names(now, p.answer) for then, now, (_, p) in said if p.answer and names(then, p.answer)])

    def _read(self, model: LanguageModel) -> tuple[Floats, Any]:
        """Return the perplexity of each text, and the next-token distributions at every eighth token, in one pass."""
        torch = require("torch", extra="lm", by="EditProbes")
        rows = [model.encode(t)[: self.max_tokens] for t in self.texts]
        perplexities, kept = [], []
        with torch.no_grad():
            for at in range(0, len(rows), _ROWS):
                group = rows[at : at + _ROWS]
                where = [(r, p) for r, row in enumerate(group) for p in range(len(row))]
                found = model.logits(model.batch(group), where).float().log_softmax(dim=-1)
                for row, log_p in zip(group, found.split([len(row) for row in group]), strict=True):
                    told = log_p[:-1].gather(1, torch.tensor(row[1:], device=log_p.device)[:, None])
                    perplexities.append(float(torch.exp(-told.double().mean())))
                    kept.append(log_p[_STEP - 1 :: _STEP].clone())
        return np.array(perplexities), torch.cat(kept)


def word_entropy(text: str) -> float:
    """Return the weighted mean of the entropies of word pairs (weight 2/3) and triples (4/3), in bits."""
    words = text.split()

    def entropy(n: int) -> float:
        counts = np.array(list(Counter(zip(*(words[i:] for i in range(n)), strict=False)).values()), dtype=float)
        share = counts / counts.sum() if counts.size else np.ones(1)
        return float(-(share * np.log2(share)).sum())

    return (2 / 3 * entropy(2) + 4 / 3 * entropy(3)) / 2


def _hits(said: Sequence[str], wanted: Sequence[str], *, at_once: bool = False) -> float:
    return _mean([names(s, w, at_once=at_once) for s, w in zip(said, wanted, strict=True)])


def _kept(before: Answers, after: Answers, kind: str) -> float:
    return _mean([a == b for a, b in zip(before.said[kind], after.said[kind], strict=True)])


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _memory() -> float:
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (2**20 if sys.platform == "darwin" else 2**10)
