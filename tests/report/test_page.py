"""The page without a browser: it needs nothing else, foreign text stays text, equal runs give equal bytes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from hostile import HOSTILE
from made_up_runs import PROMPTS, VIEWS, RunMaker

from psdbench.camera_config import CameraConfig
from psdbench.cameras import evaluation_rig
from psdbench.job.evaluate import write_geometry
from psdbench.report import build_report
from psdbench.report.page import packed_plotly

Maker = Callable[..., RunMaker]
ADDRESSES = ("src", "href", "action", "data", "poster", "srcset", "formaction", "background")


class Page(HTMLParser):
    """Tags, attributes that load something, and the content of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str, str]] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs).get("type") or "code", ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        else:
            self.words.append(data)

    @property
    def data(self) -> dict:
        """What the script of the page is given for the gallery of the only protocol."""
        (gallery,) = json.loads(dict(self.scripts)["application/json"])
        return gallery


def page_of(report_path: Path) -> Page:
    """The page, read back."""
    return Page(report_path.read_text(encoding="utf-8"))


def add_depth(maker: RunMaker, folder: Path) -> None:
    """A sphere of radius 0.5 as the geometry of a job's renders."""
    cameras = evaluation_rig(CameraConfig())
    origins, rays = cameras.rays(32)
    along = -(origins * rays).sum(-1)
    inside = 0.25 - (origins.square().sum(-1) - along.square())
    depth = torch.where(inside > 0, along - inside.clamp(min=0).sqrt(), 0.0)
    write_geometry(folder, (inside > 0).float()[:, None], depth[:, None])
    maker.commit(folder, "finished")


def test_the_page_needs_nothing_but_itself(make_run: Maker, tmp_path: Path) -> None:
    maker = make_run(prompts=PROMPTS[:2])
    build_report([maker.run]).write_file("html", tmp_path / "out" / "index.html")
    page = page_of(tmp_path / "out" / "index.html")
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed") or attributes.get("href") == "data:,"
        for name in set(ADDRESSES) & attributes.keys():
            assert (attributes[name] or "").startswith(("data:", "#")), (tag, name)
        assert not any(name.startswith("on") for name in attributes)
    for job in page.data["jobs"]:
        assert job["strip"].startswith("data:image/webp;base64,")
        for _, target in job["links"]:
            assert (tmp_path / "out" / target).exists()
    style = re.findall(r"url\(|@import", "".join(page.words))
    assert not style


def test_only_the_scripts_of_the_page_may_run(make_run: Maker, tmp_path: Path) -> None:
    maker = make_run(prompts=PROMPTS[:1], seeds=(0,))
    for folder in (maker.run / "jobs").iterdir():
        add_depth(maker, folder)
    build_report([maker.run]).write_file("html", tmp_path / "report.html")
    page = page_of(tmp_path / "report.html")
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    kinds = dict(page.scripts)
    assert set(kinds) == {"application/json", "text/plain", "code"}
    library = zlib.decompress(base64.b64decode(kinds["text/plain"])).decode()
    allowed = re.search(r"script-src ([^;]*);", policy or "")
    assert allowed
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
        for code in (kinds["code"], library)
    }
    assert set(allowed[1].split()) == hashes
    assert "default-src 'none'" in (policy or "")
    assert "plotly.js" in library[:200]


def test_assets_become_points_on_their_surface(make_run: Maker, tmp_path: Path) -> None:
    maker = make_run(prompts=PROMPTS[:1], seeds=(0, 1))
    for folder in (maker.run / "jobs").iterdir():
        add_depth(maker, folder)
    build_report([maker.run]).write_file("html", tmp_path / "report.html")
    jobs = page_of(tmp_path / "report.html").data["jobs"]
    assert [job["seed"] for job in jobs if "points" in job] == [0, 0]
    raw = torch.frombuffer(bytearray(base64.b64decode(jobs[0]["points"])), dtype=torch.uint8).view(-1, 6)
    places = raw[:, :3].float() / 127.5 - 1
    assert len(places) > 300
    assert (places.norm(dim=-1) - 0.5).abs().max() < 0.03


def test_without_depth_the_library_is_left_out(make_run: Maker, tmp_path: Path) -> None:
    build_report([make_run(prompts=PROMPTS[:1], seeds=(0,)).run]).write_file("html", tmp_path / "a.html")
    assert (tmp_path / "a.html").stat().st_size < 300_000
    assert len(packed_plotly()[0]) < 2_500_000


