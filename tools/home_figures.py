"""Draw the still pictures of the start page, for readers without JavaScript.

They show its live figures as they start, drawn by the script of the page outside of a browser.
They are stored; a test draws them again and compares.
"""

import re
from pathlib import Path

from py_mini_racer import mini_racer

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "book" / "_static"
NAMES = ("dual", "block", "mixing", "phase")
SCRIPTS = ("figure_kit.js", *(f"{name}_theory.js" for name in NAMES), "home.js")
WIDTH, HEIGHT, ROW = 360, 250, 18  # of the plot, and of a line under it
KEY = r'<path\s*class="(\w+)" d="M1 5H33"/></svg>([^<]+)'  # curves and their names
LOOK = (  # as on the page, in the light theme
    "text{font:12.5px sans-serif;text-anchor:middle;fill:#222}.end{text-anchor:end}"
    ".name{text-anchor:start}"
    "path{fill:none;stroke:#222;stroke-width:1.5}.box{fill:none;stroke:#48566b}"
    ".now{stroke:#48566b;stroke-dasharray:1 3}circle{fill:#fff;stroke:#222;stroke-width:2}"
    ".one{stroke:#0b5394;stroke-width:2.6}circle.one{fill:#0b5394}circle.seen{fill:#222}"
    ".two{stroke:#a33b00;stroke-width:2.6}path.two{stroke-dasharray:8 4}"
    "path.three{stroke-dasharray:2 3;stroke-width:2.2}"
)


def main() -> None:
    """Write the pictures."""
    for name in NAMES:
        picture_of(name).write_text(drawing(name), encoding="ascii")


def picture_of(name: str) -> Path:
    """Return where the picture of a figure is stored."""
    return STATIC / f"home_{name}.svg"


def drawing(name: str) -> str:
    """Return the picture of a figure as it starts."""
    with mini_racer() as engine:
        engine.eval((ROOT / "tests" / "book" / "page.js").read_text(encoding="utf-8"))
        engine.eval(f'page.widget = ".home-{name}"; page.draws = true')
        engine.eval(f'Object.assign(page.find(".home-plot"), {{clientWidth: {WIDTH}}})')
        engine.eval(f'Object.assign(page.find(".home-plot"), {{clientHeight: {HEIGHT}}})')
        for script in SCRIPTS:
            engine.eval((STATIC / script).read_text(encoding="ascii"))
        inside = str(engine.eval('page.find(".home-plot").innerHTML'))
        names = re.findall(KEY, str(engine.eval("root.innerHTML")))
    return framed(inside, names)


def framed(inside: str, names: list[tuple[str, str]]) -> str:
    """Return a plot and the names of its curves as a file of its own, in plain characters."""
    height = HEIGHT + ROW * len(names) + 8
    inside += "".join(named(row, kind, name) for row, (kind, name) in enumerate(names))
    text = re.sub(r"[^\x00-\x7f]", lambda found: f"&#{ord(found[0])};", inside)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
    return f'{head} viewBox="0 0 {WIDTH} {height}">\n<style>{LOOK}</style>\n{text}\n</svg>\n'


def named(row: int, kind: str, name: str) -> str:
    """Return a row under the plot: a piece of a curve, and its name."""
    y = HEIGHT + ROW * row + 8
    return (
        f'<path class="{kind}" d="M48 {y}H88"/><text class="name" x="96" y="{y + 4}">{name}</text>'
    )


if __name__ == "__main__":
    main()
