"""All stages of the world's training in their order, and the folder that each leaves behind.

pool → autoencoder, text encoder → prior → pairs → aesthetic head, HPS, ImageReward; CLIP and judge need the
text encoder and the pool alone. A stage whose folder is there is skipped; a stage that was interrupted goes on from
its checkpoint. Stages that do not need each other may run in processes of their own.
"""

from __future__ import annotations

import copy
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from psdbench.scorers.aesthetic import save_head
from psdbench.scorers.preprocess import Preprocess
from psdbench.world.training import autoencoder, clip, judge_training, pairs, pool, prior, rewards
from psdbench.world.training.tokenizers import save_bert_tokenizer, save_clip_tokenizer

PREPROCESS = Preprocess(64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Pipeline:
    """Trains into `out`, keeps checkpoints and pictures in `work`; everything follows from the seed."""

    out: Path
    work: Path
    seed: int
    device: str

    def run(self, only: str = "") -> None:
        """Run all stages, or the named one; each says how long it took."""
        self.work.mkdir(parents=True, exist_ok=True)
        for name, stage in self.stages().items():
            if only in ("", name):
                began = time.perf_counter()
                stage()
                print(
                    f"{name:12s} ready after {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True
                )

    def stages(self) -> dict[str, Callable[[], None]]:
        """Stage name → what it does, in order."""
        return {
            "pool": lambda: pool.draw(self.work, self.seed),
            "autoencoder": self._autoencoder,
            "text_encoder": self._text_encoder,
            "prior": self._prior,
            "clip": self._clip,
            "judge": self._judge,
            "pairs": self._pairs,
            "aesthetic": self._aesthetic,
            "hps": self._hps,
            "image_reward": self._image_reward,
        }

    def _autoencoder(self) -> None:
        folder = self.out / "prior" / "vae"
        if not (folder / "config.json").exists():
            _save_pretrained(autoencoder.train(self.work, self.seed, self.device), folder)

    def _text_encoder(self) -> None:
        folder, tokenizer = self.out / "prior" / "text_encoder", self.out / "prior" / "tokenizer"
        if not (folder / "config.json").exists():
            save_clip_tokenizer(tokenizer)
            training = clip.ClipTraining(self.work, tokenizer, self.seed + 1, self.device)
            _save_pretrained(_text_model(training.towers()), folder)

    def _clip(self) -> None:
        folder = self.out / "clip"
        if not (folder / "config.json").exists():
            save_clip_tokenizer(folder)
            training = clip.ClipTraining(self.work, folder, self.seed + 1, self.device)
            PREPROCESS.save(folder)
            _save_pretrained(training.vision(), folder)

    def _judge(self) -> None:
        folder = self.out / "judge"
        if (folder / "model.safetensors").exists():
            return
        model = judge_training.train(self.work, self.seed + 2, self.device)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {k: v.half().contiguous().cpu() for k, v in model.state_dict().items()},
            folder / "model.safetensors",
        )

    def _prior(self) -> None:
        folder = self.out / "prior"
        if (folder / "model_index.json").exists():
            return
        vae, text, tokenizer = (
            self._load("prior/vae"),
            self._load("prior/text_encoder"),
            self._tokenizer("prior/tokenizer"),
        )
        model = prior.train(self.work, vae, text, tokenizer, self.seed + 3, self.device)
        _save_pretrained(model, folder / "unet")
        prior.save_scheduler(folder / "scheduler")
        parts = {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderTiny"],
                 "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
                 "scheduler": ["diffusers", "DDIMScheduler"]}  # fmt: skip
        index = {"_class_name": "StableDiffusionPipeline", **parts}
        (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")

    def _groups(self, held_out: bool = False) -> pairs.Groups:
        models = pairs.PriorModels(
            self._load("prior/vae"), self._load("prior/unet"), self._load("prior/text_encoder"),
            self._tokenizer("prior/tokenizer"), self.device,
        )  # fmt: skip
        count = pairs.HELD_OUT_GROUPS if held_out else pairs.GROUPS
        name = "held-out" if held_out else "training"
        return pairs.draw(self.work, name, count, self.seed + 4 + held_out, models, held_out)

    def _pairs(self) -> None:
        self._groups(held_out=True)
        self._groups()

    def _aesthetic(self) -> None:
        folder = self.out / "aesthetic"
        if not (folder / "score.json").exists():
            head = rewards.train_aesthetic(
                self.work, self._groups(), self._load("clip"), self.seed + 6, self.device
            )
            save_head(head, folder)

    def _hps(self) -> None:
        folder = self.out / "hps"
        if (folder / "config.json").exists():
            return
        tokenizer = self._tokenizer("clip")
        model = rewards.train_hps(
            self.work, self._groups(), self._load("clip"), tokenizer, self.seed + 7, self.device
        )
        save_clip_tokenizer(folder)
        PREPROCESS.save(folder)
        _save_pretrained(model, folder)

    def _image_reward(self) -> None:
        folder = self.out / "image_reward"
        if (folder / "config.json").exists():
            return
        save_bert_tokenizer(folder)
        PREPROCESS.save(folder)
        model = rewards.train_image_reward(
            self.work, self._groups(), self._tokenizer("image_reward"), self.seed + 8, self.device
        )
        model.save(folder)

    def _load(self, part: str) -> Any:
        """A trained part, through the class that loads the real one."""
        from diffusers import AutoencoderTiny, UNet2DConditionModel
        from transformers import CLIPModel, CLIPTextModel

        classes = {
            "vae": AutoencoderTiny,
            "unet": UNet2DConditionModel,
            "text_encoder": CLIPTextModel,
            "clip": CLIPModel,
        }
        kind = classes[part.rsplit("/", 1)[-1]]
        model = kind.from_pretrained(self.out / part, local_files_only=True, use_safetensors=True)
        return model.float().to(self.device).eval().requires_grad_(False)

    def _tokenizer(self, part: str) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.out / part, local_files_only=True)


def _text_model(clip_model: Any) -> nn.Module:
    """CLIP's text tower as the CLIPTextModel that Stable Diffusion folders hold."""
    from transformers import CLIPTextModel

    text = CLIPTextModel(clip_model.config.text_config)
    text.load_state_dict(clip_model.text_model.state_dict() if _flat(text) else _prefixed(clip_model))
    return text.eval().requires_grad_(False)


def _flat(text: nn.Module) -> bool:
    """Whether this version of transformers holds the tower's parts directly in CLIPTextModel."""
    return not any(key.startswith("text_model.") for key in text.state_dict())


def _prefixed(clip_model: Any) -> dict[str, torch.Tensor]:
    return {f"text_model.{key}": value for key, value in clip_model.text_model.state_dict().items()}


def _save_pretrained(model: Any, folder: Path) -> None:
    """Write config and half-precision safetensors, then move them in: a half-written stage does not count."""
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    copy.deepcopy(model).half().save_pretrained(temporary)
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(temporary.iterdir(), key=lambda p: p.name == "config.json"):
        shutil.move(path, folder / path.name)
    temporary.rmdir()
