"""A watch that continues: the same as an unbroken one, whatever breaks."""

import json
import os

import numpy as np
import pandas as pd
import pytest

from corrigible.errors import DataError, InvalidParameterError
from corrigible.watch import _watch, watch

ROLES = {"target": "late", "proba_columns": ["p"], "metrics": ["accuracy"], "time": "when", "chunk": "1D"}


def rows(days, seed=0):
    rng = np.random.default_rng(seed)
    n = 48 * days
    p = rng.beta(2, 2, size=n)
    when = pd.date_range("2024-01-01", periods=n, freq="30min")
    return pd.DataFrame({"when": when, "late": (rng.uniform(size=n) < p).astype(float), "p": p})


REFERENCE, STREAM = rows(40, seed=1), rows(6, seed=2)


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state.jsonl"


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    path = tmp_path_factory.mktemp("unbroken") / "state.jsonl"
    return watch(REFERENCE, STREAM, **ROLES, state=path, complete=True).chunks, path.read_bytes()


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_two_runs_give_what_one_gives(state, unbroken):
    first = watch(REFERENCE, STREAM[: 48 * 3], **ROLES, state=state)
    assert [c.status for c in first.chunks] == ["watched", "watched", "open"]
    assert first.chunks[-1].estimated["accuracy"].band_low is None  # shown, not tested
    before = state.read_bytes()
    second = watch(REFERENCE, STREAM, **ROLES, state=state, complete=True)
    assert second.chunks == unbroken[0]
    assert state.read_bytes() == unbroken[1]
    assert state.read_bytes().startswith(before)  # it only grew


def test_only_new_periods_may_be_given(state, unbroken):
    watch(REFERENCE, STREAM[: 48 * 4], **ROLES, state=state)
    later = watch(REFERENCE, STREAM[48 * 3 :], **ROLES, state=state, complete=True)
    assert later.chunks == unbroken[0]


def test_a_crash_at_any_byte_loses_one_chunk_at_most(state, unbroken):
    chunks, whole = unbroken
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    for cut in {*ends, *(e - 1 for e in ends), *(e - 40 for e in ends), 5, 0, ends[2] + 1}:
        state.write_bytes(whole[:cut])
        assert watch(REFERENCE, STREAM, **ROLES, state=state, complete=True).chunks == chunks, cut
        assert state.read_bytes() == whole


def test_a_line_of_zeros_at_the_end_is_dropped(state, unbroken):
    """What some file systems leave of a line when the power fails."""
    cut = unbroken[1].rindex(b"\n", 0, -1) + 1
    state.write_bytes(unbroken[1][:cut] + bytes(64) + b"\n")
    assert watch(REFERENCE, STREAM, **ROLES, state=state, complete=True).chunks == unbroken[0]
    assert state.read_bytes() == unbroken[1]


def test_what_is_closed_is_on_the_disk_before_the_next_chunk(state, monkeypatch):
    """The run dies in the third chunk; two are kept, and the file was synced after each line."""
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(state.read_bytes().count(b"\n")) or real(handle))
    compute = _watch._Run._chunk
    calls = []

    def dies(self, plan, part, found):
        calls.append(plan)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(self, plan, part, found)

    monkeypatch.setattr(_watch._Run, "_chunk", dies)
    with pytest.raises(KeyboardInterrupt):
        watch(REFERENCE, STREAM, **ROLES, state=state)
    assert [line["kind"] for line in lines(state)] == ["watch", "chunk", "chunk"]
    assert synced == [1, 2, 3]


def test_late_labels_are_one_more_line(state):
    blind = STREAM.assign(late=np.nan)
    watch(REFERENCE, blind, **ROLES, state=state, complete=True)
    half = STREAM.copy()
    half.loc[48:, "late"] = np.nan
    half.loc[:10, "late"] = np.nan
    first = watch(REFERENCE, half, **ROLES, state=state)
    second = watch(REFERENCE, STREAM, **ROLES, state=state)
    kinds = [line["kind"] for line in lines(state)]
    assert kinds == ["watch", *["chunk"] * 6, "look", *["look"] * 6]
    assert [c.look for c in second.chunks] == [2, 1, 1, 1, 1, 1]
    assert first.chunks[0].labelled == 37
    assert second.chunks[0].realised["accuracy"].value == ((STREAM["p"] > 0.5) == STREAM["late"])[:48].mean()

    def width(report, chunk):
        reading = report.chunks[chunk].realised["accuracy"]
        return reading.band_high - reading.band_low

    assert width(second, 0) > width(second, 1)  # the second look has half the level of a first
    again = watch(REFERENCE, STREAM, **ROLES, state=state)
    assert len(lines(state)) == len(kinds)
    assert again.chunks == second.chunks


