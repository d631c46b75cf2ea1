"""The house rules that no single method's test can see."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import corrigible
from corrigible import _registry

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "corrigible"
PYTHON = [
    p for d in ("src", "tests", "evidence", "tools", "benchmarks", "examples") for p in (ROOT / d).rglob("*.py")
]
ROOMS = _registry.method_rooms()


def run(*words, cwd=ROOT, **environment):
    import os

    return subprocess.run(
        [str(w) for w in words], cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment}
    )


# --- what is generated is fresh -----------------------------------------------------------------------------


def test_index_is_fresh():
    assert _registry.INDEX.read_text(encoding="utf-8") == _registry.build_index(), "run tools/build_index.py"


@pytest.mark.parametrize("room", ROOMS)
def test_stubs_are_fresh(room):
    stub = PACKAGE / room / "__init__.pyi"
    assert stub.read_text(encoding="utf-8") == _registry.build_stub(room), "run tools/build_index.py"


# --- importing is quick and layers hold ---------------------------------------------------------------------


def test_import_is_quick_and_light():
    """Naming all methods imports neither numpy, torch nor pandas, and takes under 0.1 s of the process's time."""
    probe = (
        "import sys, time; start = time.process_time()\n"
        "import corrigible; corrigible.list_methods()\n"
        "print(time.process_time() - start, {'numpy', 'torch', 'pandas', 'sklearn'} & set(sys.modules) or 'light')"
    )
    seconds, loaded = zip(*(run(sys.executable, "-c", probe).stdout.split(" ", 1) for _ in range(5)), strict=True)
    assert {text.strip() for text in loaded} == {"light"}
    assert min(map(float, seconds)) < 0.1


def test_layers():
    pytest.importorskip("importlinter")
    linted = run(Path(sys.executable).with_name("lint-imports"), "--no-cache")
    assert linted.returncode == 0, linted.stdout[-2000:] + linted.stderr


# --- names --------------------------------------------------------------------------------------------------


def test_public_packages_are_those_on_disk():
    on_disk = {p.parent.name for p in PACKAGE.glob("*/__init__.py") if not p.parent.name.startswith("_")}
    modules = {p.stem for p in PACKAGE.glob("*.py") if not p.stem.startswith("_")} - {"cli"}
    assert on_disk | modules == set(corrigible._ROOMS)


@pytest.mark.parametrize("name", ["", *corrigible._ROOMS])
def test_all_is_what_is_there(name):
    module = importlib.import_module(f"corrigible.{name}".rstrip("."))
    declared = getattr(module, "__all__", None)
    if declared is None:  # a plain module, such as errors
        return
    assert len(declared) == len(set(declared))
    for public in declared:
        assert getattr(module, public) is not None
    assert set(declared) <= set(dir(module))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_shows_the_objects_of_its_cards(room):
    cards = [corrigible.card(name) for name in corrigible.list_methods(room=room)]
    expected = {n for c in cards for n in (c.obj, *c.also)}
    assert set(importlib.import_module(f"corrigible.{room}").__all__) == expected


@pytest.mark.parametrize("name", corrigible.list_methods())
def test_a_method_is_four_files(name):
    card = corrigible.card(name)
    assert card.module == f"corrigible.{card.room}._{name}"
    assert (ROOT / "tests" / card.room / f"test_{name}.py").is_file()
    assert (PACKAGE / card.room / f"_{name}.py").read_text(encoding="utf-8").startswith('"""')
    scripts = [p.read_text(encoding="utf-8") for p in (ROOT / "evidence").glob("[!_]*.py")]
    assert any(f'"{name}"' in text for text in scripts), "no evidence names the method"


@pytest.mark.parametrize("room", sorted(set(corrigible._ROOMS) - {"errors"}))
def test_every_room_has_tests(room):
    here = [*(ROOT / "tests" / room).glob("test_*.py"), *(ROOT / "tests").glob(f"test_*{room}*.py")]
    contracts = [ROOT / "tests" / "test_contracts.py"] if room == "testing" else []
    assert here or contracts


