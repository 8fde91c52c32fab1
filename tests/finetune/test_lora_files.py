"""LoRAs of finetunings: no effect at the start, the same effect from a file, and never on the wrong prior."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from psdbench import registry
from psdbench.errors import EnvironmentProblem, UsageError
from psdbench.finetune.algorithm import Tuner
from psdbench.finetune.draft import DRaFT
from psdbench.priors.diffusers import DiffusersPrior
from psdbench.priors.finetuned import FILE, HEADER, Header, write_lora
from psdbench.streams import Streams, randn


def predict(prior: DiffusersPrior) -> torch.Tensor:
    """ε̂ under a prompt and under the empty prompt."""
    x_t = randn((1, 8, 16, 16), Streams(3)["x"]).expand(2, -1, -1, -1)
    return prior.predict_noise(x_t, torch.tensor([400, 400]), prior.encode_text(["a red cube", ""]))


def header(folder: Path, **changes: object) -> Header:
    """That of a LoRA for the prior in a folder."""
    ref = registry.prior_ref(str(folder))
    reward = {"id": "hps_shapes", "sha256": "ab" * 32}
    facts = {"name": "draft", "algorithm": "draft", "prior": ref.sha256, "prior_name": ref.name}
    return Header(**{**facts, "reward": reward, "finetuning": "cd" * 32, **changes})


@pytest.fixture
def trained(tiny_tuner: Tuner, tiny_prior_folder: Path, tmp_path: Path) -> tuple[Tuner, Path]:
    """A tuner after two steps, and the folder of its LoRA."""
    algorithm = DRaFT(batch=1, sampling_steps=2)
    for _ in range(2):
        algorithm.step(tiny_tuner)
    write_lora(tmp_path / "lora" / FILE, tiny_tuner.adapter.parameters, header(tiny_prior_folder))
    return tiny_tuner, tmp_path / "lora"


def test_a_fresh_lora_changes_no_bit(tiny_tuner: Tuner, tiny_prior_folder: Path, tmp_path: Path) -> None:
    plain = predict(DiffusersPrior.load(tiny_prior_folder))
    assert torch.equal(predict(tiny_tuner.prior), plain)
    write_lora(tmp_path / FILE, tiny_tuner.adapter.parameters, header(tiny_prior_folder))
    assert torch.equal(predict(DiffusersPrior.load(tiny_prior_folder, lora=tmp_path / FILE)), plain)


def test_switched_off_the_prior_is_the_reference_bit_for_bit(
    trained: tuple[Tuner, Path], tiny_prior_folder: Path
) -> None:
    tuner, _ = trained
    plain = predict(DiffusersPrior.load(tiny_prior_folder))
    with tuner.adapter.off():
        assert torch.equal(predict(tuner.prior), plain)
    changed = (predict(tuner.prior) - plain).abs().amax((1, 2, 3))
    assert (changed > 1e-3).all(), "both branches of the guidance are finetuned"


def test_a_stored_lora_predicts_what_the_trained_one_did(
    trained: tuple[Tuner, Path], tiny_prior_folder: Path
) -> None:
    tuner, folder = trained
    stored = load_file(folder / FILE)
    assert all(torch.equal(stored[f"unet.{name}"], p) for name, p in tuner.adapter.parameters.items())
    first, again = (DiffusersPrior.load(tiny_prior_folder, lora=folder / FILE) for _ in range(2))
    assert torch.equal(predict(first), predict(again))
    torch.testing.assert_close(predict(first), predict(tuner.prior), rtol=1e-4, atol=1e-5)
    assert first.weights[FILE]


def test_diffusers_reads_the_same_file(trained: tuple[Tuner, Path], tiny_prior_folder: Path) -> None:
    tuner, folder = trained
    prior = DiffusersPrior.load(tiny_prior_folder)
    prior.unet.load_lora_adapter(str(folder), prefix="unet", use_safetensors=True, local_files_only=True)
    torch.testing.assert_close(predict(prior), predict(tuner.prior), rtol=1e-4, atol=1e-5)


def test_the_score_of_the_renders_works_on_a_finetuned_prior(
    trained: tuple[Tuner, Path], tiny_prior_folder: Path
) -> None:
    """VSD's own LoRA starts at the finetuned prior, trains, and leaves it as it was."""
    prior = DiffusersPrior.load(tiny_prior_folder, lora=trained[1] / FILE)
    before = predict(prior)
    score = prior.tunable_score(2, 1e-2, Streams(0))
    latents, noise = randn((2, 1, 8, 16, 16), Streams(1)["latents"])
    t, text, camera = torch.tensor([300]), prior.encode_text(["a red cube"]), torch.zeros(1, 16)
    x_t = prior.add_noise(latents, noise, t)
    expected = prior.predict_noise(x_t, t, text)
    assert torch.equal(score.predict_noise(x_t, t, text, camera), expected)
    losses = [score.update(latents, t, noise, text, camera).item() for _ in range(5)]
    assert losses[-1] < losses[0]
    assert torch.equal(predict(prior), before)
    score.close()
    assert torch.equal(predict(prior), before)


