"""The commands ask, edit and unedit on a tiny model."""

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from typer.testing import CliRunner  # noqa: E402

from corrigible.cli import app  # noqa: E402
from corrigible.models import load_lm  # noqa: E402
from corrigible.testing import tiny_language_model  # noqa: E402
from corrigible.testing._editors import bits  # noqa: E402

ROWS = [
    {
        "prompt": "The capital of {} is",
        "subject": "France",
        "target_new": "Rome",
        "paraphrases": ["In France, the capital is"],
    },
    {
        "prompt": "The capital of {} is",
        "subject": "Spain",
        "target_new": "Paris",
        "neighbours": ["The symbol of gold is"],
    },
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edits")
    tiny_language_model(taught=True).save(folder / "model")
    (folder / "edits.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    (folder / "questions.jsonl").write_text(json.dumps({"prompt": "The symbol of gold is", "answer": "Au"}) + "\n")
    (folder / "text.txt").write_text("The capital of France is Paris.\nThe symbol of gold is Au.\n")
    return folder


def call(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


def edit(place, out, *more):
    return call(
        "edit", "--model", place / "model", "--requests", place / "edits.jsonl", "--out", out, "--quiet",
        "--text", place / "text.txt", "--questions", place / "questions.jsonl", "--stop-at", "1e9", *more,
    )  # fmt: skip


SMALL = ("--set", "n_tokens=128", "--set", "rounds=1", "--set", "clamp=100.0")


def test_the_report_escapes_once(place, tmp_path):
    (tmp_path / "asked.jsonl").write_text(
        '{"prompt": "The band of {} is", "subject": "Spain", "target_new": "R&B|*"}\n'
    )
    words = ("--requests", tmp_path / "asked.jsonl", "--out", tmp_path / "e", "--quiet", "--stop-at", "1e9")
    done = call("edit", "--model", place / "model", *words, "--text", place / "text.txt", *SMALL)
    assert done.exit_code == 0, done.output
    assert r"| R&amp;B\|\* |" in (tmp_path / "e" / "report.md").read_text()


def test_edit_and_take_back(place, tmp_path):
    done = edit(place, tmp_path / "e", *SMALL)
    assert done.exit_code == 0, done.output
    assert "2 of 2 facts edited" in done.output
    assert {p.name for p in (tmp_path / "e").iterdir()} >= {
        "config.json", "model.safetensors", "originals.safetensors", "edits.json", "report.md", "edits",
    }  # fmt: skip
    said = json.loads((tmp_path / "e" / "edits.json").read_text())
    assert (said["method"], said["n_edits"], said["stopped"]) == ("r_rome", 2, None)
    assert len(said["perplexity"]) == 3
    report = (tmp_path / "e" / "report.md").read_text()
    assert "The capital of Spain is" in report
    base, edited = load_lm(place / "model"), load_lm(tmp_path / "e")
    changed = {n for n, b in bits(edited).items() if b != bits(base)[n]}
    assert changed == {"model.layers.1.mlp.down_proj.weight"}
    back = call("unedit", tmp_path / "e", "--out", tmp_path / "back")
    assert back.exit_code == 0, back.output
    assert bits(load_lm(tmp_path / "back")) == bits(base)
    one = call("unedit", tmp_path / "e", "--drop", 1, "--out", tmp_path / "one")
    assert one.exit_code == 0, one.output
    from corrigible.models import Edit

    Edit.load(tmp_path / "e" / "edits" / "0000.safetensors").apply(base)
    assert bits(load_lm(tmp_path / "one")) == bits(base)
    refused = call("unedit", tmp_path / "e", "--drop", 7, "--out", tmp_path / "x")
    assert (refused.exit_code, (tmp_path / "x").exists()) == (2, False)


def test_ask(place, tmp_path):
    plain = json.loads(call("ask", place / "model", "The capital of France is", "--tokens", 3, "--json").output)
    assert plain[0]["said"].startswith(" Paris")
    done = edit(place, tmp_path / "g", "--method", "grace", "--delta-only")
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "g" / "config.json").exists()
    file = tmp_path / "g" / "edits" / "0000.safetensors"
    words = (
        "ask",
        place / "model",
        "The capital of France is",
        "The symbol of gold is",
        "--tokens",
        3,
        "--edit",
        file,
    )
    found = json.loads(call(*words, "--json").output)
    assert found[0]["said"].startswith(" Rome")
    assert found[1]["said"].startswith(" Au")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--method", "r_romee"), 2),
        (("--set", "roundz=2"), 2),
        (("--layers", "one"), 2),
        (("--layers", "9"), 2),
        (("--method", "grace"), 2),
        (("--text", "no-such-file"), 2),
        (("--questions", "no-such-file"), 2),
        (("--model", "no-such-model"), 2),
        (("--method", "fine_tune", "--set", "bound=50.0", "--set", "learning_rate=50.0", "--tolerance", "0.5"), 3),
    ],
)
def test_refusals(place, tmp_path, more, code):
    done = edit(place, tmp_path / "e", *more)
    assert done.exit_code == code, done.output
    assert not (tmp_path / "e").exists()


def test_a_sequence_that_breaks_the_model_is_stopped(place, tmp_path):
    done = edit(place, tmp_path / "e", "--method", "fine_tune", "--set", "bound=50.0", "--set", "learning_rate=50.0",
                "--stop-at", "1.1")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "Stopped at request 0" in done.output
    said = json.loads((tmp_path / "e" / "edits.json").read_text())
    assert (said["n_edits"], said["stopped"]) == (0, 0)
    assert bits(load_lm(tmp_path / "e")) == bits(load_lm(place / "model"))


def test_layers(place, tmp_path):
    for layers in ("2", "trace"):
        done = edit(place, tmp_path / layers, *SMALL, "--layers", layers)
        assert done.exit_code == 0, done.output
        said = json.loads((tmp_path / layers / "edits.json").read_text())
        assert {e["layer"] for e in said["edits"]} == {2} or layers == "trace"