def test_test_modules_have_names_of_their_own():
    """Test folders are no packages, so that two modules of one name would hide each other."""
    names = [p.name for p in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))


# --- text ---------------------------------------------------------------------------------------------------


def test_no_file_is_long():
    """A list of cases may be longer than code that must be taken in at once."""
    lengths = {p.relative_to(ROOT).as_posix(): len(p.read_text().splitlines()) for p in PYTHON}
    assert not {p: n for p, n in lengths.items() if n > (750 if p.startswith("tests/") else 500)}


FORBIDDEN = ["/work/", "../shared", "/tmp/", "/root/", "FIXME", "TODO"]


def test_no_forbidden_words():
    """Nothing speaks of the machine it was written on, and nothing is left to fill."""
    folders = ("src", "docs", "tests", "evidence", "examples", "changes", "benchmarks")
    kinds = {".py", ".pyi", ".md", ".rst", ".tsv", ".json", ".bib", ".j2", ".html", ".css", ".js", ".toml"}
    skipped = {"_build", "generated", "gallery", "rooms"}
    files = [p for d in folders for p in (ROOT / d).rglob("*") if p.suffix in kinds and not skipped & set(p.parts)]
    files += [p for p in ROOT.glob("*") if p.suffix in kinds]
    files.remove(Path(__file__))
    found = [
        f"{p.relative_to(ROOT)}: {word}"
        for p in files
        for word in FORBIDDEN
        if word in p.read_text(encoding="utf-8")
    ]
    assert not found


def test_random_state_is_never_global():
    """``numpy.random`` functions that use the global state occur nowhere but where tests seed it to prove that."""
    calls = re.compile(r"np\.random\.(seed|rand|randn|randint|normal|uniform|choice|shuffle|permutation)\(")
    files = [p for p in PYTHON if "testing" not in p.parts and p.name != "test_house.py"]
    lines = [(p.relative_to(ROOT).as_posix(), line) for p in files for line in p.read_text("utf-8").splitlines()]
    assert not [found for found in lines if calls.search(found[1]) and "noqa: NPY002 - " not in found[1]]


def test_method_files_import_no_other_room():
    """What import-linter sees at the top, this sees inside functions too."""
    found = []
    for room in ROOMS:
        for path in (PACKAGE / room).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("corrigible."):
                    other = (node.module or "").split(".")[1]
                    if other in ROOMS and other != room:
                        found.append(f"{path.name} imports {node.module}")
    assert not found


# --- packaging and tools ------------------------------------------------------------------------------------


def test_wheel_holds_only_the_package(tmp_path):
    pytest.importorskip("hatchling")
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names} == {"corrigible", f"corrigible-{corrigible.__version__}.dist-info"}
    for needed in ("py.typed", "_index.json", "references.bib", "papers/index.tsv"):
        assert f"corrigible/{needed}" in names
    assert any(n.startswith("corrigible/papers/results/") and n.endswith(".json") for n in names)
    assert not [n for n in names if "__pycache__" in n or "/tests/" in n]