def test_a_lora_of_another_prior_is_refused(
    trained: tuple[Tuner, Path], tiny_prior_folder: Path, tmp_path: Path
) -> None:
    ref = registry.prior_ref(str(tiny_prior_folder))
    assert registry.lora_ref(str(trained[1]), ref).name == "draft"
    assert registry.lora_ref(str(trained[1] / FILE), ref) == registry.lora_ref(f"{trained[1]}", ref)
    other = Path(shutil.copytree(tiny_prior_folder, tmp_path / "other"))
    config = other / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("0.012", "0.013"))
    with pytest.raises(UsageError, match=r"made for another prior: 'tiny' .* not 'other'"):
        registry.lora_ref(str(trained[1]), registry.prior_ref(str(other)))


def test_files_that_do_not_say_what_they_are_for_are_refused(tiny_prior_folder: Path, tmp_path: Path) -> None:
    ref = registry.prior_ref(str(tiny_prior_folder))
    with pytest.raises(UsageError, match="no LoRA at"):
        registry.lora_ref(str(tmp_path), ref)
    file, tensors = tmp_path / FILE, {"unet.x.lora_A.weight": torch.zeros(2, 2)}
    for metadata in (None, {HEADER: "{"}, {HEADER: json.dumps({"name": "draft"})}):
        save_file(tensors, file, metadata)
        with pytest.raises(UsageError, match="does not say which prior"):
            registry.lora_ref(str(file), ref)
    file.write_bytes(b"no tensors")
    with pytest.raises(EnvironmentProblem, match="is damaged"):
        registry.lora_ref(str(file), ref)


def test_a_name_that_could_lead_out_of_a_folder_is_refused(tiny_prior_folder: Path, tmp_path: Path) -> None:
    write_lora(tmp_path / FILE, {}, header(tiny_prior_folder, name="../draft"))
    with pytest.raises(UsageError, match=r"the name '\.\./draft'"):
        registry.lora_ref(str(tmp_path), registry.prior_ref(str(tiny_prior_folder)))


@pytest.mark.parametrize(
    "change",
    [
        lambda name, tensor: (name.replace("to_q", "to_x"), tensor),
        lambda name, tensor: (name, tensor[..., :1] if "lora_A" in name else tensor),
        lambda name, tensor: (name.replace("lora_B", "lora_C"), tensor),
    ],
    ids=["unknown module", "wrong shape", "unknown matrix"],
)
def test_matrices_that_do_not_fit_are_refused(
    change, tiny_tuner: Tuner, tiny_prior_folder: Path, tmp_path: Path
) -> None:
    spoilt = dict(change(name, p.detach()) for name, p in tiny_tuner.adapter.parameters.items())
    write_lora(tmp_path / FILE, spoilt, header(tiny_prior_folder))
    with pytest.raises(EnvironmentProblem, match="does not fit the UNet"):
        DiffusersPrior.load(tiny_prior_folder, lora=tmp_path / FILE)


def test_a_lora_that_has_changed_since_the_plan_is_noticed(
    trained: tuple[Tuner, Path], tiny_prior_folder: Path
) -> None:
    ref = registry.prior_ref(str(tiny_prior_folder))
    lora = registry.lora_ref(str(trained[1]), ref)
    tuned = registry.load_prior(ref, "cpu", lora)
    torch.testing.assert_close(predict(tuned), predict(trained[0].prior), rtol=1e-4, atol=1e-5)
    save_file(load_file(trained[1] / FILE), trained[1] / FILE)
    with pytest.raises(EnvironmentProblem, match="not the LoRA that the job was planned with"):
        registry.load_prior(ref, "cpu", lora)
