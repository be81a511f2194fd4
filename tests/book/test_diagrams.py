"""What holds of every interactive figure: small, alone on its page, robust, and for everyone."""

import re
from html.parser import HTMLParser

import pytest
from py_mini_racer import JSEvalException, mini_racer

from tests.book.figures import (
    FIGURES,
    KIT,
    built,
    drawn,
    presets,
    shown,
    sliders,
    style,
)

MAX_BYTES = 32_000  # of all scripts of a figure
NONSENSE = ("x", "-1e9", "", "2,5")


@pytest.fixture(params=FIGURES, ids=lambda figure: figure.name)
def figure(request):
    return request.param


# ------------------------------------------------------------------ scripts


def test_scripts_are_small_and_need_no_network(figure, source):
    assert sum(len(source[name]) for name in figure.scripts) < MAX_BYTES
    for name in figure.scripts:
        assert not re.search(r"https?:|\bimport\b|\bfetch\b|\beval\b|\bexport\b", source[name])


def test_scripts_leave_two_global_names(figure, source):
    with mini_racer() as engine:
        before = engine.eval("Object.keys(globalThis).join()")
        engine.eval("const document = { querySelector: () => null }")  # a page without the figure
        for name in figure.scripts:
            engine.eval(source[name])
        assert engine.eval("Object.keys(globalThis).join()") == before
        text = "\n".join(source[name] for name in figure.scripts)
        for name in set(re.findall(r"^(?: {2})?const (\w+)", text, re.MULTILINE)):
            if name in ("figureKit", f"{figure.name}Theory"):
                assert engine.eval(f"typeof {name}") == "object"
            else:
                with pytest.raises(JSEvalException):
                    engine.eval(name)


def test_the_page_stays_as_it_came_when_the_figure_fails(figure, source):
    with mini_racer() as engine:
        figure.open(engine, source)
        engine.eval('root.innerHTML = "needs JavaScript"')
        engine.eval(source[KIT])
        engine.eval(f"const {figure.name}Theory = {{}}")
        engine.eval(source[figure.widget])
        assert built(engine) == "needs JavaScript"
        assert "not a function" in engine.eval("page.said.join()")


def test_only_the_page_with_the_figure_loads_the_scripts(figure, root):
    notebooks = (root / "notebooks").glob("*.ipynb")
    pages = {path.stem: path.read_text(encoding="utf-8") for path in notebooks}
    parts = [f'class=\\"{figure.name}-diagram\\"']
    parts += [f"../_static/{name}" for name in figure.scripts]
    for part in parts[:1] + parts[2:]:
        assert [name for name, text in pages.items() if part in text] == [figure.page]
    places = [pages[figure.page].index(part) for part in parts]
    assert places == sorted(places)


def test_nothing_moves_by_itself(figure, source, root):
    moving = re.findall(r"(?:transition|animation)[\w-]*: *[^;]*", style(root))
    assert [rule for rule in moving if not rule.endswith(": none !important")] == []
    for name in figure.scripts:
        assert not re.search(r"setInterval|animate\(|\"smooth\"", source[name])


def test_the_figure_has_the_style_of_all_figures(figure, root):
    together = ", ".join(f".{other.name}-diagram" for other in FIGURES)
    assert f":is({together}) text {{" in style(root)
    assert style(root).count(f":is({together})") > 5


# ------------------------------------------------------------------ controls


def test_every_stop_of_a_slider_survives_in_the_address(figure, page, source):
    for name, last in sliders(page).items():
        assert last >= 10
        seen = set()
        for step in range(last + 1):
            page.eval(f'page.slide("{name}", {step})')
            seen.add(page.eval("location.hash"))
            assert page.eval(f'page.find("#pd-{name}").value') == step
        assert len(seen) == last + 1
    with mini_racer() as copy:
        figure.start(copy, source, page.eval("location.hash"))
        assert figure.choose_again(copy) == page.eval("location.hash")


