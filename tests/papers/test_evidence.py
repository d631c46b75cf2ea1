import json
import math
import textwrap

import numpy as np
import pytest
from typer.testing import CliRunner

from corrigible.cli import app
from corrigible.errors import DataError, UnknownNameError
from corrigible.papers import (
    Measurement,
    _evidence,
    check,
    load_evidence,
    results,
    reworded,
    run_evidence,
    stale,
)
from corrigible.papers._source_hash import source_hash

SCRIPT = """
    from corrigible.papers import Measurement
    CLAIM = "The number is large."
    PROTOCOL = "Look at it."
    METHODS = ("temperature_scaling",)
    DATA = {data}
    NOT_REPRODUCED = {missed}
    def run(data):
        yield Measurement("number", {value}, at_least=2.0)
        yield Measurement("reference", 0.0, at_most={reference}, kind="reference")
        yield Measurement("note", 5.0, kind="note")
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write an evidence script into an evidence folder of its own."""
    monkeypatch.setattr(_evidence, "SCRIPTS", tmp_path)
    monkeypatch.setattr(_evidence, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(_evidence, "list_methods", lambda: ["temperature_scaling"])

    def _write(value=3.0, *, data=(), missed=None, reference=1.0):
        text = SCRIPT.format(value=value, data=data, missed=missed or {}, reference=reference)
        (tmp_path / "toy.py").write_text(textwrap.dedent(text))

    return _write


def test_run_writes_a_fresh_result(write, tmp_path):
    write()
    assert stale() == ["toy"]
    run_evidence("toy", data=tmp_path)
    assert stale() == check() == []
    result = json.loads((tmp_path / "results" / "toy.json").read_text())
    assert result == results()["toy"]
    assert result["status"] == "reproduced"
    assert [m["met"] for m in result["measurements"]] == [True, True, True]
    assert {"evidence/toy.py", "src/corrigible/uncertainty/_temperature_scaling.py"} == set(result["sources"])


def test_a_changed_script_is_stale(write):
    write()
    run_evidence("toy")
    write(4.0)
    assert stale() == ["toy"]
    assert check() == ["toy: stale or never run; run `corrigible evidence run toy`"]


def test_words_are_taken_over_without_measuring_again(write):
    write(1.0)
    run_evidence("toy")
    assert check() == ["toy: number is 1, must be at least 2"]
    write(1.0, missed={"number": "Too small."})
    assert stale() == []
    assert reworded() == ["toy"]
    assert check()[0] == "toy: its result repeats other words; run `corrigible evidence run --changed`"
    before = results()["toy"]
    assert "words taken over" in CliRunner().invoke(app, ["evidence", "run", "--changed"]).output
    assert reworded() == check() == []
    assert results()["toy"] == before | {"not_reproduced": {"number": "Too small."}}


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ('"""Other."""\nx = "a"\n\n\ndef f():\n    """What."""\n    # Why.\n    return """\n# b\n"""\n', True),
        ('x = "b"\n\n\ndef f():\n    return """\n# b\n"""\n', False),
        ('x = "a"\n\n\ndef f():\n    return """\n# c\n"""\n', False),
        ('x = "a"\n\n\ndef f(): "# b"\n', False),
        ('x = "a"\nCLAIM: str = (\n    "so"\n)\n\n\ndef f():\n    return """\n# b\n"""\n', True),
    ],
)
def test_hash_of_what_runs(tmp_path, text, same):
    first, second = tmp_path / "first.py", tmp_path / "second.py"
    first.write_text('x = "a"\n\n\ndef f():\n    return """\n# b\n"""\n')
    second.write_text(text)
    assert (source_hash(first) == source_hash(second, {"CLAIM"})) == same