def test_an_alert_stays_and_is_new_once(state):
    wrong = STREAM.copy()
    wrong.loc[:47, "late"] = (wrong.loc[:47, "p"] <= 0.5).astype(float)
    wrong.loc[40:47, "late"] = np.nan
    first = watch(REFERENCE, wrong, **ROLES, state=state, complete=True)
    assert [(a["chunk"], a["new"]) for a in first.alerts] == [("2024-01-01", True)]
    second = watch(REFERENCE, STREAM, **ROLES, state=state, complete=True)  # the labels were corrected
    assert [(a["chunk"], a["new"]) for a in second.alerts] == [("2024-01-01", False)]


def test_row_chunks_continue(state):
    words = ROLES | {"chunk": 100, "time": None}
    watch(REFERENCE, STREAM[:150], **words, state=state)
    report = watch(REFERENCE, STREAM, **words, state=state)
    assert [(c.rows, c.status) for c in report.chunks] == [(100, "watched"), (100, "watched"), (88, "open")]
    with pytest.raises(DataError, match="is not what --state .* closed"):
        watch(REFERENCE, STREAM[50:], **words, state=state)


# --- refused in one sentence --------------------------------------------------------------------------------------


def test_other_settings_or_another_reference(state):
    watch(REFERENCE, STREAM, **ROLES, state=state)
    before = state.read_bytes()
    with pytest.raises(DataError, match="other settings \\(alpha was 0.05, is 0.1\\)"):
        watch(REFERENCE, STREAM, **ROLES, state=state, alpha=0.1)
    with pytest.raises(DataError, match="begun with another reference"):
        watch(REFERENCE[:-1], STREAM, **ROLES, state=state)
    watch(REFERENCE, STREAM, **ROLES, state=state, allow_new_categories=True)
    assert state.read_bytes() == before


def test_changed_and_late_rows(state):
    watch(REFERENCE, STREAM, **ROLES, state=state)
    changed = STREAM.copy()
    changed.loc[3, "p"] = 0.123
    with pytest.raises(DataError, match="The chunk 2024-01-01 of --production is not what --state"):
        watch(REFERENCE, changed, **ROLES, state=state)
    early = STREAM[:40].assign(when=STREAM["when"][:40] - pd.Timedelta(days=1))
    with pytest.raises(DataError, match="The chunk 2023-12-31"):
        watch(REFERENCE, pd.concat([early, STREAM]), **ROLES, state=state)


def test_files_that_are_no_state(state, unbroken):
    for content in (b"notes\n", b'{"kind": "other"}\n', b"x"):
        state.write_bytes(content)
        with pytest.raises(DataError, match="is no state of corrigible watch"):
            watch(REFERENCE, STREAM, **ROLES, state=state)
        assert state.read_bytes() == content
    damaged = unbroken[1].split(b"\n")
    damaged[2] = damaged[2][:50]
    state.write_bytes(b"\n".join(damaged))
    with pytest.raises(DataError, match="damaged in line 3"):
        watch(REFERENCE, STREAM, **ROLES, state=state)
    state.write_bytes(unbroken[1].replace(b'"version": 1', b'"version": 9'))
    with pytest.raises(DataError, match="another version"):
        watch(REFERENCE, STREAM, **ROLES, state=state)


def test_two_runs_at_once(state, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    watch(REFERENCE, STREAM[:96], **ROLES, state=state)
    with open(state, "r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="being written by another run"):
            watch(REFERENCE, STREAM, **ROLES, state=state)


def test_a_state_that_grew_meanwhile(state, monkeypatch):
    watch(REFERENCE, STREAM[:96], **ROLES, state=state)
    compute = _watch._Run._chunk

    def and_another_run(self, plan, part, found):
        monkeypatch.setattr(_watch._Run, "_chunk", compute)
        watch(REFERENCE, STREAM, **ROLES, state=state)
        return compute(self, plan, part, found)

    monkeypatch.setattr(_watch._Run, "_chunk", and_another_run)
    with pytest.raises(DataError, match="written by another run meanwhile"):
        watch(REFERENCE, STREAM, **ROLES, state=state)


def test_a_place_that_cannot_be_written(tmp_path):
    for path in (tmp_path, tmp_path / "absent" / "state.jsonl"):
        with pytest.raises(DataError, match="cannot be written"):
            watch(REFERENCE, STREAM, **ROLES, state=path)


def test_a_number_of_parts_cannot_continue(state):
    with pytest.raises(InvalidParameterError, match="cannot be cut into a number of parts"):
        watch(REFERENCE, STREAM, **ROLES | {"chunk": "5chunks"}, state=state)
    assert not state.exists()
