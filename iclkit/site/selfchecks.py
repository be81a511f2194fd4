"""Self-check questions: the files under ``book/selfchecks``, read and validated.

A file is a YAML list. Each entry asks for a choice or for a number and says, for every choice and
for the answer, why. The book shows the questions; the tests evaluate the formulas behind the
numbers.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["Choice", "Question", "SelfCheckError", "Wrong", "load_questions", "parse_questions"]

CHOICE_KEYS = {"id", "question", "several", "choices"}
NUMBER_KEYS = {"id", "question", "answer", "tolerance", "unit", "because", "formula", "wrong"}
MAX_CHOICES = 8


class SelfCheckError(ValueError):
    """A file of questions is not as it must be; the message says where and what to do."""


@dataclass(frozen=True)
class Choice:
    """One choice: its text, whether it is right, and why."""

    text: str
    right: bool
    because: str


@dataclass(frozen=True)
class Wrong:
    """What to say of a typical wrong number."""

    when: float
    because: str


@dataclass(frozen=True)
class Question:
    """A question: with `choices`, or else with a number as its `answer`.

    `tolerance` is absolute. `formula` is the expression that gives the answer; readers do not see
    it. `line` is the place in the file.
    """

    id: str
    line: int
    question: str
    choices: tuple[Choice, ...] = ()
    answer: float = math.nan
    tolerance: float = 0.0
    unit: str = ""
    because: str = ""
    formula: str = ""
    wrong: tuple[Wrong, ...] = ()

    @property
    def several(self) -> bool:
        """Whether more than one choice is right."""
        return sum(choice.right for choice in self.choices) > 1

    def accepts(self, number: float) -> bool:
        """Return whether a number counts as the answer."""
        return abs(number - self.answer) <= self.tolerance


def load_questions(path: Path) -> list[Question]:
    """Return the questions of a file.

    Parameters
    ----------
    path : Path
        A YAML file; the book keeps them under ``book/selfchecks``.

    Raises
    ------
    SelfCheckError
        If the file cannot be read, or a question is not as it must be; only the first defect is
        named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise SelfCheckError(f"cannot be read as UTF-8 text: {problem}") from problem
    return parse_questions(text)


def parse_questions(text: str) -> list[Question]:
    """Return the questions that a YAML text holds.

    Raises
    ------
    SelfCheckError
        If a question is not as it must be.

    Examples
    --------
    >>> text = "- {id: sum, question: One plus one, answer: 2, tolerance: 0.1, because: So.}"
    >>> parse_questions(text)[0].accepts(2.05)
    True
    """
    try:
        node, data = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise SelfCheckError(f"not YAML: {' '.join(str(problem).split())}") from problem
    if not (isinstance(node, yaml.SequenceNode) and data):
        raise SelfCheckError("must be a list of questions, each starting with `- id:`")
    questions = [_question(*entry) for entry in zip(data, node.value, strict=True)]
    _unique("id", [q.id for q in questions], "rename one", where="two questions")
    return questions


def _question(data: Any, node: yaml.Node) -> Question:
    line = node.start_mark.line + 1
    name = data.get("id") if isinstance(data, dict) else None
    if not (isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9-]*", name)):
        raise SelfCheckError(
            f"line {line}: a question needs an id of small letters, digits and -, got {name!r}"
        )
    try:
        _refuse_repeated_keys(node)
        if not {"choices", "answer"} & set(data):
            raise SelfCheckError("needs `choices`, or an `answer` that is a number")
        kind = _choice_parts if "choices" in data else _number_parts
        return Question(name, line, _text(data, "question"), **kind(data))
    except SelfCheckError as problem:
        raise SelfCheckError(f"line {line}, question {name}: {problem}") from problem


def _refuse_repeated_keys(node: yaml.Node) -> None:
    """Raise for a key given twice: YAML would take the last one in silence."""
    if isinstance(node, yaml.MappingNode):
        _unique("key", [key.value for key, _ in node.value], "keep one", where="one mapping")
        for _, value in node.value:
            _refuse_repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated_keys(value)


