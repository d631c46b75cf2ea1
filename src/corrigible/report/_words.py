"""The sentences of a page: what may be said of these numbers, and no more."""

from __future__ import annotations

from typing import Any

from corrigible.report._format import Unit, count, figure, is_number, rows, sentence, unit
from corrigible.report._summary import Summary

BASIS_NAMES = {"measured": "Measured", "estimated": "Estimated", "not_applicable": "Not applicable"}
BASIS_MEANING = {
    "measured": "the remedy was applied and its effect counted on held-out rows",
    "estimated": "it cannot be measured with the labels at hand; a model of the error says so",
    "not_applicable": "nothing to count for this model and these data",
}

# Drift is told of from this p-value on.
_SURELY = 0.05


def width(holder: Any) -> float | None:
    """Return the width of an interval, or None."""
    low, high = (holder or {}).get("low"), (holder or {}).get("high")
    return high - low if is_number(low) and is_number(high) else None


def budget_unit(budget: Summary) -> Unit:
    """Return the one unit in which the numbers of a budget are shown."""
    holders = [budget["total"], budget["rest"], *budget["lines"]]
    levels = [
        budget["total"].get("value"),
        budget["rest"].get("value"),
        *(x.get("points") for x in budget["lines"]),
    ]
    return unit(budget["loss"], levels, [width(h) for h in holders])


def verification_unit(s: Summary) -> Unit:
    """Return the one unit in which the numbers of a verification are shown."""
    holders = [s["total"].get("after"), s["total"].get("before"), *(r.get("change") for r in s["remedies"])]
    levels = [(h or {}).get("value") for h in holders]
    return unit(s["loss"], levels, [width(h) for h in holders])


def points_on(lines: list[Summary], basis: str) -> float:
    """Return the sum of the points on the lines of one basis."""
    return float(sum(x["points"] for x in lines if x["basis"] == basis and is_number(x.get("points"))))


def sum_gap(budget: Summary) -> float | None:
    """Return total minus lines minus rest where that is not zero within rounding error, else None."""
    lines = [x for x in budget["lines"] if x["basis"] != "not_applicable"]
    parts = [x["points"] for x in lines if is_number(x.get("points"))]
    total, rest = budget["total"].get("value"), budget["rest"].get("value")
    if not (is_number(total) and is_number(rest)):
        return None
    gap: float = total - rest - sum(parts)
    scale = max([abs(total), abs(rest), *(abs(p) for p in parts)])
    return gap if abs(gap) > 1e-6 * scale else None


def level(loss: str, holder: Any, u: Unit, where: str) -> str:
    """Return "14.2 % of test rows are predicted wrongly [13.1, 15.4]" or the like for another loss."""
    if loss == "zero_one":
        interval = u.interval(holder.get("low"), holder.get("high"))
        return (
            f"{u.total(holder.get('value'))} of {where} are predicted wrongly{f' {interval}' if interval else ''}"
        )
    return f"The {u.loss} on {where} is {_amount(holder, u)}"


def _amount(holder: Any, u: Unit) -> str:
    """Return "16.3 % [14.9, 17.8]", or "1.83 [1.71, 1.97] × 10⁶", where the power belongs to all three."""
    interval = u.interval(holder.get("low"), holder.get("high"))
    tail = f" {interval}" if interval else ""
    if u.sign.endswith("%") or not is_number(holder.get("value")):
        return u.total(holder.get("value")) + tail
    return f"{u.number(holder['value'])}{tail}{u.sign}"


def headline(s: Summary) -> str:
    """Return the one sentence at the top of an audit page."""
    budget = s["budget"]
    u = budget_unit(budget)
    measured, estimated = (points_on(budget["lines"], b) for b in ("measured", "estimated"))
    clauses = [_recoverable(budget, measured, u)]
    if _shows(estimated, u):
        amount = u.difference(abs(estimated))
        verb = "are" if _plural(u) else "is"
        clauses.append(
            f"a further {amount} {verb} estimated" if estimated > 0 else f"{amount} {verb} estimated against it"
        )
    if is_number(budget["rest"].get("value")):
        clauses.append(f"{u.difference(budget['rest']['value'])} {'remain' if _plural(u) else 'remains'}")
    first = level(budget["loss"], budget["total"], u, "test rows")
    return f"{first}; {', '.join(clauses[:-1])}{' and ' if len(clauses) > 1 else ''}{clauses[-1]}."


