"""Methods of installed packages, with real wheels, and psdbench itself from its own wheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Done, refusal
from plugin import PLUGIN

from psdbench import plugins, registry

REPOSITORY = Path(__file__).parent.parent


def build_wheel(project: Path, folder: Path) -> Path:
    """Build a project with the build backend that is installed here, without a network."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
    ]
    done = subprocess.run(
        [*command, "--wheel-dir", folder, project], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, target: Path) -> dict[str, str]:
    """Install a wheel into a folder; the environment in which Python finds it first."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*command, "--target", target, wheel], check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}


def python(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run code in a new process, away from the repository."""
    command = [sys.executable, "-c", code]
    cwd = environment["PYTHONPATH"]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)


def make_package(folder: Path, entries: str, name: str = "lukewarm") -> Path:
    """A project with one package and the entry points given."""
    package = folder / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "tempering.py").write_text(PLUGIN)
    (package / "cooling.py").write_text(PLUGIN.replace("tempered", "cooled").replace("Tempered", "Cooled"))
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        f'[project]\nname = "{name}"\nversion = "1.0"\n'
        f'[tool.setuptools]\npackages = ["{name}"]\n[project.entry-points."{plugins.GROUP}"]\n{entries}\n'
    )
    return folder


LOOK = """
import sys
from psdbench import registry
assert {"tempered", "cooled"} <= set(registry.method_names())
assert "lukewarm" not in sys.modules  # announced, not imported
for name in ("tempered", "cooled"):
    ref = registry.plugin_ref(name)
    print(registry.planned_method(name, ref).__qualname__, ref.sha256)
"""


def test_an_installed_package_announces_methods_by_module_or_class(tmp_path: Path) -> None:
    entries = 'tempered = "lukewarm.tempering"\ncooled = "lukewarm.cooling:Cooled"'
    wheel = build_wheel(make_package(tmp_path / "project", entries), tmp_path / "wheels")
    environment = install(wheel, tmp_path / "site")
    first = python(LOOK, environment)
    assert first.returncode == 0, first.stderr
    tempered, sha256, cooled, same = first.stdout.split()
    assert (tempered, cooled, same) == ("Tempered", "Cooled", sha256)
    with (tmp_path / "site" / "lukewarm" / "__init__.py").open("a") as file:
        file.write("# edited\n")
    assert python(LOOK, environment).stdout.split()[1] != sha256


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("sds = {name}.tempering", "{name} defines 'sds', a name that psdbench has already"),
        ("warm = {name}.tempering", "the installed package {name} has no @method('warm')"),
        ("warm = {name}.nowhere", "the installed package {name} imports '{name}.nowhere'"),
        ("warm = {name}.tempering:Other", "the installed package {name} cannot be imported"),
    ],
)
def test_a_package_that_will_not_do_is_refused_in_one_line(
    program: Callable[..., Done],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    entry: str,
    message: str,
    request: pytest.FixtureRequest,
) -> None:
    """Metadata as an installation leaves it, in a folder on the path."""
    name = f"warm_{abs(hash(entry))}"
    site = make_package(tmp_path, "", name)
    facts = site / f"{name}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{entry.format(name=name)}\n")
    monkeypatch.syspath_prepend(site)
    request.addfinalizer(plugins._announced.cache_clear)
    plugins._announced.cache_clear()
    error, _ = refusal(program("plan", "--methods", "warm", "--prompts", "smoke"))
    assert message.format(name=name) in error


@pytest.mark.slow
def test_psdbench_works_from_its_own_wheel(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, project / name)
    for name in ("psdbench", "methods"):
        shutil.copytree(REPOSITORY / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    environment = install(build_wheel(project, tmp_path / "wheels"), tmp_path / "site")
    sources = {path.relative_to(project) for path in (project / "psdbench").rglob("*.py")}
    assert {str(path) for path in sources if not (tmp_path / "site" / path).is_file()} == set()
    show = "import psdbench; print(psdbench.__file__)"
    done = python(
        f"{show}; from psdbench.cli.main import app; app(['list', 'methods', '--json'])", environment
    )
    assert done.returncode == 0, done.stderr
    place, _, document = done.stdout.partition("\n")
    assert place == str(tmp_path / "site" / "psdbench" / "__init__.py")
    assert [entry["name"] for entry in json.loads(document)] == registry.shipped_methods()
