"""MVDream's public checkpoint becomes a folder: every weight has one place, and other checkpoints are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from folders import byte_tokenizer
from ldm_layout import checkpoint
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from psdbench.errors import EnvironmentProblem, UsageError
from psdbench.priors.convert import convert_mvdream
from psdbench.priors.folder import inspect
from psdbench.priors.mvdream import MVDreamPrior

UNET = "model.diffusion_model."


def padded_tokenizer() -> Any:
    """CLIP's vocabulary begins with "!", which is what OpenCLIP pads with."""
    tokenizer = byte_tokenizer(77)
    assert tokenizer.convert_tokens_to_ids("!") == 0
    return tokenizer


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of the original layout, and a vocabulary."""
    place = tmp_path_factory.mktemp("original")
    torch.save(checkpoint(), place / "sd-v2.1-base-4view.pt")
    padded_tokenizer().save_pretrained(place / "tokenizer")
    return place


@pytest.fixture(scope="module")
def converted(files: Path) -> Path:
    convert_mvdream(files / "sd-v2.1-base-4view.pt", files / "out" / "mvdream", files / "tokenizer")
    return files / "out" / "mvdream"


def stored(folder: Path, part: str) -> dict[str, Tensor]:
    (file,) = (folder / part).glob("*.safetensors")
    return load_file(file)


def test_the_folder_is_a_prior_that_denoises(converted: Path) -> None:
    assert inspect(converted).kind == "mvdream"
    prior = MVDreamPrior.load(converted)
    x_t, t = torch.randn(4, 4, 8, 8), torch.full((4,), 500)
    eps = prior.predict_noise(x_t, t, prior.encode_text(["a fox"] * 4))
    assert eps.isfinite().all()
    assert (prior.latent_scale, prior.text_length, prior.prediction) == (8, 77, "epsilon")
    assert not list(converted.parent.glob(".*"))


def test_every_weight_has_one_place(converted: Path) -> None:
    """Counted in numbers: none is lost, none is used twice, but for what the text encoder leaves out."""
    source = checkpoint()
    unused = ("text_projection", "logit_scale", "transformer.resblocks.2.")
    for part, prefix in (
        ("unet", UNET),
        ("vae", "first_stage_model."),
        ("text_encoder", "cond_stage_model.model."),
    ):
        given = {k.removeprefix(prefix): v for k, v in source.items() if k.startswith(prefix)}
        used = [v.flatten() for k, v in given.items() if not k.startswith(unused)]
        made = [v.flatten() for v in stored(converted, part).values()]
        assert torch.equal(torch.cat(made).sort().values, torch.cat(used).sort().values), part


@pytest.mark.parametrize(
    ("part", "ours", "theirs"),
    [
        ("unet", "class_embedding.linear_1.weight", f"{UNET}camera_embed.0.weight"),
        ("unet", "class_embedding.linear_2.bias", f"{UNET}camera_embed.2.bias"),
        ("unet", "time_embedding.linear_1.weight", f"{UNET}time_embed.0.weight"),
        ("unet", "down_blocks.1.downsamplers.0.conv.weight", f"{UNET}input_blocks.6.0.op.weight"),
        ("unet", "down_blocks.2.resnets.1.conv2.weight", f"{UNET}input_blocks.8.0.out_layers.3.weight"),
        (
            "unet",
            "up_blocks.3.attentions.2.transformer_blocks.0.attn1.to_k.weight",
            f"{UNET}output_blocks.11.1.transformer_blocks.0.attn1.to_k.weight",
        ),
        ("unet", "up_blocks.0.upsamplers.0.conv.weight", f"{UNET}output_blocks.2.1.conv.weight"),
        ("unet", "up_blocks.1.upsamplers.0.conv.weight", f"{UNET}output_blocks.5.2.conv.weight"),
        ("unet", "mid_block.attentions.0.proj_in.weight", f"{UNET}middle_block.1.proj_in.weight"),
        (
            "vae",
            "decoder.up_blocks.0.resnets.2.conv1.weight",
            "first_stage_model.decoder.up.3.block.2.conv1.weight",
        ),
        ("vae", "encoder.mid_block.attentions.0.to_v.bias", "first_stage_model.encoder.mid.attn_1.v.bias"),
    ],
)
def test_weights_have_the_right_place(converted: Path, part: str, ours: str, theirs: str) -> None:
    assert torch.equal(stored(converted, part)[ours], checkpoint()[theirs])


def openclip(tensors: dict[str, Tensor], tokens: Tensor, blocks: int) -> Tensor:
    """OpenCLIP's text transformer up to a block, written with torch's own attention, and its last normalisation."""
    width = tensors["ln_final.weight"].shape[0]
    x = tensors["token_embedding.weight"][tokens] + tensors["positional_embedding"]
    mask = torch.full((77, 77), float("-inf")).triu(1)
    for i in range(blocks):
        part = {
            k.removeprefix(f"transformer.resblocks.{i}."): v
            for k, v in tensors.items()
            if k.startswith(f"transformer.resblocks.{i}.")
        }
        attention = torch.nn.MultiheadAttention(width, max(1, width // 64), batch_first=True)
        attention.load_state_dict(
            {k.removeprefix("attn."): v for k, v in part.items() if k.startswith("attn.")}
        )
        y = functional.layer_norm(x, (width,), part["ln_1.weight"], part["ln_1.bias"])
        x = x + attention(y, y, y, attn_mask=mask, need_weights=False)[0]
        y = functional.layer_norm(x, (width,), part["ln_2.weight"], part["ln_2.bias"])
        y = functional.gelu(functional.linear(y, part["mlp.c_fc.weight"], part["mlp.c_fc.bias"]))
        x = x + functional.linear(y, part["mlp.c_proj.weight"], part["mlp.c_proj.bias"])
    return functional.layer_norm(x, (width,), tensors["ln_final.weight"], tensors["ln_final.bias"])


@torch.no_grad()
def test_the_text_encoder_computes_what_openclip_computes(converted: Path) -> None:
    """The block before the last, padded with zeros behind the end."""
    prior = MVDreamPrior.load(converted)
    words = prior.tokenizer("a red fox").input_ids
    tokens = torch.tensor([words + [0] * (77 - len(words))])
    prefix = "cond_stage_model.model."
    tensors = {k.removeprefix(prefix): v for k, v in checkpoint().items() if k.startswith(prefix)}
    expected = openclip(tensors, tokens, blocks=2)
    torch.testing.assert_close(prior.encode_text(["a red fox"]), expected, rtol=1e-4, atol=1e-5)


def port(converted: Path, folder: Path, file: str) -> Path:
    """The diffusers port's layout: the UNet under its original names, all else as diffusers writes it."""
    for part in ("vae", "text_encoder", "tokenizer"):
        shutil.copytree(converted / part, folder / part)
    (folder / "unet").mkdir()
    (folder / "unet" / "config.json").write_text(json.dumps({"_class_name": "MultiViewUNetModel"}))
    tensors = {k.removeprefix(UNET): v for k, v in checkpoint().items() if k.startswith(UNET)}
    target = folder / "unet" / file
    save_file(tensors, target) if target.suffix == ".safetensors" else torch.save(tensors, target)
    return folder


