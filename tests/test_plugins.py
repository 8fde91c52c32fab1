"""Methods from files: through the real command line, in worker processes, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from commands import Done, refusal
from plugin import PLUGIN

from psdbench import registry
from psdbench.config import PluginRef
from psdbench.errors import EnvironmentProblem, UsageError
from psdbench.job import Task, Watch
from psdbench.launch.backlog import Backlog
from psdbench.launch.local import Pool
from psdbench.plan import make_plan
from psdbench.settings import resolve
from psdbench.store.manifest import read_manifest
from psdbench.store.run import job_folder, job_folders, read_job


@pytest.fixture(autouse=True)
def forget_plugins() -> Iterator[None]:
    yield
    registry.use_plugins(())


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "my plugin, v2.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture
def small(tiny_prior_folder: Path, tmp_path: Path) -> list[object]:
    """The smallest run, of the method `tempered`."""
    (tmp_path / "p.txt").write_text("a red cube\n")
    where = ["--prior", tiny_prior_folder, "--prompts", tmp_path / "p.txt", "--out", tmp_path / "run"]
    sizes = ["--seeds", 1, "--steps", 2, "--set", "voxels.resolution=8", "--set", "optimize.size=16"]
    return ["--methods", "tempered", *where, *sizes, "--metrics", "none", "--device", "cpu", "--workers", 1]


def test_a_file_gives_a_method_to_run_plan_and_list(
    program: Callable[..., Done], plugin: Path, small: list[object], tmp_path: Path
) -> None:
    listed = json.loads(program("list", "methods", "--plugin", plugin, "--json").out)
    entry = next(entry for entry in listed if entry["name"] == "tempered")
    assert entry["cost_per_view"]["denoiser_forwards"] == 2
    assert entry["plugin"]["file"] == str(plugin)
    assert [p["name"] for p in entry["parameters"]] == ["temperature"]
    assert "tempered" not in program("list", "methods").out

    planned = program("plan", *small, "--plugin", plugin, "--set", "tempered.temperature=3")
    assert planned.code == 0
    assert "1 tempered" in planned.out
    assert f"method 'tempered' from {plugin} (sha256 " in planned.err

    done = program("run", *small, "--plugin", plugin)
    assert done.code == 0, done.err
    (folder,) = job_folders(tmp_path / "run")
    manifest, spec = read_manifest(folder), read_job(folder)
    assert manifest is not None
    assert manifest.status == "finished"
    assert spec.plugin == registry.plugin_ref("tempered") == PluginRef(spec.plugin.sha256, str(plugin))
    assert not list(tmp_path.rglob("__pycache__"))
    assert "1 of 1 jobs were finished before" in program("run", *small, "--plugin", plugin).err


def test_an_edited_plugin_makes_new_jobs_and_the_report_tells_them_apart(
    program: Callable[..., Done], plugin: Path, small: list[object], tmp_path: Path
) -> None:
    program("run", *small, "--plugin", plugin)
    plugin.write_text(PLUGIN.replace("/ self.temperature", "* self.temperature"))  # of the same length
    assert program("run", *small, "--plugin", plugin).err.count(": started") == 1
    assets = [(folder / "asset.safetensors").read_bytes() for folder in job_folders(tmp_path / "run")]
    assert len(set(assets)) == 2
    labels = {
        row["method"]
        for row in json.loads(program("report", tmp_path / "run", "--format", "json").out)["methods"]
    }
    assert len(labels) == 2
    assert all(label.startswith("tempered(plugin=") for label in labels)


def test_the_place_of_a_plugin_is_not_its_identity(plugin: Path, small: list[object], tmp_path: Path) -> None:
    shutil.copy(plugin, tmp_path / "elsewhere.py")
    options = {"methods": ("tempered",), "prior": str(small[3]), "prompts": (str(tmp_path / "p.txt"),)}
    ids = []
    for file in (plugin, tmp_path / "elsewhere.py"):
        (spec,) = make_plan(resolve({**options, "seeds": 1, "plugin": [str(file)]}, None)).jobs
        assert spec.plugin is not None
        assert spec.plugin.file == str(file)
        ids.append(spec.id)
    assert ids[0] == ids[1]
    shipped = replace(spec, plugin=None)
    assert shipped.id != ids[0]


def test_a_worker_process_finds_a_plugin(plugin: Path, small: list[object], tmp_path: Path) -> None:
    sizes = ["voxels.resolution=8", "optimize.size=16", "optimize.steps=2"]
    options = {
        "methods": ["tempered"],
        "prior": str(small[3]),
        "prompts": [str(small[5])],
        "plugin": [str(plugin)],
    }
    (spec,) = make_plan(resolve({**options, "seeds": 1, "device": "cpu"}, None, sizes)).jobs
    registry.use_plugins(())
    pool = Pool(1, "cpu", Watch())
    (outcome,) = pool.run(Backlog([Task(spec, job_folder(tmp_path / "run", spec), ())]))
    assert (outcome.status, outcome.reason) == ("finished", "")


def test_the_variable_names_several_plugins(
    program: Callable[..., Done], plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.py").write_text(PLUGIN.replace("tempered", "cooled"))
    monkeypatch.setenv("PSDBENCH_PLUGIN", os.pathsep.join([str(plugin), str(tmp_path / "other.py")]))
    names = [entry["name"] for entry in json.loads(program("list", "methods", "--json").out)]
    assert {"tempered", "cooled"} <= set(names)


def test_a_config_file_names_plugins_and_sets_their_parameters(plugin: Path, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(f'plugin = "{plugin}"\n[tempered]\ntemperature = 5\n')
    config = resolve({}, tmp_path / "run.toml", ["tempered.temperature=6"])
    assert config.plugin == (str(plugin),)
    assert config.tables == {"tempered": {"temperature": 6.0}}
    (tmp_path / "run.toml").write_text("plugin = 3\n")
    with pytest.raises(UsageError, match=r"run.toml.plugin must be"):
        resolve({}, tmp_path / "run.toml")


def test_a_source_that_changed_after_the_planning_is_not_run(plugin: Path) -> None:
    registry.use_plugins([str(plugin)])
    ref = registry.plugin_ref("tempered")
    assert ref is not None
    assert registry.planned_method("tempered", ref).name == "tempered"
    with pytest.raises(EnvironmentProblem, match="no longer that which the job was planned with"):
        registry.planned_method("tempered", replace(ref, sha256="0" * 64))
    assert registry.planned_method("sds", None).name == "sds"


NO_METHOD = "import psdbench\nfrom psdbench.methods.sds import SDS\n"
ABSTRACT = (
    "from psdbench.guidance import Method, method\n@method('half', paper='none')\nclass Half(Method): pass\n"
)


@pytest.mark.parametrize(
    ("content", "message", "remedy"),
    [
        ("def f(:\n", "bad.py, line 1: invalid syntax", "correct the file"),
        (NO_METHOD, "bad.py defines no method", "@method('NAME'"),
        (
            "x = 1\nimport nowhere_at_all.sub\n",
            "bad.py imports 'nowhere_at_all', which is not there",
            "pip install",
        ),
        ("x = 1\ny = x / 0\n", "bad.py, line 2 cannot be imported: ZeroDivisionError", "correct the file"),
        (ABSTRACT, "method 'half' has no gradient(step)", "methods/README.md"),
        (PLUGIN.replace("tempered", "sds"), "defines 'sds', a name that psdbench has already", "rename"),
        (PLUGIN.replace("tempered", "optimize"), "defines 'optimize', a name that", "rename"),
        (PLUGIN.replace("tempered", "../up"), "'../up' is no name for a method", "a-z, 0-9 and _"),
        (PLUGIN.replace("tempered", "Big"), "'Big' is no name for a method", "a-z, 0-9 and _"),
    ],
)
def test_a_plugin_that_will_not_do_is_refused_in_one_line(
    program: Callable[..., Done], small: list[object], tmp_path: Path, content: str, message: str, remedy: str
) -> None:
    (tmp_path / "bad.py").write_text(content)
    error, advice = refusal(program("plan", *small, "--plugin", tmp_path / "bad.py"))
    assert message in error
    assert remedy in advice


def test_missing_files_and_twins_are_refused(
    program: Callable[..., Done], plugin: Path, tmp_path: Path
) -> None:
    error, _ = refusal(program("list", "methods", "--plugin", tmp_path / "nowhere.py"))
    assert "cannot read the plugin" in error
    (tmp_path / "twin.py").write_text(PLUGIN + "\n")
    done = program("list", "methods", "--plugin", plugin, "--plugin", tmp_path / "twin.py")
    assert "both define 'tempered'" in refusal(done)[0]


def test_one_file_may_hold_several_methods(tmp_path: Path) -> None:
    second = PLUGIN.partition("@method")[2].replace("tempered", "cooled").replace("Tempered", "Cooled")
    (tmp_path / "two.py").write_text(f"{PLUGIN}\n\n@method{second}")
    registry.use_plugins([str(tmp_path / "two.py")])
    assert {"tempered", "cooled"} <= set(registry.method_names())
    registry.use_plugins(())
    assert not {"tempered", "cooled"} & set(registry.method_names())
