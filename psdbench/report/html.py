"""Pages that are one file: a jinja2 template with its script and style inside, and a policy that lets no other run."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

FILES = "page_files"


def render(package: str, name: str, libraries: tuple[str, ...] = (), **context: Any) -> str:
    """The page of ``page_files/NAME.html.j2`` in a package, with ``NAME.js`` and ``NAME.css`` beside it.

    Foreign text in the context is escaped. The content security policy allows the script of the page, by its hash,
    and those of `libraries`, whose hashes are given; pictures only from the file itself, and no request anywhere.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader(package, FILES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, style = (
        (files(package) / FILES / f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("js", "css")
    )
    return environment.get_template(f"{name}.html.j2").render(
        policy=_policy(sha256(script), *libraries), script=Markup(script), style=Markup(style), **context
    )


def sha256(script: str) -> str:
    """The hash by which a policy names a script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _policy(*scripts: str) -> str:
    allowed = " ".join(f"'sha256-{each}'" for each in scripts if each)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; font-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def data_url(webp: bytes) -> str:
    """A WebP picture as an address that holds it."""
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"
