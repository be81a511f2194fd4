"""The part of a notebook that one figure needs: a static slice of its code.

Statements are the top-level ones of all code cells, in order. A statement belongs to the slice of
a name if it is the last before that binds the name, or changes its object in place after that;
what it reads belongs to the slice in turn. What a function reads is looked up where the function
is used, as Python does. The slice of a figure is a program that makes the figure alone: the tests
run such programs and compare the bytes.

A name for a part of an object (``axes = figure.axes[0]``) is followed: what changes the part
changes the object. Generators of random numbers count as changed by every use. Not followed:
changes through other second names, and those that a function makes to what it does not own.
"""

import ast
import symtable
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from iclkit.bench.sources import magics_out

__all__ = ["Call", "Code", "Show", "Statement", "library_calls", "shows", "statements"]

Definition = ast.FunctionDef | ast.ClassDef
SHOW = "iclkit.bench.plots.show"
Import = ast.Import | ast.ImportFrom
NOW = {"listcomp", "setcomp", "dictcomp", "genexpr"}  # run where they stand


class Show(NamedTuple):
    """A figure in the code: its name, the place of its statement, and the call that shows it."""

    name: str
    at: int
    call: ast.Call


class Call(NamedTuple):
    """A library function in the code: its dotted name, and its arguments or None if passed on."""

    name: str
    arguments: str | None


class Names(NamedTuple):
    """What code reads before it binds it, what it binds for sure, and what it may bind."""

    reads: frozenset[str] = frozenset()
    binds: frozenset[str] = frozenset()
    may_bind: frozenset[str] = frozenset()

    def then(self, reads: Iterable[str], binds: Iterable[str]) -> "Names":
        """Return the names of this code with more code after it."""
        new, bound = frozenset(reads) - self.binds, frozenset(binds)
        return Names(self.reads | new, self.binds | bound, self.may_bind | bound)


@dataclass(frozen=True)
class Statement:
    """One top-level statement: its cell, its tree, its text; imports bring one name each."""

    cell: str
    node: ast.stmt
    text: str

    @cached_property
    def names(self) -> "Names":
        """What it binds and reads when it runs."""
        return names_of(self.node, Names())

    @cached_property
    def late(self) -> frozenset[str]:
        """Names that its functions and lambdas read when they are called."""
        return late_names(table_of(self.node))

    @cached_property
    def changes(self) -> frozenset[str]:
        """Names whose objects it may change in place."""
        if self.is_function:
            return frozenset()
        return frozenset(name for node in ast.walk(self.node) for name in changed(node))

    @cached_property
    def parts(self) -> frozenset[tuple[str, str]]:
        """Pairs of a name that it binds and the name of which that is a part."""
        return frozenset(pair for node in ast.walk(self.node) for pair in parts_named(node))

    @property
    def is_function(self) -> bool:
        """Whether it defines a function or a class."""
        return isinstance(self.node, Definition)

    @cached_property
    def generators(self) -> frozenset[str]:
        """Names that it binds to a generator of random numbers, or to a method of one."""
        if not isinstance(self.node, ast.Assign):
            return frozenset()
        pairs = [p for t in self.node.targets for p in paired(t, self.node.value)]
        return frozenset(t.id for t, v in pairs if isinstance(t, ast.Name) and is_stream(v))


