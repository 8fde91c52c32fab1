"""What a source imports, wherever in it."""

from __future__ import annotations

import ast


def imports(tree: ast.AST) -> set[str]:
    """Every module that a syntax tree imports, at any depth; ``from a import b`` counts as a and a.b."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names
