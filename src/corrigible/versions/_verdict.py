"""The verdict on an update: what its interval allows to say, and limits that must not be exceeded."""

from __future__ import annotations

from collections.abc import Mapping

from corrigible.errors import InvalidParameterError, UnknownNameError, nearest

VERDICTS = {
    "better": "The new version is better.",
    "not worse": "The new version is not worse by more than the tolerance.",
    "open": "These rows cannot tell whether the new version is worse by more than the tolerance.",
    "worse": "The new version is worse.",
}
MEASURES = (
    "negative_flips", "relative_negative_flips", "inconsistent", "loss_increase", "calibration_increase",
    "group_negative_flips", "group_loss_increase", "slowdown", "score_fall",
)  # fmt: skip


def verdict_of(change: Mapping[str, float], tolerance: float) -> str:
    """Return a key of `VERDICTS`, from the 95 % interval of the change of the mean loss."""
    if change["high"] < 0:
        return "better"
    if change["high"] <= tolerance:
        return "not worse"
    return "worse" if change["low"] > tolerance else "open"


def check_limits(limits: Mapping[str, float]) -> dict[str, float]:
    """Return limits by measure, checked."""
    for name, value in limits.items():
        if name not in MEASURES:
            raise UnknownNameError(
                f"--fail-on knows no measure {name!r}.{nearest(name, MEASURES) or ' Known: ' + ', '.join(MEASURES)}"
            )
        if not value >= 0:
            raise InvalidParameterError(f"--fail-on {name} must be at least 0. Got {value}.")
    return dict(limits)


def exceeded(measures: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Return measured value and limit of the measures that exceed theirs.

    Raises
    ------
    InvalidParameterError
        If a measure is limited that these data do not give.
    """
    for name in limits:
        if name not in measures:
            raise InvalidParameterError(
                f"--fail-on {name} cannot be judged: these data do not give it. They give {', '.join(measures)}."
            )
    return {name: (measures[name], limit) for name, limit in limits.items() if measures[name] > limit}