def _recoverable(budget: Summary, measured: float, u: Unit) -> str:
    if not any(line["basis"] == "measured" for line in budget["lines"]):
        return "no remedy could be measured on held-out rows"
    if not _shows(measured, u):
        return "no remedy measured on held-out rows lowers it"
    if measured < 0:
        return f"the remedies measured on held-out rows would add {u.difference(-measured)}"
    joint = budget.get("recoverable") or {}
    interval = u.interval(joint.get("low"), joint.get("high"))
    of_it = "" if _plural(u) else " of it"
    return f"{u.difference(measured)}{f' {interval}' if interval else ''}{of_it} can be recovered now"


def _plural(u: Unit) -> bool:
    """Whether amounts are counted in points; amounts of other losses have no name."""
    return u.points.endswith("points")


def _shows(value: float, u: Unit) -> bool:
    return any(c in "123456789" for c in u.number(value))


def remarks(s: Summary) -> list[str]:
    """Return the sentences under the headline: how firm it is, production, the previous model."""
    budget = s["budget"]
    u = budget_unit(budget)
    said = [_firmness(budget["lines"], u), _production(budget, u), _previous_short(budget["previous"])]
    return [text for text in said if text]


def _firmness(lines: list[Summary], u: Unit) -> str:
    gains = [x for x in lines if x["basis"] == "measured" and is_number(x.get("points")) and x["points"] > 0]
    shown = [x for x in gains if _shows(x["points"], u)]
    if not shown:
        return ""
    firm = [x for x in shown if is_number(x.get("low")) and x["low"] > 0]
    if not firm:
        return "None of the measured gains has an interval that excludes zero."
    if len(firm) == len(shown):
        return "Every measured gain has an interval that excludes zero." if len(firm) > 1 else ""
    verb = "lines" if len(firm) > 1 else "line"
    amount = u.difference(sum(x["points"] for x in firm))
    return f"Of the measured gain, {amount} stand on the {len(firm)} {verb} whose interval excludes zero."


def _production(budget: Summary, u: Unit) -> str:
    loss = budget["forecast"].get("loss") or {}
    if not is_number(loss.get("value")):
        return ""
    return f"On production rows, which carry no labels, the {u.loss} is forecast at {_amount(loss, u)}."


def forecast(budget: Summary) -> list[str]:
    """Return what is forecast for production rows, in sentences."""
    f, u = budget["forecast"], budget_unit(budget)
    said = [_production(budget, u)]
    test = f.get("test_loss")
    test = test.get("value") if isinstance(test, dict) else test
    if is_number(test) and said[0]:
        change = f["loss"]["value"] - test
        word = "above" if change > 0 else "below"
        same = not _shows(change, u)
        said.append(
            f"That is what was measured on test rows, {u.total(test)}."
            if same
            else f"That is {u.difference(abs(change))} {word} the {u.total(test)} measured on test rows."
        )
    share, target = f.get("defer_share"), f.get("defer_target")
    if is_number(share) and is_number(target):
        said.append(
            f"Handing the {figure(float(share), kind='percent')[0]} of rows the model is least sure of to a person "
            f"would leave {figure(float(target), kind='percent')[0]} of the whole loss on the rows the model keeps."
        )
    said += [_unlike(f, u), _drift(f, u)]
    return [text for text in [*said, sentence(str(f.get("why") or ""))] if text]


def _unlike(f: Summary, u: Unit) -> str:
    """Return what is said of production rows that are unlike known ones; nothing where there may be none."""
    unlike = f.get("unlike") or {}
    share = unlike.get("share") or {}
    if not is_number(share.get("low")) or share["low"] <= 0:
        return ""
    value, low, high = (f"{100 * share[k]:.1f}" for k in ("value", "low", "high"))
    said = f"Of the production rows, {value} % [{low}, {high}] are unlike the {unlike.get('of', 'known')} rows"
    far, near = (unlike.get(k) for k in ("loss_of_small_p_values", "loss_of_others"))
    if far and near:
        said += (
            f": rows that lie far from them are forecast at {_amount(far, u)}, the others at {_amount(near, u)}. The "
            "former figure is the less sure, for no known row tells of such"
        )
    return f"{said}."