def test_further_sources_are_hashed_and_must_be_there(write, tmp_path):
    write()
    script = tmp_path / "toy.py"
    text = script.read_text()
    script.write_text(text + 'SOURCES = ("src/corrigible/audit/_run.py",)\n')
    run_evidence("toy")
    assert "src/corrigible/audit/_run.py" in results()["toy"]["sources"]
    script.write_text(text + 'SOURCES = ("src/corrigible/audit/_ran.py",)\n')
    with pytest.raises(DataError, match=r"There is no src/corrigible/audit/_ran\.py"):
        load_evidence("toy").sources()


@pytest.mark.parametrize(
    ("value", "reference", "expected"),
    [(3.0, 1.0, "reproduced"), (1.0, 1.0, "not reproduced"), (3.0, -1.0, "draft"), (1.0, -1.0, "draft")],
)
def test_status(write, value, reference, expected):
    """A failed reference puts the implementation in doubt, so that nothing is said of the claim."""
    write(value, reference=reference)
    assert run_evidence("toy")["status"] == expected


def test_a_missed_claim_must_be_acknowledged(write):
    write(1.0)
    run_evidence("toy")
    assert check() == ["toy: number is 1, must be at least 2"]
    write(1.0, missed={"number": "Too small a model."})
    run_evidence("toy")
    assert check() == []
    assert results()["toy"]["not_reproduced"] == {"number": "Too small a model."}


def test_an_acknowledgement_of_nothing_is_a_problem(write):
    write(3.0, missed={"number": "It is met."})
    run_evidence("toy")
    assert "not a measurement below its bar" in check()[0]


def test_methods_without_evidence_and_results_without_script(write, tmp_path, monkeypatch):
    monkeypatch.setattr(_evidence, "list_methods", lambda: ["temperature_scaling", "other"])
    write()
    run_evidence("toy")
    (tmp_path / "toy.py").rename(tmp_path / "moved.py")
    assert check() == [
        "moved: stale or never run; run `corrigible evidence run moved`",
        "other: no evidence names this method",
        "toy: a result without its script; remove evidence/results/toy.json",
    ]


def test_absent_data_leave_the_earlier_result(write, tmp_path):
    write()
    run_evidence("toy")
    before = results()
    write(data=("nowhere",))
    with pytest.raises(DataError, match="Data absent for the evidence 'toy': nowhere"):
        run_evidence("toy", data=tmp_path)
    assert results() == before


def test_a_crash_leaves_nothing_half_written(write, tmp_path):
    write("1 / 0")
    with pytest.raises(ZeroDivisionError):
        run_evidence("toy")
    assert list(tmp_path.glob("results/*")) == []


def test_constants_are_read_without_running(write, tmp_path):
    write()
    script = tmp_path / "toy.py"
    script.write_text("raise RuntimeError('imported')\n" + script.read_text())
    assert load_evidence("toy").claim == "The number is large."
    script.write_text(script.read_text().replace('"Look at it."', "str(1)"))
    with pytest.raises(DataError, match="PROTOCOL of the evidence 'toy' must be a literal"):
        load_evidence("toy")
    script.write_text("CLAIM = ''\nDATA = ()\n")
    with pytest.raises(DataError, match="must assign PROTOCOL, METHODS"):
        load_evidence("toy")
    assert len(check()) == 2  # the script is told as a problem, not raised, and covers no method


def test_unknown_names_suggest_the_nearest(write):
    write()
    with pytest.raises(UnknownNameError, match="Did you mean 'toy'"):
        load_evidence("toys")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_measurement_that_is_no_number_is_not_met(value):
    assert not Measurement("x", value, at_least=0.0).met


@pytest.mark.parametrize("keywords", [{}, {"kind": "note", "at_least": 1.0}, {"kind": "fact"}])
def test_a_claim_has_a_bar_and_a_note_has_none(keywords):
    with pytest.raises(ValueError, match="a note has none"):
        Measurement("x", 1.0, **keywords)


def test_met_is_a_plain_bool():
    """Numbers from numpy are welcome, and their comparison is still written as true or false."""
    assert Measurement("x", np.float64(1.0), at_least=np.float64(0.0)).met is True
