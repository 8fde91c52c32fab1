"""Nothing in the program unpickles, evaluates, or hands a text to a shell: its syntax trees say so.

Names are followed through imports, whatever they are called there, and a forbidden function must not even be
mentioned, for it could be called elsewhere. It is a check against mistakes: who hides a name from it can.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(p for folder in ("psdbench", "methods") for p in (ROOT / folder).rglob("*.py"))
MODULES = {
    *("pickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"),
    *("yaml", "runpy", "code", "builtins"),
}
SAFE = {"yaml", "yaml.safe_load", "yaml.YAMLError", "pickle.UnpicklingError"}
"""all that may be used of these modules"""
BUILT_IN = {"eval", "exec", "compile", "__import__"}
FUNCTIONS = {
    *("os.system", "os.popen", "os.startfile"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell"),
    *("torch.hub.load", "torch.jit.load", "torch.serialization.load", "pandas.read_pickle"),
}
GUARDED = {"torch.load": ("weights_only", True), "numpy.load": ("allow_pickle", False)}
"""may only be called, with this argument of this value, spelled out"""
ALLOWED = {"psdbench/parity/official_side.py": {"uses torch.load"}}
"""it runs an official package, in an environment of that package's own, and lets it load each file once"""


def imports(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Line, the name that a source gives to something imported, and the full name of that."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                yield node.lineno, alias.asname or top, alias.name if alias.asname else top
                yield node.lineno, "", alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, alias.asname or alias.name, f"{node.module}.{alias.name}"


def full_name(node: ast.AST, known: dict[str, str]) -> str:
    """The full name of a builtin or of something imported, empty for everything else."""
    if isinstance(node, ast.Name):
        return known.get(node.id, node.id if node.id in BUILT_IN else "")
    if isinstance(node, ast.Attribute) and (owner := full_name(node.value, known)):
        return f"{owner}.{node.attr}"
    return ""


def is_forbidden(name: str) -> bool:
    """Whether a function or module must not be used at all."""
    return name in BUILT_IN | FUNCTIONS or (name.partition(".")[0] in MODULES and name not in SAFE)


def forbidden(source: str) -> set[str]:
    """What a source does that it must not, with the line."""
    tree = ast.parse(source)
    imported = list(imports(tree))
    known = {alias: name for _, alias, name in imported}
    found = {
        f"line {line}: imports {name}" for line, _, name in imported if is_forbidden(name) or name in GUARDED
    }
    guarded = set[ast.AST]()
    for node in ast.walk(tree):
        name = full_name(node, known)
        if is_forbidden(name) or (name in GUARDED and node not in guarded):
            found.add(f"line {node.lineno}: uses {name}")  # type: ignore[attr-defined]
        if isinstance(node, ast.Call):
            guarded |= {node.func} if _is_guarded(node, full_name(node.func, known)) else set()
            if _has_shell(node, full_name(node.func, known)):
                found.add(f"line {node.lineno}: a shell")
    return found


def _is_guarded(call: ast.Call, name: str) -> bool:
    key, wanted = GUARDED.get(name, ("", None))
    return any(
        k.arg == key and isinstance(k.value, ast.Constant) and k.value.value is wanted for k in call.keywords
    )


def _has_shell(call: ast.Call, name: str) -> bool:
    """Whether a call has, or may have, a shell that is not spelled out as False."""
    unnamed = {None} if name.startswith("subprocess.") else set()
    given = [keyword.value for keyword in call.keywords if keyword.arg in {"shell", *unnamed}]
    return any(not isinstance(value, ast.Constant) or value.value is not False for value in given)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_runs_what_it_reads(path: Path) -> None:
    found = {what.partition(": ")[2] for what in forbidden(path.read_text(encoding="utf-8"))}
    assert found == ALLOWED.get(str(path.relative_to(ROOT)), set())


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "import cloudpickle",
        "from joblib import load",
        "import pandas as pd; pd.read_pickle(path)",
        "import yaml.loader",
        "from yaml import load",
        "import yaml; yaml.load(text)",
        "import yaml; yaml.load(text, Loader=yaml.SafeLoader)",
        "import yaml; yaml.unsafe_load(text)",
        "import yaml as y; y.load(text)",
        "from torch import load",
        "import torch; torch.load(path)",
        "import torch as t; t.load(path)",
        "import torch; torch.load(path, weights_only=False)",
        "import torch; torch.load(path, weights_only=flag)",
        "import torch; read = torch.load",
        "import torch; map(torch.load, paths)",
        "import torch; torch.jit.load(path)",
        "from torch.serialization import load",
        "import numpy as np; np.load(path)",
        "import numpy; numpy.load(path, allow_pickle=True)",
        "from numpy import load",
        "eval(text)",
        "map(eval, texts)",
        "exec(text)",
        "compile(text, name, mode)",
        "__import__(name)",
        "from builtins import exec",
        "import runpy",
        "import os; os.system('ls')",
        "import os as o; o.system('ls')",
        "import os; run = os.system",
        "from os import system as s",
        "import os; os.popen('ls')",
        "import subprocess; subprocess.run('ls', shell=True)",
        "import subprocess as s; s.Popen('ls', shell=flag)",
        "import subprocess; subprocess.run('ls', **options)",
        "from subprocess import run; run('ls', shell=True)",
        "from subprocess import getstatusoutput",
        "import asyncio; asyncio.create_subprocess_shell('ls')",
    ],
)
def test_the_check_sees_them(source: str) -> None:
    assert forbidden(source)


def test_the_check_sees_them_deep_inside_a_source() -> None:
    """Added to the end of a function of every source, each is found, and nothing else."""
    for path in SOURCES[::20]:
        source = path.read_text(encoding="utf-8")
        harm = (
            "\n\ndef last():\n    if True:\n        import os as o\n        return [o.system(x) for x in y]\n"
        )
        (found,) = forbidden(source + harm) - forbidden(source)
        assert found.endswith("uses os.system")


@pytest.mark.parametrize(
    "source",
    [
        "import torch; torch.load(path, weights_only=True)",
        "import numpy as np; np.load(path, allow_pickle=False)",
        "model.eval()",
        "import yaml; yaml.safe_load(text)",
        "import re; re.compile('a')",
        "import subprocess; subprocess.run(['ls'], shell=False)",
        "code.load(path)",
    ],
)
def test_the_check_lets_others_pass(source: str) -> None:
    assert forbidden(source) == set()