def _drift(f: Summary, u: Unit) -> str:
    """Return what is said of drift of all columns together; nothing where it may be none."""
    drift = f.get("drift") or {}
    auc, change, p = drift.get("auc") or {}, drift.get("loss_change") or {}, drift.get("p_value")
    if not is_number(p) or not is_number(auc.get("value")) or p > _SURELY:
        return ""
    said = f"All columns together have moved from test to production (kernel two-sample test, p = {p:.2g})"
    if not is_number(auc.get("low")) or auc["low"] <= 0.5:
        return f"{said}, though a classifier does not tell the rows apart."
    said += f"; a classifier tells the rows apart with an AUC of {auc['value']:.3f}"
    if is_number(change.get("value")):
        moved, interval = (
            u.difference(change["value"], signed=True),
            u.interval(change.get("low"), change.get("high")),
        )
        said += (
            f"; weighting test rows to look like production moves their loss by {moved}"
            f"{f' {interval}' if interval else ''}, an interval that takes the weights as known and is too narrow"
        )
    return f"{said}."


def _previous_short(previous: Summary) -> str:
    flips = previous.get("negative_flips")
    if not is_number(flips):
        return ""
    other = previous.get("positive_flips")
    tail = f", {count(other)} the other way" if is_number(other) else ""
    return f"{rows(int(flips))} that the previous model had right {'is' if flips == 1 else 'are'} now wrong{tail}."


def previous(budget: Summary) -> list[str]:
    """Return what changed against the previous model, in sentences."""
    p = budget["previous"]
    said = [_previous_short(p)]
    if is_number(p.get("rate")):
        value, interval = figure(float(p["rate"]), p.get("low"), p.get("high"), "percent")
        said.append(f"Negative flip rate: {value}{f' {interval}' if interval else ''}.")
    return [text for text in [*said, sentence(str(p.get("why") or ""))] if text]


def rest(budget: Summary) -> list[str]:
    """Return what remains and how it is told apart, in sentences."""
    r, u = budget["rest"], budget_unit(budget)
    interval = u.interval(r.get("low"), r.get("high"))
    verb = "remain" if _plural(u) else "remains"
    said = [f"After all lines {u.difference(r.get('value'))}{f' {interval}' if interval else ''} {verb}."]
    parts = [
        f"about {u.difference(_value(r.get(key)))} {words}"
        for key, words in (
            ("aleatoric", "of noise in the labels given the features (aleatoric)"),
            ("epistemic", "of what the model does not know (epistemic)"),
        )
        if is_number(_value(r.get(key)))
    ]
    if parts:
        said.append(f"Estimated, not measured: {' and '.join(parts)}.")
    return [text for text in [*said, sentence(str(r.get("why") or ""))] if text]


def _value(holder: Any) -> Any:
    return holder.get("value") if isinstance(holder, dict) else holder


def verification_headline(s: Summary) -> str:
    """Return the one sentence at the top of a verification page."""
    u, total = verification_unit(s), s["total"]
    kept = sum(bool(r.get("kept")) for r in s["remedies"])
    n = len(s["remedies"])
    if not n:
        return "No remedy was tried."
    if not kept:
        return f"None of the {n} remedies tried was kept." if n > 1 else "The one remedy tried was not kept."
    before, after, change = (total.get(k) or {} for k in ("before", "after", "change"))
    interval = u.interval(change.get("low"), change.get("high"))
    what = "share of held-out rows predicted wrongly" if s["loss"] == "zero_one" else f"{u.loss} on held-out rows"
    delta = change.get("value")
    verb = "moves" if not is_number(delta) or not _shows(delta, u) else "falls" if delta < 0 else "rises"
    tail = f", a change of {u.difference(delta)}{f' {interval}' if interval else ''}" if is_number(delta) else ""
    return (
        f"With {kept} of {n} {'remedies' if n > 1 else 'remedy'} kept, the {what} {verb} from "
        f"{u.total(before.get('value'))} to {u.total(after.get('value'))}{tail}."
    )


def verification_remarks(s: Summary) -> list[str]:
    """Return the sentences under a verification's headline."""
    u, change = verification_unit(s), s["total"].get("change") or {}
    said = []
    low, high = change.get("low"), change.get("high")
    if is_number(low) and is_number(high) and low <= 0 <= high and any(r.get("kept") for r in s["remedies"]):
        said.append("The interval of the change includes zero.")
    kept = [r for r in s["remedies"] if r.get("kept")]
    if kept and all(is_number(r.get(k)) for r in kept for k in ("negative_flips", "positive_flips")):
        better, worse = (sum(r[k] for r in kept) for k in ("positive_flips", "negative_flips"))
        said.append(f"Step by step the kept remedies mend {rows(better)} and break {rows(worse)}.")
    tolerance = s.get("tolerance")
    if is_number(tolerance):
        said.append(f"A remedy that adds more than {u.difference(tolerance)} of harm is refused.")
    return said
