"""The directive ``{selfcheck} NAME``: the questions of ``book/selfchecks/NAME.yml`` on a page.

Every choice is a ``details`` element that says whether it is right and why, so that the questions
work without a script; ``selfcheck.js`` adds the entry of numbers and the score. On paper the
answers follow the questions.
"""

from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from iclkit.site.selfchecks import Choice, Question, SelfCheckError, Wrong, load_questions

FOLDER = "book/selfchecks"
SCRIPT = "selfcheck.js"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
RUNNING = ("summary", "label", "span", "button")
VERDICTS = {True: "Right.", False: "Not right."}

logger = logging.getLogger(__name__)


class html_element(nodes.Element):  # noqa: N801 - Sphinx names its visitors after the class
    """An HTML element: its name in ``tag``, its attributes in ``given``."""


class html_text(nodes.TextElement):  # noqa: N801
    """The same for an element that holds running text."""


def element(tag: str, *children: nodes.Node, **given: Any) -> nodes.Element:
    """Return an HTML element; ``None`` is an attribute without value, ``cls`` is ``class``."""
    given = {name.replace("cls", "class").replace("_", "-"): v for name, v in given.items()}
    if tag in RUNNING:
        return html_text("", "", *children, tag=tag, given=given)
    return html_element("", *children, tag=tag, given=given)


def visit_element(self, node):
    """Open the element."""
    given = "".join(
        f' {k}="{self.attval(str(v))}"' if v is not None else f" {k}"
        for k, v in node["given"].items()
    )
    self.body.append(f"<{node['tag']}{given}>")


def depart_element(self, node):
    """Close the element, unless it cannot have content."""
    self.body.append("" if node["tag"] == "input" else f"</{node['tag']}>\n")


class Page(NamedTuple):
    """What the parts of a block need: the directive that parses, the file, the block's name."""

    directive: SphinxDirective
    file: Path
    name: str

    def parse(self, text: str, q: Question) -> list[nodes.Node]:
        """Return the nodes of a text in Markdown; warnings about it name the question's place."""
        holder = nodes.container()
        self.directive.state.nested_parse(StringList(text.splitlines(), str(self.file)), 0, holder)
        for node in holder.findall(nodes.Element):
            node.source, node.line = str(self.file), q.line
        return holder.children

    def inline(self, text: str, q: Question) -> list[nodes.Node]:
        """Return the nodes of a text of one paragraph."""
        parsed = self.parse(text, q)
        if len(parsed) != 1 or not isinstance(parsed[0], nodes.paragraph):
            raise SelfCheckError(
                f"line {q.line}, question {q.id}: a choice or unit must be one paragraph, "
                f"got {text!r}; move the rest to `because`"
            )
        return parsed[0].children


class SelfCheck(SphinxDirective):
    """The questions of a file, on the page."""

    required_arguments = 1
    has_content = False

    def run(self) -> list[nodes.Node]:
        """Return the block, or a warning that names the file, the question and the defect."""
        name = self.arguments[0]
        relative = f"{FOLDER}/{name}.yml"
        file = Path(self.env.srcdir) / relative
        self.env.note_dependency(str(file))
        try:
            return [block(Page(self, file, name), load_questions(file))]
        except SelfCheckError as problem:
            logger.warning("%s: %s", relative, problem, location=self.get_location())
            return []


def block(page: Page, questions: list[Question]) -> nodes.Element:
    """Return all questions, the line for the score, and the answers for paper."""
    asked = [question_item(page, q) for q in questions]
    answers = [element("li", *print_answer(page, q)) for q in questions]
    return element(
        "div",
        element("ol", *asked, cls="selfcheck-questions"),
        element("p", cls="selfcheck-score", hidden=None),
        element(
            "div",
            element("p", nodes.Text("Answers")),
            element("ol", *answers),
            cls="selfcheck-answers",
        ),
        cls="selfcheck",
        role="group",
        aria_label="Self-check questions",
    )