@dataclass(frozen=True)
class Code:
    """The statements of a notebook, to be sliced."""

    statements: tuple[Statement, ...]

    @cached_property
    def imports(self) -> dict[str, str]:
        """Dotted names of what the notebook imports, by the name it uses."""
        nodes = [s.node for s in self.statements if isinstance(s.node, Import)]
        return dict(pair for node in nodes for pair in imported(node))

    @cached_property
    def generators(self) -> frozenset[str]:
        """Names that stand for a generator of random numbers somewhere."""
        return frozenset().union(*(s.generators for s in self.statements))

    @cached_property
    def parts(self) -> frozenset[tuple[str, str]]:
        """Pairs of a name and the name of which it stands for a part somewhere."""
        return frozenset().union(*(s.parts for s in self.statements))

    def slice(self, names: Iterable[str], at: int) -> list[int]:
        """Return the places of the statements before `at` that make the values of `names`."""
        found: set[int] = set()
        waiting = [(name, at) for name in names]
        seen = set(waiting)
        while waiting:
            new = set(self.needs(*waiting.pop(), found)) - seen
            waiting += new
            seen |= new
        return sorted(found)

    def needs(self, name: str, at: int, found: set[int]) -> Iterator[tuple[str, int]]:
        """Put the makers of `name` before `at` into `found`; yield what they need, and where."""
        for place in self.makers(name, at):
            statement = self.statements[place]
            found.add(place)
            yield from ((other, place) for other in statement.names.reads)
            yield from ((other, at) for other in statement.late)

    def makers(self, name: str, at: int) -> Iterator[int]:
        """Yield places before `at`, last first: changes of `name`, then what bound it."""
        for place in range(at - 1, -1, -1):
            statement = self.statements[place]
            if name in statement.names.may_bind or self.changed_at(place, name):
                yield place
            if name in statement.names.binds:
                return

    def changed_at(self, place: int, name: str) -> bool:
        """Return whether the statement at `place` may change the object of `name`."""
        statement = self.statements[place]
        if name in self.generators and name in statement.names.reads:
            return True
        changes = statement.changes - self.imports.keys()
        return any(name == other or self.is_part(other, name, place) for other in changes)

    def is_part(self, part: str, whole: str, place: int) -> bool:
        """Return whether `part` stands for a part of `whole` in the statement at `place`."""
        if (part, whole) not in self.parts:
            return False
        binders = [s for s in self.statements[: place + 1] if part in s.names.may_bind]
        return bool(binders) and (part, whole) in binders[-1].parts

    def program(self, places: Sequence[int]) -> str:
        """Return the statements at `places` as a program, imports first and only those used."""
        chosen = [self.statements[place] for place in places]
        return "\n".join([*import_lines(chosen), "", *body_lines(chosen)])


def statements(cells: Iterable[Mapping[str, Any]]) -> Code:
    r"""Return the code of a notebook's cells; what installs packages is left out.

    Parameters
    ----------
    cells : iterable of dict
        Cells as parsed JSON.

    Examples
    --------
    >>> code = statements([{"id": "a", "cell_type": "code", "metadata": {}, "source":
    ...                     "x = [1]\ny = 2\nx.append(3)\nz = sum(x)"}])
    >>> print(code.program(code.slice(["z"], 4)).strip())
    x = [1]
    x.append(3)
    z = sum(x)
    """
    code = [c for c in cells if c["cell_type"] == "code" and not is_removed(c)]
    return Code(tuple(s for c in code for s in statements_of(c["id"], "".join(c["source"]))))


def is_removed(cell: Mapping[str, Any]) -> bool:
    """Return whether a cell is no part of its page."""
    return "remove-cell" in cell["metadata"].get("tags", [])


def statements_of(cell: str, source: str) -> Iterator[Statement]:
    """Yield the statements of one cell, imports name by name."""
    source = magics_out(source)
    for node in ast.parse(source).body:
        if isinstance(node, Import):
            for one in split(node):
                yield Statement(cell, one, ast.unparse(one))
        else:
            yield Statement(cell, node, text_of(node, source))