def _choice_parts(data: Mapping[str, Any]) -> dict[str, Any]:
    _only(data, CHOICE_KEYS, "a question with choices")
    choices = tuple(_choice(entry) for entry in _entries(data, "choices"))
    if len(choices) > MAX_CHOICES:
        raise SelfCheckError(f"at most {MAX_CHOICES} choices, got {len(choices)}; drop some")
    _unique("choice", [c.text for c in choices], "reword one", where="one question")
    several, right = _flag(data, "several"), sum(c.right for c in choices)
    if several and right < 2:
        raise SelfCheckError(f"several choices must be right, got {right}; leave out `several`")
    if not several and right != 1:
        raise SelfCheckError(
            f"exactly one choice must be right, got {right}; "
            "mark it `right: true`, or add `several: true`"
        )
    if right == len(choices):
        raise SelfCheckError("a choice must be wrong; add one that a reader could believe")
    return {"choices": choices}


def _choice(data: Any) -> Choice:
    _only(data, {"text", "right", "because"}, "a choice")
    return Choice(_text(data, "text"), _flag(data, "right"), _text(data, "because"))


def _number_parts(data: Mapping[str, Any]) -> dict[str, Any]:
    _only(data, NUMBER_KEYS, "a question for a number")
    answer = _number(data, "answer")
    tolerance = _tolerance(data.get("tolerance"), answer)
    wrong = tuple(_wrong(entry) for entry in _entries(data, "wrong", default=()))
    _refuse_unreachable(wrong, answer, tolerance)
    return {
        "answer": answer,
        "tolerance": tolerance,
        "unit": _text(data, "unit", default=""),
        "because": _text(data, "because"),
        "formula": _text(data, "formula", default=""),
        "wrong": wrong,
    }


def _wrong(data: Any) -> Wrong:
    _only(data, {"when", "because"}, "an entry of `wrong`")
    return Wrong(_number(data, "when"), _text(data, "because"))


def _refuse_unreachable(wrong: tuple[Wrong, ...], answer: float, tolerance: float) -> None:
    """Raise for a wrong number that no reader would be told of."""
    for entry in wrong:
        if abs(entry.when - answer) <= tolerance:
            raise SelfCheckError(
                f"`when: {entry.when:g}` counts as the answer {answer:g} within {tolerance:g}; "
                "take a smaller tolerance, or drop it"
            )
    _unique("`when`", [f"{w.when:g}" for w in wrong], "drop one", where="one question")


def _tolerance(given: Any, answer: float) -> float:
    """Return the absolute tolerance from a number, or from a percentage of the answer."""
    share = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", given) if isinstance(given, str) else None
    value = abs(answer) * float(share[1]) / 100 if share else given
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise SelfCheckError(
            f"tolerance must be a number > 0 or a percentage such as '1 %', got {given!r}"
            + ("; give an absolute one, since the answer is 0" if share and not answer else "")
        )
    return float(value)


def _text(data: Mapping[str, Any], key: str, *, default: str | None = None) -> str:
    value = data.get(key, default)
    if not isinstance(value, str) or (default is None and not value.strip()):
        raise SelfCheckError(
            f"`{key}` must be text, got {value!r}"
            + ("; put it in quotes" if value not in (None, "") else "; write it")
        )
    return value.strip()


def _number(data: Mapping[str, Any], key: str) -> float:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SelfCheckError(
            f"`{key}` must be a finite number such as 2.5 or 1.0e-3, without quotes, got {value!r}"
        )
    return float(value)


def _flag(data: Mapping[str, Any], key: str) -> bool:
    value = data.get(key, False)
    if not isinstance(value, bool):
        raise SelfCheckError(f"`{key}` must be true or false, got {value!r}")
    return value


def _entries(data: Mapping[str, Any], key: str, *, default: Any = None) -> Iterator[Any]:
    value = data.get(key, default)
    if not isinstance(value, list) and value != default:
        raise SelfCheckError(f"`{key}` must be a list, got {value!r}; start each entry with `-`")
    return iter(value or ())


def _only(data: Any, allowed: set[str], what: str) -> None:
    if not isinstance(data, dict):
        raise SelfCheckError(f"{what} must have keys, got {data!r}")
    if extra := sorted(set(map(str, data)) - allowed):
        raise SelfCheckError(
            f"{what} has no key {', '.join(extra)}; it has {', '.join(sorted(allowed))}"
        )


def _unique(what: str, names: list[str], remedy: str, *, where: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise SelfCheckError(f"{what} {name!r} stands twice in {where}; {remedy}")
