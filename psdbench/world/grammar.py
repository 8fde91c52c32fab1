"""The language of the shapes world: captions from scenes, and scenes from captions.

prompt  := thing | thing ("on top of" | "next to") thing
thing   := ("a" | "an") [size] colour shape ["with a face"]
caption := prompt ["," view] ("," style)*
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from psdbench.cameras import VIEW_WORDS
from psdbench.errors import UsageError
from psdbench.world.scenes import COLOURS, RELATIONS, SHAPES, SIZES, STYLES, Object, Scene

_SIZE_WORDS = tuple(word for word in SIZES if word)
_VIEW_PARTS = tuple(dict.fromkeys(" ".join(VIEW_WORDS).split()))
_GRAMMAR_WORDS = ("a", "an", "with", "face", "on", "top", "of", "next", "to", *_VIEW_PARTS)
WORDS = frozenset((*SHAPES, *COLOURS, *_SIZE_WORDS, *STYLES, *_GRAMMAR_WORDS))
_EXAMPLE = (
    "for example: a red cube · a small blue sphere · a yellow cone with a face · "
    "a green cube on top of a pink cylinder"
)


@dataclass(frozen=True)
class Caption:
    """What a caption says: the scene, the view word ("" if none) and the style words."""

    scene: Scene
    view: str = ""
    styles: tuple[str, ...] = ()


def describe(scene: Scene, view: str = "", styles: Sequence[str] = ()) -> str:
    """The caption of a scene, such as ``a red cube with a face, front view, dull``."""
    text = f" {scene.relation} ".join(_thing(item) for item in scene.objects)
    return ", ".join([text, *([view] if view else []), *styles])


def _thing(item: Object) -> str:
    words = " ".join(w for w in (item.size, item.colour, item.shape) if w)
    article = "an" if words[0] in "aeiou" else "a"
    return f"{article} {words}" + (" with a face" if item.face else "")


def parse(text: str) -> Caption:
    """Read a caption back; `parse(describe(...))` is the identity.

    Raises UsageError that names the unknown words and what to use instead, or the form that was expected.
    """
    head, *tail = (part.strip() for part in " ".join(text.lower().split()).split(","))
    _refuse_unknown(text, [*head.split(), *(word for part in tail for word in part.split())])
    view, styles = "", []
    for part in tail:
        if part in VIEW_WORDS and not view:
            view = part
        elif part in STYLES:
            styles.append(part)
        else:
            raise _misread(text, f"'{part}' is neither a view nor a style")
    relation = next((r for r in RELATIONS if f" {r} " in f" {head} "), "")
    things = head.split(f" {relation} ") if relation else [head]
    if len(things) > 2:
        raise _misread(text, "at most two objects")
    scene = Scene(tuple(_parse_thing(text, thing) for thing in things), relation)
    _refuse_unseen(text, scene)
    return Caption(scene, view, tuple(styles))


def check(prompt: str) -> None:
    """Accept a prompt of the shapes world, or raise the UsageError of `parse`."""
    parse(prompt)


def in_vocabulary(prompt: str) -> bool:
    """Whether the shapes world can draw this prompt."""
    try:
        parse(prompt)
    except UsageError:
        return False
    return True


def _parse_thing(text: str, phrase: str) -> Object:
    words = phrase.split()
    face = words[-3:] == ["with", "a", "face"]
    words = words[:-3] if face else words
    if words and words[0] in ("a", "an"):
        words = words[1:]
    size = words.pop(0) if words and words[0] in _SIZE_WORDS else ""
    if len(words) != 2 or words[0] not in COLOURS or words[1] not in SHAPES:
        raise _misread(text, f"'{phrase}' is not a [size] colour shape")
    return Object(words[1], words[0], size, face)


def _refuse_unseen(text: str, scene: Scene) -> None:
    """Combinations that the models never saw would be drawn badly, and blamed on the method."""
    if scene.relation and any(item.size or item.face for item in scene.objects):
        raise _misread(text, "sizes and faces are for single objects")
    if any(item.size and item.face for item in scene.objects):
        raise _misread(text, "an object has a size or a face, not both")
    if scene.relation == "on top of" and scene.objects[1].shape == "cone":
        raise _misread(text, "nothing stands on top of a cone")


def _refuse_unknown(text: str, words: Sequence[str]) -> None:
    unknown = sorted({word for word in words if word not in WORDS})
    if not unknown:
        return
    hints = [f"'{w}' → '{m[0]}'" for w in unknown if (m := difflib.get_close_matches(w, sorted(WORDS), 1))]
    did_you_mean = f"did you mean {', '.join(hints)}? " if hints else ""
    raise UsageError(
        f"prompt '{text}' is outside the shapes world: unknown words {', '.join(map(repr, unknown))}",
        remedy=f"{did_you_mean}shapes: {', '.join(SHAPES)}; colours: {', '.join(COLOURS)}; "
        f"sizes: {', '.join(_SIZE_WORDS)}; relations: {', '.join(RELATIONS)}; {_EXAMPLE}",
    )


def _misread(text: str, reason: str) -> UsageError:
    return UsageError(f"prompt '{text}' is outside the shapes world: {reason}", remedy=_EXAMPLE)