@pytest.mark.parametrize("file", ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"])
def test_the_port_becomes_the_same_folder(converted: Path, tmp_path: Path, file: str) -> None:
    convert_mvdream(port(converted, tmp_path / "port", file), tmp_path / "out")
    for part in ("unet", "vae", "text_encoder"):
        made, expected = stored(tmp_path / "out", part), stored(converted, part)
        assert made.keys() == expected.keys()
        assert all(torch.equal(made[key], expected[key]) for key in made)
    MVDreamPrior.load(tmp_path / "out")


def without(key: str) -> Callable[[dict[str, Tensor]], Any]:
    return lambda tensors: tensors.pop(key)


def plus(key: str, shape: tuple[int, ...] = (3,)) -> Callable[[dict[str, Tensor]], Any]:
    return lambda tensors: tensors.update({key: torch.zeros(shape)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(f"{UNET}camera_embed.0.weight"), "label_emb|camera"),
        (without(f"{UNET}input_blocks.1.1.norm.bias"), "the unet lacks weights: .*attentions.0.norm.bias"),
        (without("first_stage_model.quant_conv.weight"), "the vae lacks weights: quant_conv.weight"),
        (without("cond_stage_model.model.ln_final.bias"), "the text_encoder lacks .*final_layer_norm.bias"),
        (plus(f"{UNET}image_embed.proj.weight"), "unknown weights: model.diffusion_model.image_embed"),
        (plus("first_stage_model.loss.logvar"), "unknown weights: first_stage_model.loss"),
        (plus("cond_stage_model.model.visual.proj"), "unknown weights: .*visual.proj"),
        (plus("control_model.x"), "unknown weights: control_model.x"),
        (plus(f"{UNET}camera_embed.0.weight", (128, 12)), "does not take 16 numbers"),
        (plus(f"{UNET}out.0.bias", (7,)), "the unet has other shapes of weights: conv_norm_out.bias"),
        (plus("alphas_cumprod", (1000,)), "noise schedule"),
    ],
)
def test_other_checkpoints_are_refused_by_name(
    files: Path, tmp_path: Path, change: Callable[[dict[str, Tensor]], Any], message: str
) -> None:
    tensors = checkpoint()
    change(tensors)
    save_file({key: value.clone() for key, value in tensors.items()}, tmp_path / "c.safetensors")
    with pytest.raises(EnvironmentProblem, match=message):
        convert_mvdream(tmp_path / "c.safetensors", tmp_path / "out", files / "tokenizer")
    assert {path.name for path in tmp_path.iterdir()} == {"c.safetensors"}, "nothing half done is left"


