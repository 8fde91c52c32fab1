"""Which pairs a study shows: balanced over methods, prompts and sides, with checks whose answer is plain.

An item shows two assets of one prompt and seed. Its id is a hash with the study's secret, so that the page tells
nobody which methods it compares; the key file does.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from psdbench.errors import UsageError
from psdbench.report.results import FINISHED, Result

CHECK = "check"
"""stands for a method in the key: noise in place of an asset"""
CHECK_SHARE = 0.1


@dataclass(frozen=True)
class Item:
    """Two assets, `a` and `b` by method; of a check, `b` is noise."""

    id: str
    prompt: str
    seed: int
    a: str
    b: str

    @property
    def check(self) -> bool:
        """Whether its answer is known: `a`."""
        return self.b == CHECK


def choose(results: Sequence[Result], count: int, secret: str) -> list[Item]:
    """At most `count` pairs and a tenth as many checks; equal arguments give equal items.

    Every pair of methods comes up equally often, of those with results in common; prompts are spread, and each
    method is `a` as often as `b`. Raises UsageError when fewer than two methods have a prompt and seed in common.
    """
    rng = np.random.default_rng(int(hashlib.sha256(secret.encode()).hexdigest()[:16], 16))
    left = _candidates(results, rng)
    if not left:
        raise UsageError("no two methods have finished the same prompt and seed", "finish the run first")
    used: Counter[str] = Counter()
    items: list[Item] = []
    while len(items) < count and any(left.values()):
        for (a, b), keys in left.items():
            if keys and len(items) < count:
                key = min(keys, key=lambda key: used[key[0]])
                keys.remove(key)
                used[key[0]] += 1
                turned = sum({item.a, item.b} == {a, b} for item in items) % 2
                items.append(_item(secret, *key, *((b, a) if turned else (a, b))))
    checks = max(1, round(CHECK_SHARE * len(items)))
    places = [items[int(i)] for i in rng.permutation(len(items))[:checks]]
    return items + [_item(secret, item.prompt, item.seed, item.a, CHECK) for item in places]


def _candidates(
    results: Sequence[Result], rng: np.random.Generator
) -> dict[tuple[str, str], list[tuple[str, int]]]:
    """By pair of methods the prompts and seeds that both have finished, shuffled."""
    keys: dict[str, set[tuple[str, int]]] = {}
    for result in results:
        if result.status == FINISHED:
            keys.setdefault(result.label, set()).add(result.key)
    found = {}
    for a, b in combinations(sorted(keys), 2):
        common = sorted(keys[a] & keys[b])
        if common:
            found[a, b] = [common[int(i)] for i in rng.permutation(len(common))]
    return found


def _item(secret: str, prompt: str, seed: int, a: str, b: str) -> Item:
    text = "\0".join((secret, prompt, str(seed), a, b))
    return Item(hashlib.sha256(text.encode()).hexdigest()[:16], prompt, seed, a, b)


def stored(items: Sequence[Item]) -> list[dict[str, Any]]:
    """The items as JSON for the key file."""
    return [{"id": i.id, "prompt": i.prompt, "seed": i.seed, "a": i.a, "b": i.b} for i in items]
