"""Mutants of Python code: one node of the syntax tree is another one.

Left alone: annotations, docstrings, the words of an exception, decorators (caches) and how a class is laid
out in memory. Nothing of these changes an answer.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
CALLS = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "bisect_left": "bisect_right",
    "bisect_right": "bisect_left",
    "sorted": "list",
    "reversed": "list",
}
LAYOUT = {"frozen", "gc", "slots", "eq", "kw_only"}


@dataclass(eq=False)
class CodeMutant:
    """One change. `function`: the outermost function or method it lies in; empty in the module itself."""

    file: str
    module: str
    function: str
    line: int
    kind: str
    before: str
    after: str
    tree: ast.Module
    parent: ast.AST
    field: str
    position: int | None
    node: ast.AST

    @property
    def what(self) -> str:
        return f"{self.kind}: `{self.before}` -> `{self.after}`"

    def apply(self) -> ast.Module:
        """The tree with the change in it; for a process that ends with this mutant."""
        node = ast.fix_missing_locations(self.node)
        if self.position is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.position] = node
        return ast.fix_missing_locations(self.tree)


def code_mutants(root: Path, file: str, enums: dict[str, list[str]]) -> list[CodeMutant]:
    """Every mutant of one file, in the order of its lines."""
    tree = ast.parse((root / file).read_text("utf-8"))
    module = file.removesuffix(".py").replace("/", ".")
    walker = _Walker(file, module, tree, enums)
    walker.visit_children(tree, "")
    return walker.found


def enum_members(root: Path, package: str) -> dict[str, list[str]]:
    """The members of each enum of a package, by its name."""
    found: dict[str, list[str]] = {}
    for path in sorted((root / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and any(
                isinstance(base, ast.Name) and base.id == "StrEnum" for base in node.bases
            ):
                found[node.name] = [
                    target.id
                    for entry in node.body
                    if isinstance(entry, ast.Assign)
                    for target in entry.targets
                    if isinstance(target, ast.Name)
                ]
    return found


class _Walker:
    """Goes through a tree and notes each change that can be made to a node."""

    def __init__(self, file: str, module: str, tree: ast.Module, enums: dict[str, list[str]]) -> None:
        self.file, self.module, self.tree, self.enums = file, module, tree, enums
        self.found: list[CodeMutant] = []
        self.bound: set[str] = set()
        self.classes: set[str] = {""}

    def visit_children(self, node: ast.AST, function: str) -> None:
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list"):
                continue
            if isinstance(value, ast.AST):
                self.visit(value, node, field, None, function)
            elif isinstance(value, list):
                for position, entry in enumerate(value):
                    if isinstance(entry, ast.AST):
                        self.visit(entry, node, field, position, function)

    def visit(self, node: ast.AST, parent: ast.AST, field: str, position: int | None, function: str) -> None:
        if _is_left_alone(node, field):
            return
        seen: set[str] = set()
        for kind, new in self.changes(node, parent, field):
            if (after := ast.unparse(ast.fix_missing_locations(new))) in seen:
                continue
            seen.add(after)
            self.found.append(
                CodeMutant(
                    self.file,
                    self.module,
                    function,
                    getattr(node, "lineno", getattr(parent, "lineno", 0)),
                    kind,
                    _short(ast.unparse(node)),
                    _short(after),
                    self.tree,
                    parent,
                    field,
                    position,
                    new,
                )
            )
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if function in self.classes:  # a function in a function belongs to the outer one
                function = f"{function}.{node.name}".lstrip(".")
                if isinstance(node, ast.ClassDef):
                    self.classes.add(function)
                else:
                    self.bound = {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
            self.visit_children(node, function)
            return
        self.visit_children(node, function)
        if isinstance(node, ast.Assign):
            self.bound |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            self.bound.add(node.target.id)

    def changes(self, node: ast.AST, parent: ast.AST, field: str) -> Iterator[tuple[str, ast.AST]]:
        if isinstance(node, ast.expr):
            yield from self._of_expression(node, parent, field)
        elif isinstance(node, ast.stmt):
            yield from self._of_statement(node)

    def _of_statement(self, node: ast.stmt) -> Iterator[tuple[str, ast.AST]]:
        match node:
            case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise():
                yield "statement dropped", ast.Pass()
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
                yield "statement dropped", ast.Pass()
            case ast.Assign(targets=[ast.Name(id=name)]) if name in self.bound:
                yield "statement dropped", ast.Pass()
            case ast.Continue():
                yield "loop", ast.Break()
            case ast.Break():
                yield "loop", ast.Continue()
            case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
                yield "return value", ast.Return(ast.Constant(None))
        if isinstance(node, ast.AugAssign) and (other := ARITHMETIC.get(type(node.op))):
            yield "arithmetic", ast.AugAssign(node.target, other(), node.value)

    def _of_expression(self, node: ast.expr, parent: ast.AST, field: str) -> Iterator[tuple[str, ast.AST]]:
        match node:
            case ast.Compare():
                for n, operator in enumerate(node.ops):
                    ops = [*node.ops[:n], COMPARISONS[type(operator)](), *node.ops[n + 1 :]]
                    yield "comparison", ast.Compare(node.left, ops, node.comparators)
            case ast.BoolOp(op=op, values=values):
                other = ast.Or() if isinstance(op, ast.And) else ast.And()
                for n in range(1, len(values)):
                    sides = [
                        part[0] if len(part) == 1 else ast.BoolOp(op, part)
                        for part in (values[:n], values[n:])
                    ]
                    yield "and/or", ast.BoolOp(other, sides)
            case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
                yield "not" if isinstance(node.op, ast.Not) else "arithmetic", operand
            case ast.BinOp(op=op) if type(op) in ARITHMETIC:
                yield "arithmetic", ast.BinOp(node.left, ARITHMETIC[type(op)](), node.right)
            case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in CALLS:
                new = ast.Name(CALLS[name], ast.Load())
                if CALLS[name] == "list":
                    yield name, ast.Call(new, [first], [])
                else:
                    yield name, ast.Call(new, node.args, node.keywords)
            case ast.Constant(value=bool() as value):
                yield "constant", ast.Constant(not value)
            case ast.Constant(value=int() as value):
                yield "constant", ast.Constant(value + 1)
                yield "constant", ast.Constant(value - 1)
            case ast.Constant(value=str() as value):
                yield "text", ast.Constant(value + "?")
            case ast.Attribute(value=ast.Name(id=name), attr=member) if member in self.enums.get(name, ()):
                members = self.enums[name]
                following = members[(members.index(member) + 1) % len(members)]
                yield "enum member", ast.Attribute(node.value, following, node.ctx)
            case ast.Slice():
                if node.lower is not None:
                    yield "slice", ast.Slice(None, node.upper, node.step)
                if node.upper is not None:
                    yield "slice", ast.Slice(node.lower, None, node.step)
                if node.step is not None:
                    yield "slice", ast.Slice(node.lower, node.upper, None)
        if field == "test" and isinstance(parent, ast.If | ast.While | ast.IfExp) and not _is_turned(node):
            yield "condition", ast.UnaryOp(ast.Not(), node)
        if field == "ifs":
            yield "condition", ast.Constant(True)


def _is_turned(node: ast.expr) -> bool:
    """Is there a mutant already that says the opposite?"""
    turning = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
    if isinstance(node, ast.Compare):
        return len(node.ops) == 1 and isinstance(node.ops[0], turning)
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def _is_left_alone(node: ast.AST, field: str) -> bool:
    match node:
        case ast.Expr(value=ast.Constant()) | ast.Import() | ast.ImportFrom() | ast.Assert():
            return True
        case ast.Assign(value=ast.Subscript(value=ast.Name(id="dict" | "list" | "tuple" | "set"))):
            return True  # a type's other name
        case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar"))):
            return True
        case ast.keyword(arg=name) if field == "keywords" and name in LAYOUT:
            return True
        case ast.Call(func=ast.Name(id=name)) if field == "exc" and name.endswith(("Error", "Violated")):
            return True
    return False


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 90 else line[:87] + "..."
