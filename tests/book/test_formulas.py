"""Formulas of the book: TeX becomes MathML that browsers lay out as TeX would."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

import formulas  # noqa: E402 - an extension of the book, found by its folder


@pytest.fixture(scope="module")
def convert():
    typesetter = formulas.Typesetter({"E": r"\mathbb{E}", "tr": r"\operatorname{tr}"})
    yield typesetter.convert
    typesetter.close()


@pytest.mark.parametrize(
    ("tex", "expected"),
    [
        (r"\tau=1", "<mi>\u03c4</mi><mo>=</mo><mn>1</mn>"),
        (r"\Gamma", '<mi mathvariant="normal">\u0393</mi>'),
        (r"\E", "<mi>\U0001d53c</mi>"),
        (r"\mathcal{N}", "<mi>\U0001d4a9</mi>"),
        (r"\mathbf{x}", "<mi>\U0001d431</mi>"),
        (r"\mathbb{R}", "<mi>\u211d</mi>"),
        # A sign is no operation: no space. A name is kept apart from its argument.
        ("-x", '<mo lspace="0" rspace="0">\u2212</mo><mi>x</mi>'),
        (r"\tr A", '<mi>tr</mi><mspace width="0.167em"></mspace><mi>A</mi>'),
        (r"\hat y", '<mover accent="true"><mi>y</mi>'),
        (r"(a)^2", '<msup><mo stretchy="false">)</mo><mn>2</mn></msup>'),
        (r"\bigl(x", '<mo minsize="1.2em" maxsize="1.2em" stretchy="true">(</mo>'),
        (r"a<b", "<mo>&#60;</mo>"),
    ],
)
def test_parts(convert, tex, expected):
    assert expected in convert(tex, False)


def test_displayed_formulas_are_aligned(convert):
    found = convert(formulas.aligned("a&=b\\\\\nc&=d"), True)
    assert found.startswith('<math display="block">')
    assert re.findall(r'mtd class="(\w+)"', found) == ["right", "left"] * 2


def test_what_cannot_be_read_is_told(convert):
    with pytest.raises(ValueError, match="Undefined control sequence"):
        convert(r"\nosuchcommand", False)


def test_paragraphs_are_lines():
    assert formulas.aligned("a") == "a"
    assert formulas.aligned("a\n\nb") == r"\begin{aligned}a \\ b\end{aligned}"