def split(node: Import) -> Iterator[Import]:
    """Yield an import statement for every name that `node` brings."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield ast.ImportFrom(node.module, [alias], node.level)
        else:
            yield ast.Import([alias])


def text_of(node: ast.stmt, source: str) -> str:
    """Return the lines of a statement, its decorators and comments included."""
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    return "\n".join(source.splitlines()[first - 1 : node.end_lineno])


def import_lines(chosen: Iterable[Statement]) -> list[str]:
    """Return the import statements, one line for each module."""
    plain = [s.text for s in chosen if isinstance(s.node, ast.Import)]
    members: dict[str, list[str]] = {}
    for statement in chosen:
        if isinstance(statement.node, ast.ImportFrom):
            head, _, member = statement.text.partition(" import ")
            members.setdefault(head, []).append(member)
    listed = [f"{head} import {', '.join(sorted(set(members[head])))}" for head in sorted(members)]
    return sorted(set(plain)) + listed


def body_lines(chosen: Sequence[Statement]) -> Iterator[str]:
    """Yield the lines of all statements but imports, with room between cells and functions."""
    before = None
    for statement in chosen:
        if isinstance(statement.node, Import):
            continue
        if before and (statement.is_function or before.is_function):
            yield "\n"
        elif before and before.cell != statement.cell:
            yield ""
        yield statement.text
        before = statement


def table_of(node: ast.stmt | ast.expr) -> symtable.SymbolTable:
    """Return Python's own account of the names of a piece of code."""
    return symtable.symtable(ast.unparse(node), "cell", "exec")


def late_names(table: symtable.SymbolTable) -> frozenset[str]:
    """Return the global names that functions and lambdas in a table read when they are called."""
    children = table.get_children()
    parts = [late_names(c) if c.get_name() in NOW else global_names(c) for c in children]
    return frozenset().union(*parts)


def global_names(table: symtable.SymbolTable) -> frozenset[str]:
    """Return the global names of a function's or comprehension's table and those inside it."""
    own = frozenset(s.get_name() for s in table.get_symbols() if s.is_global())
    return own.union(*map(global_names, table.get_children()))


def names_of(node: ast.stmt, before: Names) -> Names:
    """Return the names of the code so far and then of `node`, in the order of execution."""
    match node:
        case ast.For():
            bound = after(node.iter, before).then((), targets(node.target))
            return in_order([*node.body, *node.orelse], bound)
        case ast.While():
            return in_order([*node.body, *node.orelse], after(node.test, before))
        case ast.If():
            return either(node, after(node.test, before))
        case ast.With():
            opened = [
                ast.Assign([i.optional_vars or ast.Name("_")], i.context_expr, lineno=0)
                for i in node.items
            ]
            return in_order([*opened, *node.body], before)
        case ast.Try():
            handlers = [statement for h in node.handlers for statement in h.body]
            return in_order([*node.body, *handlers, *node.orelse, *node.finalbody], before)
    return after(node, before)


def in_order(body: Iterable[ast.stmt], before: Names) -> Names:
    """Return the names after all statements of a body."""
    for node in body:
        before = names_of(node, before)
    return before


def either(node: ast.If, before: Names) -> Names:
    """Return the names after a choice: only what both branches bind is sure."""
    one, other = in_order(node.body, before), in_order(node.orelse, before)
    sure = one.binds & other.binds
    return Names(one.reads | other.reads, sure, one.may_bind | other.may_bind)


def after(node: ast.stmt | ast.expr, before: Names) -> Names:
    """Return the names after a simple statement or an expression; `before` stands before it."""
    table = table_of(node)
    symbols = table.get_symbols()
    reads = {s.get_name() for s in symbols if s.is_referenced()}
    if not isinstance(node, Definition):
        reads.update(*map(global_names, table.get_children()))
    if isinstance(node, ast.AugAssign):
        reads.update(roots([node.target]))
    bound = (s for s in symbols if s.is_assigned() or s.is_imported() or s.is_namespace())
    return before.then(reads, [s.get_name() for s in bound])


def targets(node: ast.expr) -> list[str]:
    """Return the names that a loop's target binds."""
    return [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]


def changed(node: ast.AST) -> Iterator[str]:
    """Yield names whose objects a node changes: targets with a part, methods called for effect."""
    if isinstance(node, ast.Assign):
        yield from (n for target in node.targets for n in parts_changed(target))
        yield from roots([node.value] if makes_axes(node.value) else [])
    elif isinstance(node, ast.AugAssign):
        yield from roots([node.target])
    elif isinstance(node, ast.For):
        yield from parts_changed(node.target)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        arguments = [a for a in node.value.args if isinstance(a, ast.Name)]
        yield from roots([node.value.func, *arguments])