class Malicious:
    """What a pickle would execute."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("pwned"),))


def test_nothing_in_a_checkpoint_is_executed(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Malicious()}, tmp_path / "c.pt")
    with pytest.raises(EnvironmentProblem, match="cannot be read"):
        convert_mvdream(tmp_path / "c.pt", tmp_path / "out", files / "tokenizer")
    assert not (tmp_path / "pwned").exists()


def test_options_that_do_not_fit(files: Path, converted: Path, tmp_path: Path) -> None:
    source = files / "sd-v2.1-base-4view.pt"
    with pytest.raises(UsageError, match="is not empty"):
        convert_mvdream(source, converted, files / "tokenizer")
    with pytest.raises(UsageError, match="holds no vocabulary") as caught:
        convert_mvdream(source, tmp_path / "out")
    assert "--tokenizer" in caught.value.remedy
    with pytest.raises(UsageError, match="there is no"):
        convert_mvdream(tmp_path / "nothing.pt", tmp_path / "out")
    (tmp_path / "cut.pt").write_bytes(source.read_bytes()[:5000])
    with pytest.raises(EnvironmentProblem, match="cannot be read"):
        convert_mvdream(tmp_path / "cut.pt", tmp_path / "out", files / "tokenizer")
    with pytest.raises(EnvironmentProblem, match="not a tokenizer's folder"):
        convert_mvdream(source, tmp_path / "out", tmp_path / "tokenizer")


def test_the_command(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from psdbench.cli.main import app

    arguments = [files / "sd-v2.1-base-4view.pt", tmp_path / "mv", "--tokenizer", files / "tokenizer"]
    with pytest.raises(SystemExit) as ended:
        app(["convert", "mvdream", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (0, f"{tmp_path / 'mv'}\n")
    assert f"psdbench run --prior {tmp_path / 'mv'}" in err