def test_200_hostile_prompts_stay_text(make_run: Maker, tmp_path: Path) -> None:
    assert len(set(HOSTILE)) == 200
    maker = make_run(methods=[])
    for prompt in HOSTILE[::9]:
        maker.finished("psd", prompt, 0)
    for index, prompt in enumerate(HOSTILE):
        maker.diverged("sds", prompt, 0, reason=HOSTILE[-index])
    build_report([maker.run]).write_file("html", tmp_path / "report.html")
    page = page_of(tmp_path / "report.html")
    assert [kind for kind, _ in page.scripts] == ["application/json", "code"]
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"iframe", "object", "embed", "form", "marquee", "math", "video"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "".join(page.words).count("hacked()") > 50
    assert any("49" not in words and "{{7*7}}" in words for words in page.words)


def test_equal_runs_give_equal_pages(make_run: Maker, tmp_path: Path) -> None:
    report = build_report([make_run(prompts=PROMPTS[:2], seeds=(0,)).run])
    for name in ("a", "b"):
        report.write_file("html", tmp_path / "same" / f"{name}.html")
    assert (tmp_path / "same" / "a.html").read_bytes() == (tmp_path / "same" / "b.html").read_bytes()


def test_figures_lie_beside_the_page_with_their_numbers(make_run: Maker, tmp_path: Path) -> None:
    report = build_report([make_run().run])
    report.write_file("html", tmp_path / "report.html")
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {
        f"{name}.{kind}"
        for name in ("gains", "cost-seconds", "cost-denoiser-forwards")
        for kind in ("svg", "csv")
    }
    lines = (tmp_path / "plots" / "cost-denoiser-forwards.csv").read_text().splitlines()
    assert (
        lines[0]
        == "method,denoiser forwards,true_preference,true_preference_low,true_preference_high,on the front"
    )
    assert lines[1].startswith("sds,20,")
    svg = (tmp_path / "plots" / "gains.svg").read_text()
    assert "psd: hps_shapes" in svg
    assert "currentColor" in svg


def test_the_worst_view_is_marked(make_run: Maker, tmp_path: Path) -> None:
    maker = make_run(methods=[])
    values = [float(10 + i) for i in range(VIEWS)]
    values[3] = 1.5
    score = {"sha256": "d" * 64, "higher_is_better": True, "values": values}
    maker.finished("sds", PROMPTS[0], 0, {"true_preference": score})
    build_report([maker.run]).write_file("html", tmp_path / "report.html")
    job = page_of(tmp_path / "report.html").data["jobs"][0]
    assert (job["worst"], job["worstText"]) == (3, "true_preference 1.500")


def test_more_jobs_than_fit_are_named_not_shown(
    make_run: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("psdbench.report.imagery.PICTURED", 5)
    build_report([make_run().run]).write_file("html", tmp_path / "report.html")
    page = page_of(tmp_path / "report.html")
    assert len(page.data["jobs"]) == 5
    assert {job["seed"] for job in page.data["jobs"]} == {0}
    assert any("7 finished jobs without a picture here" in words for words in page.words)


def test_nothing_finished_is_a_page_that_says_so(make_run: Maker, tmp_path: Path) -> None:
    maker = make_run(methods=[])
    maker.diverged("sds", PROMPTS[0])
    build_report([maker.run]).write_file("html", tmp_path / "report.html")
    page = page_of(tmp_path / "report.html")
    assert any("Nothing is scored yet: 1 of 1 job without a result (1 diverged)" in w for w in page.words)
    assert page.data["jobs"] == []


def test_damaged_pictures_are_left_out_and_told(make_run: Maker, tmp_path: Path) -> None:
    maker = make_run(prompts=PROMPTS[:1], seeds=(0, 1))
    broken, lost, partial, _ = sorted((maker.run / "jobs").iterdir())
    (broken / "renders" / "view_00.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (partial / "renders" / "view_03.png").unlink()
    for path in (lost / "renders").iterdir():
        path.unlink()
    build_report([maker.run]).write_file("html", tmp_path / "report.html")
    page = page_of(tmp_path / "report.html")
    assert len(page.data["jobs"]) == 1
    assert any("3 finished jobs whose renders are missing or damaged" in words for words in page.words)
