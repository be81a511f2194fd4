"""Make the font of the book's formulas, `book/_static/math.woff2`, from Latin Modern Math.

Run once, by hand: `pip install fonttools brotli`, then

    python tools/math_font.py latinmodern-math.otf

The font comes with TeX distributions (Debian: the package fonts-lmodern). Two things change, and so
does its name, as its licence asks: letters that formulas do not use go, and tall delimiters become
as narrow as short ones, because browsers reserve the width of the widest for each.
"""

import sys
from pathlib import Path

from fontTools import subset
from fontTools.pens.t2CharStringPen import T2CharStringPen
from fontTools.pens.transformPen import TransformPen
from fontTools.ttLib import TTFont

NAME = "Companion Math"
PLACE = Path(__file__).resolve().parents[1] / "book" / "_static" / "math.woff2"
DELIMITERS = "()[]{}\u27e8\u27e9\u2308\u2309\u230a\u230b"
WIDEST = 1.2  # of the letter's own width
LETTERS = (
    (0x20, 0x7E), (0xA0, 0xFF), (0x131, 0x131), (0x237, 0x237), (0x2C6, 0x2C7), (0x2D8, 0x2DC),
    (0x300, 0x30C), (0x391, 0x3F6), (0x2010, 0x2044), (0x2057, 0x2064), (0x20D7, 0x20D7),
    (0x2100, 0x214F), (0x2190, 0x22FF), (0x2308, 0x230B), (0x23B4, 0x23B5), (0x23DE, 0x23DF),
    (0x25A0, 0x25A1), (0x25B3, 0x25B3), (0x27E8, 0x27EB), (0x27F5, 0x27FA), (0x2A3F, 0x2A3F),
    (0x2A7D, 0x2A7E), (0x1D400, 0x1D4CF), (0x1D538, 0x1D56B), (0x1D6A8, 0x1D755),
    (0x1D7CE, 0x1D7E1),
)  # fmt: skip


def reduced(font: TTFont) -> TTFont:
    """Return the font with the letters of formulas only."""
    options = subset.Options(layout_features=["ssty", "dtls", "flac"], hinting=False)
    options.drop_tables += ["FFTM"]
    worker = subset.Subsetter(options)
    worker.populate(unicodes=[u for first, last in LETTERS for u in range(first, last + 1)])
    worker.subset(font)
    return font


def tall(font: TTFont) -> dict[str, str]:
    """Return the glyphs of tall delimiters, with the short one that each belongs to."""
    variants = font["MATH"].table.MathVariants
    short = {font.getBestCmap()[ord(c)] for c in DELIMITERS}
    found = {}
    pairs = zip(variants.VertGlyphCoverage.glyphs, variants.VertGlyphConstruction, strict=True)
    for name, construction in pairs:
        if name in short:
            parts = construction.GlyphAssembly.PartRecords if construction.GlyphAssembly else []
            found |= {r.VariantGlyph: name for r in construction.MathGlyphVariantRecord}
            found |= {part.glyph: name for part in parts}
    return found


def narrow(font: TTFont, glyph: str, width: int) -> None:
    """Squeeze a glyph to a width."""
    advance, bearing = font["hmtx"][glyph]
    if advance <= width:
        return
    strings, scale = font["CFF "].cff.topDictIndex[0].CharStrings, width / advance
    pen = T2CharStringPen(width, font.getGlyphSet())
    strings[glyph].draw(TransformPen(pen, (scale, 0, 0, 1, 0, 0)))
    strings[glyph] = pen.getCharString(strings[glyph].private, strings[glyph].globalSubrs)
    font["hmtx"][glyph] = (width, round(scale * bearing))


def rename(font: TTFont) -> None:
    """Give the derived font its own name."""
    for record in font["name"].names:
        if record.nameID in (1, 4, 6, 16):
            record.string = NAME.replace(" ", "") if record.nameID == 6 else NAME
    font["CFF "].cff.fontNames[0] = NAME.replace(" ", "")


def main(source: str) -> None:
    """Write the font of the book."""
    font = reduced(TTFont(source, recalcTimestamp=False))
    for glyph, short in tall(font).items():
        narrow(font, glyph, round(WIDEST * font["hmtx"][short][0]))
    rename(font)
    font.flavor = "woff2"
    font.save(PLACE)


if __name__ == "__main__":
    main(sys.argv[1])