def parts_changed(target: ast.expr) -> Iterator[str]:
    """Yield the objects of which an assignment sets an item or an attribute."""
    if isinstance(target, ast.Tuple | ast.List):
        yield from (name for part in target.elts for name in parts_changed(part))
    elif isinstance(target, ast.Subscript | ast.Attribute):
        yield from roots([target])


def roots(nodes: Iterable[ast.expr]) -> Iterator[str]:
    """Yield the names at the roots of expressions such as ``a.b[0].c().d``."""
    for node in nodes:
        while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
            node = node.func if isinstance(node, ast.Call) else node.value
        if isinstance(node, ast.Name):
            yield node.id


def parts_named(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the names that a node binds to a part of an object, each with the object's name."""
    if isinstance(node, ast.For):
        pairs = [(node.target, node.iter)]
    elif isinstance(node, ast.Assign):
        pairs = [pair for target in node.targets for pair in paired(target, node.value)]
    else:
        return
    for target, value in pairs:
        if isinstance(value, ast.Attribute | ast.Subscript) or makes_axes(value):
            yield from ((t, root) for t in targets(target) for root in roots([value]))


def makes_axes(value: ast.expr) -> bool:
    """Return whether an expression calls a method that puts axes into a figure."""
    return isinstance(value, ast.Call) and dotted(value.func)[1:] in (["subplots"], ["add_subplot"])


def paired(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """Return the targets of an assignment with their values, where they stand side by side."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return list(zip(target.elts, value.elts, strict=False))
    return [(target, value)]


def is_stream(value: ast.expr) -> bool:
    """Return whether an expression is a generator of random numbers, or a method of one."""
    while isinstance(value, ast.Attribute):
        value = value.value
    named = isinstance(value, ast.Call) and isinstance(value.func, ast.Name | ast.Attribute)
    return named and list(dotted(value.func))[-1:] in (["stream"], ["default_rng"])  # type: ignore[attr-defined]


def imported(node: Import) -> Iterator[tuple[str, str]]:
    """Yield the names that an import binds, with what they stand for."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield alias.asname or alias.name, f"{node.module}.{alias.name}"
        elif alias.asname:
            yield alias.asname, alias.name
        else:
            yield (top := alias.name.partition(".")[0]), top


def dotted(node: ast.expr) -> list[str]:
    """Return the parts of a dotted name, or nothing for other expressions."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return [*base, node.attr]
    return []


def shows(code: Code) -> Iterator[Show]:
    """Yield the figures that a notebook shows with `iclkit.bench.plots.show`."""
    for at, statement in enumerate(code.statements):
        for node in ast.walk(statement.node):
            if isinstance(node, ast.Call) and full_name(node.func, code) == SHOW:
                for word in node.keywords:
                    if word.arg == "name" and isinstance(word.value, ast.Constant):
                        yield Show(str(word.value.value), at, node)


def full_name(node: ast.expr, code: Code) -> str | None:
    """Return the dotted name of what an expression stands for by the imports, or None."""
    parts = dotted(node)
    return (
        ".".join([code.imports[parts[0]], *parts[1:]])
        if parts[:1] and parts[0] in code.imports
        else None
    )


def library_calls(nodes: Iterable[ast.AST], code: Code, package: str = "iclkit") -> list[Call]:
    """Return calls and mentions of functions of `package` in syntax trees, in order."""
    found = []
    for node in nodes:
        called = {id(n.func): n for n in ast.walk(node) if isinstance(n, ast.Call)}
        for part in ast.walk(node):
            name = full_name(part, code) if isinstance(part, ast.Name | ast.Attribute) else None
            if name and name.startswith(f"{package}."):
                found.append(Call(name, arguments(called.get(id(part)))))
    return found


def arguments(call: ast.Call | None) -> str | None:
    """Return the arguments of a call as text."""
    if call is None:
        return None
    text = ast.unparse(ast.Call(ast.Name("f"), call.args, call.keywords))
    return text[2:-1]
