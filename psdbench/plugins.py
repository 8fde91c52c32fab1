"""Methods from outside this repository: files named by --plugin, and installed packages.

A file is imported as it stands and gives all its @method classes. A package announces each method in the
entry-point group `psdbench.methods`, as NAME = "MODULE" or "MODULE:CLASS"; it is imported when the method is
used. Nothing else is ever imported: no working folder, no result. The sha256 of the source is part of a job's
identity, so a method that was edited makes new jobs.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, is_dataclass
from functools import cache
from importlib.abc import SourceLoader
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from psdbench.errors import UsageError

GROUP = "psdbench.methods"
NAME = re.compile(r"[a-z][a-z0-9_]*")
"""a method's name becomes part of folder names and of --set NAME.FIELD=VALUE"""
GUIDE = "see methods/README.md"


@dataclass(frozen=True)
class Plugin:
    """A method from outside: its class, the sha256 of its source, and the file it was named by, if any."""

    cls: type[Any]
    sha256: str
    file: str = ""


class _Loader(SourceLoader):
    """Source bytes as a module; unlike Python's own loader it leaves no byte code, which could be stale."""

    def __init__(self, file: Path, content: bytes) -> None:
        self.file, self.content = file, content

    def get_filename(self, fullname: str) -> str:
        return str(self.file)

    def get_data(self, path: Any) -> bytes:
        return self.content


def load_files(files: Iterable[str], taken: Iterable[str]) -> dict[str, Plugin]:
    """The methods of plugin files by name; UsageError names the file that is wrong, or a name in `taken`."""
    found: dict[str, Plugin] = {}
    for file in dict.fromkeys(str(Path(file).resolve()) for file in files):
        for plugin in load_file(file):
            name = plugin.cls.name
            check_name(name, file, taken)
            if name in found:
                raise UsageError(f"{file} and {found[name].file} both define '{name}'", "rename one of them")
            found[name] = plugin
    return found


def load_file(file: str) -> list[Plugin]:
    """The methods of one file, which is imported; raises UsageError when that fails or there are none."""
    path = Path(file)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read the plugin {file}: {error.strerror}", "pass a Python file to --plugin"
        ) from error
    sha256 = hashlib.sha256(content).hexdigest()
    found = loaded(sha256) or _methods(_import_file(path, content, _module_name(sha256)), sha256, file)
    if not found:
        raise UsageError(
            f"{file} defines no method", f"mark a class with @method('NAME', paper='…'): {GUIDE}"
        )
    return [Plugin(plugin.cls, sha256, file) for plugin in found]


def loaded(sha256: str) -> list[Plugin]:
    """The methods of a file of this hash that was imported before, also if it has changed since."""
    module = sys.modules.get(_module_name(sha256))
    return _methods(module, sha256, module.__file__ or "") if module else []


def _module_name(sha256: str) -> str:
    return f"psdbench_plugin_{sha256[:16]}"


def _methods(module: ModuleType, sha256: str, file: str) -> list[Plugin]:
    classes = (cls for cls in _method_classes(module) if cls.__module__ == module.__name__)
    return [Plugin(_concrete(cls, file), sha256, file) for cls in classes]


def _import_file(path: Path, content: bytes, name: str) -> ModuleType:
    """Import the bytes of a file."""
    spec = importlib.util.spec_from_loader(name, _Loader(path, content))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, Exception):
            raise _import_failure(error, f"the plugin {path}") from error
        raise
    return module


def packaged_names() -> list[str]:
    """The methods that installed packages announce; nothing is imported."""
    return sorted(_announced())


@cache
def load_packaged(name: str) -> Plugin:
    """The method that an installed package announces under a name; raises UsageError when it is not there."""
    entry = _announced()[name]
    origin = f"the installed package {entry.dist.name if entry.dist else entry.module}"
    try:
        target = entry.load()
    except Exception as error:
        raise _import_failure(error, origin) from error
    classes = _method_classes(target) if isinstance(target, ModuleType) else [target]
    cls = next((cls for cls in classes if getattr(cls, "name", None) == name), None)
    if cls is None or not is_dataclass(cls):
        raise UsageError(f"{origin} has no @method('{name}') at '{entry.value}'", f"correct it: {GUIDE}")
    return Plugin(_concrete(cls, origin), package_sha256(cls.__module__))


def package_sha256(module: str) -> str:
    """One sha256 over the Python files of the top-level package that a module belongs to."""
    top = sys.modules[module.partition(".")[0]].__file__ or sys.modules[module].__file__
    if top is None:
        raise UsageError(f"the module {module} has no source file", "ship the method as Python source")
    file = Path(top)
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    digest = hashlib.sha256()
    for each in files:
        digest.update(f"{each.relative_to(file.parent).as_posix()}\0{each.stat().st_size}\0".encode())
        digest.update(each.read_bytes())
    return digest.hexdigest()


@cache
def _announced() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in found and found[entry.name].value != entry.value:
            raise UsageError(
                f"two installed packages define the method '{entry.name}': {_owner(found[entry.name])} and "
                f"{_owner(entry)}",
                "uninstall one of them",
            )
        found[entry.name] = entry
    return found


def check_name(name: str, origin: str, taken: Iterable[str]) -> None:
    """Refuse a method name that is taken or that would not do as part of a folder's name."""
    if name in taken:
        raise UsageError(f"{origin} defines '{name}', a name that psdbench has already", "rename the method")
    if not NAME.fullmatch(name):
        raise UsageError(f"{origin}: '{name}' is no name for a method", "use a-z, 0-9 and _, a letter first")


def check_packaged(taken: Iterable[str]) -> None:
    """Refuse announced names as `check_name` does."""
    for name, entry in _announced().items():
        check_name(name, f"the installed package {_owner(entry)}", taken)


def _owner(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.module


def _method_classes(module: ModuleType) -> Iterator[type[Any]]:
    """The classes in a module that @method has marked themselves, not only a parent of theirs."""
    from psdbench.guidance import Method

    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Method) and "name" in vars(value):
            yield value


def _concrete(cls: type[Any], origin: str) -> type[Any]:
    if inspect.isabstract(cls):
        raise UsageError(f"{origin}: method '{cls.name}' has no gradient(step)", f"define it: {GUIDE}")
    return cls


def _import_failure(error: Exception, origin: str) -> UsageError:
    """What went wrong while foreign code was imported, as one line that names the place."""
    if isinstance(error, SyntaxError):
        return UsageError(f"{origin}, line {error.lineno}: {error.msg}", "correct the file")
    if isinstance(error, ModuleNotFoundError) and error.name:
        remedy = f"install it where psdbench is installed: pip install {error.name.partition('.')[0]}"
        return UsageError(f"{origin} imports '{error.name}', which is not there", remedy)
    frames = reversed(traceback.extract_tb(error.__traceback__))
    line = next((f", line {frame.lineno}" for frame in frames if frame.filename in origin), "")
    text = f"{type(error).__name__}: {error}"
    return UsageError(f"{origin}{line} cannot be imported: {text}", "correct the file")
