"""Find computed numbers that were typed into prose.

A number that a run or a library call produces is glued in from the results; one from a paper
stands beside its place there.
Settings, sizes, exact constants and numbers of sections are free.
No rule can tell a result from a setting with certainty.
This one looks at the words around a number ("about", "times", "%", "falls to"), at its digits (a
setting seldom has three), and at what stands left of the equals sign.

What it lets pass: a sentence that asks; a place in a paper; a setting such as ``kappa = 0.5``; a
number that a numerical expression beside it equals, as in 30/11 = 2.7273, which is computed and
compared; a number of three digits that an assertion of the page's code repeats; and, in the
solution of an exercise, any number of its own code, which sets or asserts it.
There every number of two digits needs such a place.
"""

import ast
import math
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

__all__ = ["Find", "caption_finds", "finds", "numeric_value", "sentences"]


class Find(NamedTuple):
    """A number that looks computed, the words around it, and its sentence."""

    phrase: str
    sentence: str


# ------------------------------------------------------------------ words

COUNTS = (
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty"
    "|sixty|seventy|eighty|ninety|hundred|thousand|million"
)
PARTS = r"half|(?:a |one |two |three )(?:thirds?|quarters?|fifths?|sixths?|eighths?|tenths?)"
NUMERAL = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
DIGITS = rf"(?<![\w.^]){NUMERAL}(?![\w,]?\d)"
#: A number in digits or words; #...# is a formula with a power of ten, see `split_math`.
VALUE = rf"(?:{DIGITS}|#[^#]*#|\b(?:a )?(?:{COUNTS})\b|\b(?:{PARTS})\b)"
#: The same without 0 and 1, which are limits more often than results.
RESULT = rf"(?!(?:0|1)(?![\d.,]*[.,]\d)\b(?! ?%)){VALUE}"
NEAR = (
    r"(?<!symmetric )about|around|roughly|approximately|nearly|almost|near|close to|some"
    r"|well (?:over|above|below|under)"
)
REST = r"(?:levels? off|(?:lies?|stays?|rests?|peaks?|starts?|ends?|scatters?)(?: \w+)?)"
MOVES = (
    r"(?:we|runs?) (?:find|found|measured|see|saw|get|got)|is off by|off by|differs? by|misses by"
    r"|agrees? (?:to|within)|within|(?:falls?|drops?|rises?|grows?|shrinks?|sinks?|comes?)"
    r" (?:to|from|below|above|by)|reach(?:es|ed)?|gains?|loses?|saves?|(?:larger|smaller|higher"
    rf"|lower|faster|slower|better|worse|closer) by|{REST} (?:at|near|above|below|between|within)"
)
UNITS = (
    r"per cent|percent|%(?! quantile)|times\b(?! as (?:many|long))|-?fold\b|standard errors?\b"
    r"|standard deviations?\b|seconds?\b|minutes?\b|hours?\b|orders? of magnitude|ms\b|GB\b|MB\b"
)
GAP = r"[ (]*(?:an? |the |its )?-?"
RULES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b(?:{NEAR})\b{GAP}(?:{RESULT}|@)",
        rf"\b(?:by|less than|more than|up to|at most|at least)\b{GAP}\b(?:{PARTS})\b",
        rf"\b(?:{MOVES})\b[ (]*(?:an? )?-?{RESULT}",
        rf"\bfactors? (?:of|near|about|between){GAP}{RESULT}",
        rf"(?<!exactly )(?<!bars of )(?:{VALUE}[ -]?(?:{UNITS})|\ba per cent)",
        rf"\b(?:{COUNTS}|one|zero) point (?:{COUNTS}|one|zero)\b",
    )
]
PLACE = re.compile(
    r"\b(?:Figures?|Tables?|Theorems?|Lemmas?|Corollar(?:y|ies)|Propositions?|Sections?|Appendix"
    r"|Equations?|Steps?|Parts?|Statements?|Experiments?|Chapters?|Python|(?-i:BY(?:-[A-Z]+)*)|arXiv|DOI"
    r")\s\[?[\d.]+\w?\]?(?:(?:, | and | to | or )(?:(?:Corollary|Figure|Theorem)\s)?\d[\d.]*)*",
    re.IGNORECASE,
)
OF_A_PAPER = re.compile(r"<cite>|\bpaper\b|\bauthors\b", re.IGNORECASE)
#: Lines of a card or of the description of an exercise, which hold no results.
CARD = re.compile(r"minutes; prepares |^\| (?:Reading time|Identifiers|Venue) \|")
#: What may stand left of the equals sign of a setting.
SETTING = re.compile(
    r"(?:[a-zA-Z]|\\(?:alpha|beta|gamma|delta|Delta|eta|theta|kappa|lambda|mu|nu|rho|sigma|tau|phi"
    r"|varphi|varepsilon|ell|xi|mathbb E|mathrm|text|[,;!])|_\{?\w+\}?|\^2|[|(), ])+"
)
RELATION = re.compile(r"(=|\\approx|\\simeq|\\sim|\\le\b|\\ge\b|<|>|\\to|\\ll|\\gg|\\in\b)")
AROUND = {r"\approx", r"\simeq", r"\sim"}
ROLE = re.compile(r"\{([\w:+-]+)\}`[^`]*`")
FENCE = re.compile(r"^(`{3,})(\{(\w[\w:-]*)\})?([^\n]*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
EXERCISE = {"exercise", "solution"}


# ------------------------------------------------------------------ the rule


def finds(markdown: str, code: str = "") -> list[Find]:
    """Return the numbers in a Markdown text that look computed and have no source beside them.

    Parameters
    ----------
    markdown : str
        A cell or a page, in MyST Markdown.
    code : str
        The code of the page, whose assertions may repeat a number.

    Returns
    -------
    list of Find
        In the order of the text; exercises and their solutions come last.

    Examples
    --------
    >>> [find.phrase for find in finds("The gap falls to 0.31, about 3 % of it.")]
    ['about 3', 'falls to 0.31', '3 %', '0.31']
    >>> finds("The gap falls to {glue:text}`gap:.2f`, at $d=20$.")
    []
    """
    page = [number for number in literals(asserts(code)) if digits_of(number) >= 3]
    return [
        Find(phrase, sentence)
        for kind, body, own in passages(markdown)
        for sentence in sentences(body)
        for phrase in phrases(sentence, kind)
        if not repeated(phrase, sources_of(own))
        if not (long(phrase) and repeated(phrase, page))
    ]


def caption_finds(source: str, code: str = "") -> list[Find]:
    """Return the same for the constant parts of captions and alternative texts in a code cell."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    given = [k.value for call in calls for k in call.keywords if k.arg in {"caption", "alt"}]
    return [find for text in given for find in finds(constant(text), code)]


def constant(node: ast.expr) -> str:
    """Return the text of a string expression, with `<code>` for what is computed."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(constant(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return constant(node.left) + constant(node.right)
    return " ".join(map(constant, node.args)) if isinstance(node, ast.Call) else "<code>"


def phrases(sentence: str, kind: str = "") -> list[str]:
    """Return the phrases of a sentence with a number that needs a source."""
    if sentence.endswith("?"):
        return []
    if PLACE.search(sentence) and OF_A_PAPER.search(sentence):
        return []
    plain, formulas = split_math(PLACE.sub("<place>", sentence))
    found = [] if kind == "exercise" else plain_phrases(plain)
    if kind == "solution":
        found += [digits for digits in re.findall(DIGITS, plain) if significant(digits) > 1]
    return found + [phrase for formula in formulas for phrase in math_phrases(formula, kind)]


def plain_phrases(plain: str) -> list[str]:
    """Return the phrases of a text without formulas."""
    found = [match[0] for rule in RULES for match in rule.finditer(plain)]
    return found + [digits for digits in re.findall(DIGITS, plain) if long_decimal(digits)]


def math_phrases(formula: str, kind: str) -> list[str]:
    r"""Return the numbers of a formula that look computed: after `\approx`, or of many digits."""
    pieces = RELATION.split(formula)
    parts, relations = pieces[::2], ["", *pieces[1::2]]
    return [
        f"{relation}{digits}"
        for place, (relation, part) in enumerate(zip(relations, parts, strict=True))
        if not is_exact(part, parts[:place] + parts[place + 1 :])
        for digits in re.findall(DIGITS, re.sub(r"\\[a-zA-Z]+", " ", part))
        if looks_computed(digits, relation, part, parts[place - 1])
        if kind != "exercise" or relation in AROUND
    ]


def looks_computed(digits: str, relation: str, part: str, left: str) -> bool:
    """Return whether a number in a part of a formula is a result, by what stands around it."""
    if relation in AROUND and numeric_value(part) not in {None, 0.0, 1.0}:
        return True
    is_setting = relation == "=" and SETTING.fullmatch(left) and significant(digits) <= 2
    return long_decimal(digits) and not is_setting


def long_decimal(digits: str) -> bool:
    """Return whether a number has decimals and more than one significant digit."""
    return "." in digits and significant(digits) > 1


def significant(digits: str) -> int:
    """Return how many significant digits a number has."""
    return len(digits.replace(".", "").replace(",", "").lstrip("-0"))


def is_exact(part: str, others: list[str]) -> bool:
    """Return whether a numerical part of a formula equals another part, to the digits printed."""
    value = numeric_value(part)
    near = [(numeric_value(other), max(step(part), step(other))) for other in others]
    return value is not None and any(v is not None and abs(v - value) <= s for v, s in near)


def step(part: str) -> float:
    """Return half a unit of the last decimal of a number, and next to nothing for expressions."""
    digits = re.fullmatch(r"-?[\d,]+(?:\.(\d+))?", part.strip())
    return 0.51 * 10.0 ** -len(digits[1] or "") if digits else 1e-12


# ------------------------------------------------------------------ numbers that code repeats


@cache
def asserts(code: str) -> str:
    """Return the assertions of a code."""
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Assert)]
    return "\n".join(ast.unparse(node) for node in nodes)


