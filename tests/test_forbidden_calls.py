"""Nothing in the program unpickles, evaluates, or hands a text to a shell: its syntax trees say so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(p for folder in ("psdbench", "methods") for p in (ROOT / folder).rglob("*.py"))
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
BUILT_IN = {"eval", "exec", "compile", "__import__"}
DOTTED = {"os.system", "os.popen", "os.startfile", "subprocess.getoutput", "torch.hub.load"}
SAFE = {"yaml.safe_load", "yaml.YAMLError", "pickle.UnpicklingError"}
"""all that may be used of these packages"""
GUARDED = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
"""calls that need this argument with this value, spelled out"""


def forbidden(source: str) -> Iterator[str]:
    """What a source does that it must not, with the line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = []
        for name in names:
            unsafe = name.startswith("yaml.") or name.split(".")[0] in MODULES or name in DOTTED
            if name not in SAFE and (unsafe or name in GUARDED):
                yield f"line {node.lineno}: imports {name}"
        used = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if used.startswith("yaml.") and used not in SAFE:
            yield f"line {node.lineno}: uses {used}"
        if isinstance(node, ast.Call):
            yield from (f"line {node.lineno}: {what}" for what in _call(node))


def _call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    given = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
    if name in BUILT_IN | DOTTED:
        yield f"calls {name}"
    for ending, (key, value) in GUARDED.items():
        if name in (ending, f"numpy.{ending[3:]}") and given.get(key) is not value:
            yield f"calls {name} without {key}={value}"
    if any(keyword.arg == "shell" and given.get("shell") is not False for keyword in node.keywords):
        yield f"{name} with a shell"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_runs_what_it_reads(path: Path) -> None:
    assert list(forbidden(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import yaml.loader",
        "from yaml import load",
        "yaml.load(text)",
        "yaml.unsafe_load(text)",
        "from torch import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "np.load(path)",
        "numpy.load(path, allow_pickle=True)",
        "eval(text)",
        "exec(text)",
        "os.system('ls')",
        "subprocess.run('ls', shell=True)",
        "subprocess.run('ls', shell=flag)",
    ],
)
def test_the_check_sees_them(source: str) -> None:
    assert len(list(forbidden(source))) == 1


@pytest.mark.parametrize(
    "source",
    ["torch.load(path, weights_only=True)", "model.eval()", "yaml.safe_load(text)", "re.compile('a')"],
)
def test_the_check_lets_others_pass(source: str) -> None:
    assert list(forbidden(source)) == []