def question_item(page: Page, q: Question) -> nodes.Element:
    """Return a question with its choices or its answer."""
    label = f"check-{page.name}-{q.id}"
    text = page.parse(q.question, q)
    if q.several:
        text.append(nodes.paragraph("", "Several are right: find them all."))
    parts = choices(page, q) if q.choices else [entry(page, q, label), *numbers(page, q)]
    kind = "selfcheck-choices" if q.choices else "selfcheck-number"
    asked = element("div", *text, id=f"{label}-text")
    group = element("div", asked, *parts, role="group", aria_labelledby=f"{label}-text")
    return element("li", group, id=label, cls=kind)


def choices(page: Page, q: Question) -> list[nodes.Node]:
    """Return the choices of a question: opening one says whether it is right."""
    items = [choice(page, q, c, letter) for c, letter in zip(q.choices, LETTERS, strict=False)]
    return [element("ul", *items)]


def choice(page: Page, q: Question, c: Choice, letter: str) -> nodes.Element:
    """Return a choice; what it opens is announced."""
    text = [nodes.inline("", f"({letter}) "), *page.inline(c.text, q)]
    body = reply(page, VERDICTS[c.right], c.because, q)
    kind = "selfcheck-right" if c.right else "selfcheck-wrong"
    shown = element("details", element("summary", *text), element("div", *body), cls=kind)
    return element("li", shown, aria_live="polite")


def reply(page: Page, verdict: str, because: str, q: Question) -> list[nodes.Node]:
    """Return a reason that starts with the verdict."""
    return page.parse(f"**{verdict}** {because}", q)


def entry(page: Page, q: Question, label: str) -> nodes.Element:
    """Return the form for a number, which the script shows."""
    box = element("input", id=f"{label}-entry", type="text", autocomplete="off", size="12")
    unit = [element("span", *page.inline(q.unit, q))] if q.unit else []
    return element(
        "form",
        element("label", nodes.Text("Your answer"), **{"for": f"{label}-entry"}),
        box,
        *unit,
        element("button", nodes.Text("Check"), type="submit"),
        hidden=None,
        data_answer=repr(q.answer),
        data_tolerance=repr(q.tolerance),
    )


def numbers(page: Page, q: Question) -> list[nodes.Node]:
    """Return the place for the verdict, the remarks on wrong numbers, and the answer."""
    remarks = [remark(page, q, w) for w in q.wrong]
    solution = page.parse(f"**{answer_text(q)}** {q.because}", q)
    shown = element(
        "details",
        element("summary", nodes.Text("Show the answer")),
        element("div", *solution),
        cls="selfcheck-solution",
    )
    verdict = element("p", cls="selfcheck-verdict", hidden=None)
    return [element("div", verdict, *remarks, shown, aria_live="polite")]


def remark(page: Page, q: Question, w: Wrong) -> nodes.Element:
    """Return what to say of a typical wrong number."""
    return element(
        "details",
        element("summary", nodes.Text(f"If you found {w.when:g}")),
        element("div", *page.parse(w.because, q)),
        cls="selfcheck-remark",
        data_when=repr(w.when),
    )


def answer_text(q: Question) -> str:
    """Return the number that a question asks for, with its unit."""
    return f"{q.answer:.10g}{f' {q.unit}' if q.unit else ''}."


def print_answer(page: Page, q: Question) -> list[nodes.Node]:
    """Return the answer and its reason, as paper shows them."""
    if not q.choices:
        return page.parse(f"**{answer_text(q)}** {q.because}", q)
    right = [(x, c) for x, c in zip(LETTERS, q.choices, strict=False) if c.right]
    return [n for x, c in right for n in reply(page, f"({x})", c.because, q)]


def add_script(app, pagename, templatename, context, doctree):
    """Load the script on the pages that ask something."""
    if doctree and any(
        n["given"].get("class") == "selfcheck" for n in doctree.findall(html_element)
    ):
        app.add_js_file(SCRIPT, loading_method="defer")


def ignore(self, node):
    """Leave the text as it is in formats without HTML."""


def setup(app: Sphinx):
    """Register the directive."""
    html, other = (visit_element, depart_element), (ignore, ignore)
    for kind in (html_element, html_text):
        app.add_node(kind, html=html, singlehtml=html, text=other, latex=other)
    app.add_directive("selfcheck", SelfCheck)
    app.connect("html-page-context", add_script)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