def test_an_address_from_elsewhere_cannot_break_the_figure(figure, page, source):
    fresh = figure.choose_again(page)
    names = re.findall(r"[:&](\w+)=", fresh)
    assert set(sliders(page)) < set(names)
    page.eval(f'page.slide("{next(iter(sliders(page)))}", 0)')
    moved = page.eval("location.hash").removeprefix(f"#{figure.prefix}:")
    worst = "&".join(f"{name}=__proto__" for name in [*names, "constructor"])
    below = "&".join(f"{name}=-1e9" for name in sliders(page))
    own = [f"#{figure.prefix}:{text}" for text in (worst, below, "", "over", "=&=", "%00")]
    another = "x" * len(figure.prefix)
    for address in (*own, "", "#", f"#{another}:{moved}", f"#{moved}"):
        with mini_racer() as engine:
            figure.start(engine, source, address)
            assert figure.choose_again(engine) == fresh
    with mini_racer() as engine:
        figure.start(engine, source, f"#{figure.prefix}:{moved}")
        assert figure.choose_again(engine) != fresh


def test_impossible_entries_are_refused_with_a_reason(figure, page):
    before = figure.choose_again(page)
    for name in sliders(page):
        for text in NONSENSE:
            message = page.eval(f'page.type("{name}", "{text}")')
            assert re.search(r"[a-z].*: .* to ", message)
        if message.endswith("whole"):
            assert page.eval(f'page.type("{name}", "2.5")') == message
        assert page.eval("location.hash") == before


class _Labels(HTMLParser):
    """Controls with and without a name."""

    def __init__(self):
        super().__init__()
        self.fors, self.controls, self.inside = set(), [], 0

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.inside += tag == "label"
        if tag == "label" and "for" in given:
            self.fors.add(given["for"])
        if tag in ("input", "select") or "tabindex" in given:
            self.controls.append((given.get("id"), self.inside > 0 or "aria-label" in given))

    def handle_endtag(self, tag):
        self.inside -= tag == "label"


def test_every_control_has_a_name_and_works_without_a_mouse(page):
    labels = _Labels()
    labels.feed(built(page))
    assert len(labels.controls) > 2 * len(sliders(page)) >= 10  # each with its exact entry
    assert all(named or name in labels.fors for name, named in labels.controls)
    buttons = re.findall(r"<button ([^>]*)>", built(page))
    assert set(buttons) == {'type="button"'}
    assert len(buttons) >= 4
    assert not re.search(r"tabindex=\"(?!0)", built(page))


# ------------------------------------------------------------------ what it says


def test_screen_readers_hear_the_numbers(page):
    assert 'role="status" aria-live="polite"' in built(page)
    for preset in presets(page):
        page.eval(f'page.draws = true; page.press("{preset}")')
        said = page.eval('page.find(".pd-live").textContent')
        assert re.match(r"[A-Z].*\. .*: ", said)
        assert all(f"{name}: {value}" in said for name, value in shown(page).items())
        table = page.eval('page.find(".pd-table").innerHTML')
        for name, value in shown(page).items():
            assert f'<th scope="row">{name}<td>{value}' in table
    for name in sliders(page):
        assert page.eval(f'page.find("#pd-{name}").attributes["aria-valuetext"]')


def test_plots_say_what_they_are(page):
    plots = re.findall(r'<svg class="pd-curves ?([\w-]*)" role="img">', built(page))
    assert plots
    for plot in plots:
        selector = f".{plot or 'pd-curves'}"
        label = page.eval(f'page.find("{selector}").attributes["aria-label"]')
        assert re.search(r"values are in the text (and the table )?below\.$", label)


def finite(page):
    text = drawn(page) + page.eval('page.find(".pd-live").textContent')
    return not re.search('NaN|Infinity|undefined|null(?!")', text)


def test_presets_draw_finite_plots(page):
    for preset in presets(page):
        page.eval(f'page.draws = true; page.press("{preset}")')
        assert finite(page)


def test_extreme_settings_draw_finite_plots(page):
    """Each slider at its ends from where all start, then all at once."""
    page.eval("page.draws = true")
    for name, last in sliders(page).items():
        for step in (0, last):
            page.eval(f'page.press("Reset"); page.slide("{name}", {step})')
            assert finite(page), (name, step)
    for end in (0, 1):
        for name, last in sliders(page).items():
            page.eval(f'page.slide("{name}", {end * last})')
            assert finite(page), (name, end)