@pytest.fixture
def copy(tmp_path):
    """A copy of the sources in which the tools may write."""
    for folder in ("src", "tools", "changes"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "tests/test_contracts.py", "tests/conftest.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path


def tool(copy, name, *words):
    return run(sys.executable, copy / "tools" / name, *words, cwd=copy, PYTHONPATH=str(copy / "src"))


def new_one(copy, kind):
    """Return the four files of a new method."""
    made = tool(copy, "new_method.py", kind, "new_one", "--room", "uncertainty", "--paper", "deup")
    assert made.returncode == 0, made.stderr
    assert tool(copy, "build_index.py").returncode == 0
    source, test = copy / "src/corrigible/uncertainty/_new_one.py", copy / "tests/uncertainty/test_new_one.py"
    return source, test, copy / "evidence/new_one.py", copy / "changes/new_one.feature.md"


@pytest.mark.parametrize(("kind", "obj"), [("calibrator", "NewOne"), ("measure", "new_one"), ("law", "NewOne")])
def test_new_method_writes_four_clean_files(copy, kind, obj):
    files = new_one(copy, kind)
    assert all("TODO" in f.read_text() for f in files)
    lines = (copy / "src/corrigible/uncertainty/__init__.pyi").read_text()
    assert f"from corrigible.uncertainty._new_one import {obj} as {obj}" in lines
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        pytest.skip("ruff is not installed")
    for words in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        linted = run(ruff, *words, *files[:3], cwd=copy)
        assert linted.returncode == 0, linted.stdout


def test_new_method_fails_until_filled(copy):
    new_one(copy, "calibrator")
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", "-k", "new_one")
    tests = run(sys.executable, *words, cwd=copy, PYTHONPATH=str(copy / "src"))
    assert tests.returncode == 1
    for failed in ("test_new_one.py::test_known_answer", "new_one-0-check_card", "new_one-0-check_rows_sum_to_one"):
        assert re.search(f"FAILED .*{failed}", tests.stdout)
    run_it = "from corrigible.papers import run_evidence; run_evidence('new_one')"
    evidence = run(sys.executable, "-c", run_it, cwd=copy, PYTHONPATH=str(copy / "src"))
    assert "NotImplementedError" in evidence.stderr
    assert not list(copy.rglob("new_one.json"))


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("calibrators", "x", "--room", "data"), "Did you mean 'calibrator'"),
        (("policy", "x", "--room", "data"), "no contract"),
        (("measure", "X-y", "--room", "data"), "snake_case"),
        (("measure", "x", "--room", "dat"), "Did you mean 'data'"),
        (("measure", "x", "--room", "data", "--paper", "deupp"), "Did you mean 'deup'"),
        (("measure", "temperature_scaling", "--room", "data"), "already"),
    ],
)
def test_new_method_refuses(copy, words, hint):
    before = sorted(copy.rglob("*.py"))
    refused = tool(copy, "new_method.py", *words)
    assert refused.returncode == 1
    assert hint in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert sorted(copy.rglob("*.py")) == before


def test_change_notes_keep_the_rules():
    shown = run(sys.executable, ROOT / "tools" / "changelog.py")
    assert shown.returncode == 0, shown.stderr


def test_changelog_gathers_notes(copy):
    shutil.rmtree(copy / "changes")
    (copy / "changes").mkdir()
    (copy / "CHANGELOG.md").write_text("# Changelog\n\n## 0.0.1 (2020-01-01)\n\n### New\n\n- Old.\n")
    (copy / "changes" / "b.feature.md").write_text("Second.\n")
    (copy / "changes" / "a.fix.md").write_text("First.\n")
    assert tool(copy, "changelog.py", "0.2.0").returncode == 0
    text = (copy / "CHANGELOG.md").read_text()
    assert re.search(
        r"^# Changelog\n\n## 0\.2\.0 \(\d{4}-\d\d-\d\d\)\n\n### New\n\n- Second\.\n\n### Fixed\n\n", text
    )
    assert text.index("- First.") < text.index("## 0.0.1")
    assert text.count("# Changelog\n") == 1
    assert not list((copy / "changes").glob("*"))
    assert "no note waits" in tool(copy, "changelog.py", "0.3.0").stderr
    (copy / "changes" / "c.feature.md").write_text("No full stop\n")
    refused = tool(copy, "changelog.py", "0.3.0")
    assert "full stop" in refused.stderr
    assert (copy / "CHANGELOG.md").read_text() == text


def test_oldest_versions_are_those_of_the_package():
    """``tools/oldest.txt`` pins the least version of every dependency that the package states."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    least = dict(re.split(">=", line) for line in stated)
    lines = (ROOT / "tools/oldest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    assert set(least) <= set(pinned)
    assert not {name for name, version in least.items() if not pinned[name].startswith(version)}
