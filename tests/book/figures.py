"""The interactive figures as tests see them: their scripts, and a page that runs them."""

import json
import re
from typing import NamedTuple

STATIC = "book/_static"
KIT = "figure_kit.js"
RAISED = "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
PLAIN = str.maketrans("\u2212" + RAISED, "--0123456789")


class Figure(NamedTuple):
    """A figure: its name, the page that shows it, and the prefix of its addresses.

    `again` is a choice that every state but one has made already: making it again puts the state
    into the address and changes nothing.
    """

    name: str
    page: str
    prefix: str
    again: tuple[str, str]

    @property
    def theory(self):
        return f"{self.name}_theory.js"

    @property
    def widget(self):
        return f"{self.name}_diagram.js"

    @property
    def scripts(self):
        return (KIT, self.theory, self.widget)

    def read(self, root):
        """The texts of all scripts, and of the page that stands in for a browser."""
        texts = {name: (root / STATIC / name).read_text("ascii") for name in self.scripts}
        return texts | {"page": (root / "tests/book/page.js").read_text("utf-8")}

    def start(self, engine, source, address=""):
        """Bring the figure to life at an address."""
        self.open(engine, source, address)
        for name in self.scripts:
            engine.eval(source[name])
        assert engine.eval("page.said.join()") == ""

    def open(self, engine, source, address=""):
        """Open the page, without any script of the figure."""
        engine.eval(source["page"])
        engine.eval(f'page.widget = ".{self.name}-diagram"')
        engine.eval(f"location.hash = {json.dumps(address)}")

    def choose_again(self, engine):
        engine.eval(f"page.choose({', '.join(map(json.dumps, self.again))})")
        return engine.eval("location.hash")


PHASE = Figure("phase", "04_past_the_paper", "diagram", ("map", "gap"))
BLOCK = Figure("block", "02_linear_block", "block", ("lean", "first"))
DUAL = Figure("dual", "01_dual_kernel", "dual", ("labels", "wave"))
MIXING = Figure("mixing", "03_data_mixing", "mixing", ("over", "noise1"))
FIGURES = (PHASE, BLOCK, DUAL, MIXING)


def style(root):
    """What both themes say of all figures."""
    return (root / STATIC / "companion.css").read_text("utf-8")


def run(engine, code):
    """The value of an expression, through text."""
    return json.loads(engine.eval(f"JSON.stringify({code})"))


def built(page):
    """The figure as it was put into the page."""
    return page.eval("root.innerHTML")


def drawn(page):
    """All that was drawn or written since."""
    return "".join(run(page, "Object.values(page.elements).map((e) => e.innerHTML)"))


def sliders(page):
    """The last step of each slider, by name."""
    found = re.findall(r'id="pd-(\w+)" type="range" max="(\d+)"', built(page))
    return {name: int(last) for name, last in found}


def presets(page):
    return re.findall(r'<button type="button">(.*?)</button>', built(page))


def shown(page):
    """The values under the plots, by name."""
    text = page.eval('page.find(".pd-numbers").innerHTML')
    return dict(re.findall(r"<span>(.*?) <b>(.*?)</b>", text))


def number(text):
    """A number as the page writes it, perhaps with a power of ten in raised digits."""
    found = re.fullmatch(f"(?:(.*)\u00b7)?10([{RAISED}]+)", text)
    if not found:
        return float(text.translate(PLAIN))
    return float((found[1] or "1").translate(PLAIN)) * 10.0 ** int(found[2].translate(PLAIN))


def numbers(page):
    return {name: number(text) for name, text in shown(page).items()}
