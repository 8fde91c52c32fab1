"""Forty prompts: plain ones, and what tokenizers are known to read differently."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Prompt(NamedTuple):
    """A text to score.

    `kind` is "plain", "untidy" (packages that tidy a prompt read another text than those that do not) or
    "long" (beyond the 77 tokens of CLIP; ImageReward reads 35).
    """

    text: str
    kind: Literal["plain", "untidy", "long"] = "plain"


_SCENE = (
    "a weathered bronze statue of a seated astronaut holding a lantern, ivy growing over its shoulders, "
    "morning fog in a walled garden, three sparrows on the helmet, soft rim light"
)
"""more tokens than ImageReward reads, fewer than CLIP"""

PROMPTS: tuple[Prompt, ...] = (
    Prompt("a red cube"),
    Prompt("a yellow cone with a face, back view"),
    Prompt("a small green torus on top of a large blue sphere, front view"),
    Prompt("a DSLR photo of a corgi puppy wearing a top hat"),
    Prompt("A ZOOMED OUT DSLR PHOTO OF A BABY BUNNY SITTING ON TOP OF A STACK OF PANCAKES"),
    Prompt("McDonald's iPhone 15 Pro, 4K/HDR, f/1.8, ISO-100"),
    Prompt("it's the cat's; they're what I'd've said we'll do, I'm sure you've seen"),
    Prompt("an elephant-shaped teapot, made_of_glass #3d @render [no people] {v2} ~50% *best*"),
    Prompt("1234567890 apples, 3.14159 pies and -40 °C"),
    Prompt("a"),
    Prompt(""),
    Prompt("!!! ??? ..."),
    Prompt("  two   blanks,\ta tab\nand a new line "),
    Prompt("supercalifragilisticexpialidocious antidisestablishmentarianism"),
    Prompt("a naïve café façade in Kraków, by Škoda & Ångström"),
    Prompt("ein großer Bär aus Süßholz, Öl auf Leinwand"),
    Prompt("красный куб на синем шаре"),
    Prompt("日本の城、夕焼け、油絵"),
    Prompt("빨간 정육면체"),
    Prompt("مكعب أحمر على كرة زرقاء"),
    Prompt("一只戴帽子的猫 next to a dog"),
    Prompt("लाल घन और नीला गोला"),
    Prompt("an emoji 🏯 castle 🐱‍👤 with a flag 🇯🇵 and a thumb 👍🏽"),
    Prompt("∀x∈ℝ: x² ≥ 0, ½ + ¼ = ¾ → ∞"),
    Prompt("<i>a cube</i> <lora:shape:0.8>"),
    Prompt(_SCENE),
    Prompt("a cube " + "and a sphere " * 20),
    Prompt("cats &amp; dogs &lt;in love&gt;", "untidy"),
    Prompt("&amp;amp; &quot;twice&quot; &#233;t&eacute;", "untidy"),
    Prompt("<b>salt &amp; pepper</b>", "untidy"),
    Prompt("“curly quotes”, ‘single’ ones and it’s", "untidy"),
    Prompt("ｆｕｌｌ　ｗｉｄｔｈ　ＴＥＸＴ！", "untidy"),
    Prompt("ﬂuﬀy ﬁre ŉ ĳs", "untidy"),
    Prompt("a broken cafÃ© and a schÃ¶n garden â€” wrongly decoded", "untidy"),
    Prompt("cafe\u0301 and A\u030angstro\u0308m, in pieces", "untidy"),
    Prompt(
        "an invisible\u200b space, a soft\u00adhyphen, a\x07bell, \x1b[31mred\x1b[0m, \ufeffmark", "untidy"
    ),
    Prompt("ΟΔΥΣΣΕΥΣ and İSTANBUL in capitals", "untidy"),
    Prompt(_SCENE + ", " + _SCENE + ", " + _SCENE, "long"),
    Prompt("a red cube beside a blue sphere " * 320, "long"),
    Prompt("pneumonoultramicroscopicsilicovolcanoconiosis" * 8, "long"),
)
