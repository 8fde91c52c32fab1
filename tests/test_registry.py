"""Names: found lazily, refused with a suggestion."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from psdbench import registry
from psdbench.errors import EnvironmentProblem, UsageError


def test_methods_are_the_files() -> None:
    names = registry.method_names()
    assert {"sds", "vsd", "psd"} <= set(names)
    for name in names:
        cls = registry.method_class(name)
        assert cls.name == name
        assert cls.paper
        assert cls() == cls()


@pytest.mark.parametrize(("typo", "meant"), [("psdd", "psd"), ("SDS", "sds"), ("vds", "vsd")])
def test_did_you_mean(typo: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"unknown method '{typo}'") as caught:
        registry.method_class(typo)
    assert f"did you mean '{meant}'?" in caught.value.remedy


@pytest.mark.parametrize("name", ["../sds", "sds.py", "__init__", ""])
def test_names_are_not_paths(name: str) -> None:
    with pytest.raises(UsageError, match="unknown method"):
        registry.method_class(name)


def test_priors(tiny_prior_folder: Path, tmp_path: Path) -> None:
    ref = registry.prior_ref(str(tiny_prior_folder))
    assert ref.name == tiny_prior_folder.name
    assert ref == registry.prior_ref(str(tiny_prior_folder))
    assert registry.load_prior(ref, "cpu").num_timesteps == 1000
    with pytest.raises(UsageError, match="unknown prior 'shape'") as caught:
        registry.prior_folder("shape")
    assert "did you mean 'shapes'?" in caught.value.remedy
    with pytest.raises(EnvironmentProblem, match="no unet/ in it"):
        registry.prior_facts(str(tmp_path))


def test_a_changed_prior_is_noticed(tiny_prior_folder: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "tiny"
    shutil.copytree(tiny_prior_folder, folder)
    ref = registry.prior_ref(str(folder))
    assert ref.sha256 == registry.prior_ref(str(tiny_prior_folder)).sha256
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("0.012", "0.013"))
    with pytest.raises(EnvironmentProblem, match="are not those that the job was planned with"):
        registry.load_prior(ref, "cpu")


def test_names_need_no_torch() -> None:
    code = "import sys; from psdbench import registry; registry.method_names(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_split_names() -> None:
    assert registry.split_names(["psd,sds", "vsd", " sds ,,"]) == ["psd", "sds", "vsd"]