def sources_of(code: str) -> list[float]:
    """Return the numbers that a solution's code asserts, or states with two digits or more."""
    return literals(asserts(code)) + [n for n in literals(code) if digits_of(n) >= 2]


def digits_of(number: float) -> int:
    """Return how many significant digits a number of a code has."""
    return significant(f"{number:.15g}")


@cache
def literals(code: str) -> list[float]:
    """Return the numbers that a code states."""
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    texts = [node.value for node in nodes if isinstance(node.value, str)]
    numbers = [float(node.value) for node in nodes if isinstance(node.value, int | float)]
    return numbers + [float(text) for text in texts if re.fullmatch(r"\d+(?:\.\d+)?", text)]


def repeated(phrase: str, stated: list[float]) -> bool:
    """Return whether all numbers of a phrase are among the stated ones, to the digits printed."""
    numbers = re.findall(NUMERAL, phrase)
    return bool(numbers) and all(
        any(abs(float(n.replace(",", "")) - value) <= step(n) for value in stated) for n in numbers
    )


def long(phrase: str) -> bool:
    """Return whether all numbers of a phrase have three digits or more."""
    return all(significant(number) >= 3 for number in re.findall(NUMERAL, phrase))


# ------------------------------------------------------------------ from Markdown to sentences


def passages(markdown: str) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, text, code) of the text outside exercises and of each of them."""
    rest = FENCE.sub(lambda m: "" if m[3] in EXERCISE else m[0], markdown)
    yield "", rest, ""
    for match in FENCE.finditer(markdown):
        if match[3] in EXERCISE:
            code = [m[5] for m in FENCE.finditer(match[5]) if m[4].strip() == "python"]
            yield match[3], match[5], "\n".join(code)


def sentences(markdown: str) -> Iterator[str]:
    """Yield the sentences of a text without code, options of directives, roles and targets.

    Examples
    --------
    >>> list(sentences("The gap ({claim}`X-1`) closes. It is `gap` in {cite:t}`a2024`."))
    ['The gap (<role>) closes.', 'It is <code> in <cite>.']
    """
    text = re.sub(r"\$\$(.*?)\$\$[^\n]*", one_line, without_code(markdown), flags=re.DOTALL)
    text = ROLE.sub(lambda m: "<cite>" if m[1].startswith("cite") else "<role>", text)
    text = re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "<code>", text))
    for line in text.splitlines():
        if not CARD.search(line) and not line.startswith(("(", "#")):
            yield from re.split(r"(?<=[.?!:])\s+(?=[A-Z*$<])", line.strip())


def one_line(formula: re.Match[str]) -> str:
    """Return a displayed formula as one in the text."""
    return f"${' '.join(formula[1].split())}$"


def without_code(markdown: str) -> str:
    """Return the text without blocks of code, fences and options, bodies of directives kept."""
    bare = FENCE.sub(lambda m: without_code(m[5]) if m[2] else "", markdown)
    return re.sub(r"^:[\w-]+:.*$", "", bare, flags=re.MULTILINE)


def split_math(sentence: str) -> tuple[str, list[str]]:
    """Return the sentence with numbers for numerical formulas, and its other formulas.

    An exact constant such as a fraction or a root becomes ``@``, a power of ten ``#...#``.
    """
    formulas: list[str] = []

    def replaced(match: re.Match[str]) -> str:
        bare = re.sub(r"(\\,)?\\%$", "", match[1])
        percent = " %" if bare != match[1] else ""
        if numeric_value(bare) is None:
            formulas.append(match[1])
            return f"<m>{percent}"
        if re.fullmatch(r"-?[\d,.]+", bare):
            return bare + percent
        return (f"#{bare}#" if "10^" in bare else "@") + percent

    return re.sub(r"\$([^$]+)\$", replaced, sentence), formulas


# ------------------------------------------------------------------ numerical expressions

REWRITTEN = [
    (re.compile(pattern), python)
    for pattern, python in (
        (r"\\[td]?frac(\d)(\d)", r"((\1)/(\2))"),
        (r"\\[td]?frac(\d)\{([^{}]*)\}", r"((\1)/(\2))"),
        (r"\\[td]?frac\{([^{}]*)\}(\d)", r"((\1)/(\2))"),
        (r"\\[td]?frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))"),
        (r"\\sqrt(\d)", r"((\1)**.5)"),
        (r"\\sqrt\{([^{}]*)\}", r"((\1)**.5)"),
        (r"\^\{([^{}]*)\}", r"**(\1)"),
        (r"\^(\d)", r"**\1"),
        (r"\\cdot|\\times", "*"),
        (r"\\pi", "(pi)"),
        (r"(?<![a-z(])e(?=\*\*)", "(e)"),
        (r"\\(?:bigl|bigr|left|right)", ""),
        (r"(?<=[\d)])(?=\()", "*"),
    )
]
NAMES = {"pi": math.pi, "e": math.e}
ACTIONS: dict[type, Callable[..., float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
    ast.USub: lambda a: -a,
}


def numeric_value(latex: str) -> float | None:
    r"""Return the value of a numerical expression in LaTeX, None if it holds anything else.

    Examples
    --------
    >>> round(numeric_value(r"\frac{30}{11}"), 4)
    2.7273
    >>> numeric_value(r"2\sqrt2-1") == 2 * 2**0.5 - 1
    True
    >>> numeric_value(r"\frac{30}{d}") is None
    True
    """
    text, before = re.sub(r"\\[,;! ]|\s|(?<=\d),(?=\d{3})", "", latex), ""
    while text != before:
        before = text
        for pattern, python in REWRITTEN:
            text = pattern.sub(python, text)
    try:
        return value_of(ast.parse(text, mode="eval").body)
    except (SyntaxError, KeyError, ZeroDivisionError, OverflowError):
        return None


def value_of(node: ast.expr) -> float:
    """Return the value of an arithmetical expression; KeyError if it is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.BinOp):
        return ACTIONS[type(node.op)](value_of(node.left), value_of(node.right))
    if isinstance(node, ast.UnaryOp):
        return ACTIONS[type(node.op)](value_of(node.operand))
    return NAMES[node.id if isinstance(node, ast.Name) else ""]
