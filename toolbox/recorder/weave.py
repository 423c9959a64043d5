"""Weave calls into a Python function's own code, so that no frame of ours stands on its stack.

A wrapper would show in every traceback that passes it, shift the frames that asyncio's debug mode
stores, and cost a call. The woven function keeps its file, line numbers and columns: tracebacks are
those of the unwoven one.
"""

import ast
import inspect
import types
from collections.abc import Callable


class Unknown(RuntimeError):
    """The function is not the one that we know how to weave into (a newer Python?)."""


def weave(
    function: types.FunctionType,
    hooks: dict[str, Callable],
    *,
    start: str = "",
    finish: str = "",
    result: str = "",
    replace: dict[str, str] | None = None,
    after: dict[str, str] | None = None,
) -> types.FunctionType:
    """Return a copy of `function` that also calls `hooks`, by the names that the statements use.

    start   statement to run first
    finish  statement to run last, whatever happens
    result  expression that stands for each returned value `_`
    replace {expression in the function: expression that takes its place}
    after   {statement in the function: statement that follows it}
    """
    definition = _parse(function)
    weaver = _Weaver(result, replace or {}, after or {})
    definition.body = [weaver.visit(node) for node in definition.body]
    definition.body = _flat(definition.body)
    if missing := weaver.missing():
        raise Unknown(f"{function.__qualname__} has no {missing[0]!r}")
    if finish:
        definition.body = [
            ast.Try(body=definition.body, handlers=[], orelse=[], finalbody=_statement(finish))
        ]
    if start:
        definition.body = _statement(start) + definition.body
    return _compile(definition, function, hooks)


class _Weaver(ast.NodeTransformer):
    def __init__(self, result: str, replace: dict[str, str], after: dict[str, str]) -> None:
        self.result, self.replace, self.after = result, replace, after
        self.found: set[str] = set()

    def missing(self) -> list[str]:
        return [text for text in (*self.replace, *self.after) if text not in self.found]

    def visit(self, node: ast.AST):
        text = ast.unparse(node) if isinstance(node, ast.expr | ast.stmt) else None
        if text in self.replace and isinstance(node, ast.expr):
            self.found.add(text)
            return _located(ast.parse(self.replace[text], mode="eval").body, node)
        if text in self.after and isinstance(node, ast.stmt):
            self.found.add(text)
            node = super().visit(node)
            return [node, *(_located(new, node) for new in _statement(self.after[text]))]
        return super().visit(node)

    def visit_Return(self, node: ast.Return) -> ast.Return:
        self.generic_visit(node)
        if self.result and node.value is not None:
            call = ast.parse(self.result, mode="eval").body
            node.value = _located(_Fill(node.value).visit(call), node)
        return node

    def visit_FunctionDef(self, node):
        return node  # a return in there is not ours

    visit_Lambda = visit_AsyncFunctionDef = visit_FunctionDef


class _Fill(ast.NodeTransformer):
    """Put an expression in the place of `_`."""

    def __init__(self, value: ast.expr) -> None:
        self.value = value

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.value if node.id == "_" else node


def _parse(function: types.FunctionType) -> ast.FunctionDef:
    lines, first = inspect.getsourcelines(function)
    if not lines[0].startswith(" "):
        tree = ast.parse("".join(lines))
        ast.increment_lineno(tree, first - 1)
        return tree.body[0]
    tree = ast.parse("if True:\n" + "".join(lines))  # keeps the columns of a method
    ast.increment_lineno(tree, first - 2)
    return tree.body[0].body[0]


def _statement(text: str) -> list[ast.stmt]:
    return ast.parse(text).body


def _located(node: ast.AST, where: ast.AST) -> ast.AST:
    for child in ast.walk(node):
        if not hasattr(child, "lineno") or child.lineno < where.lineno:
            ast.copy_location(child, where)
    return node


def _flat(body: list) -> list[ast.stmt]:
    return [node for item in body for node in (item if isinstance(item, list) else [item])]


def _compile(
    definition: ast.FunctionDef, function: types.FunctionType, hooks: dict[str, Callable]
) -> types.FunctionType:
    """The hooks become free variables of the function: its module's globals stay as they are."""
    for node in ast.walk(definition):
        if isinstance(node, ast.stmt | ast.expr) and not hasattr(node, "lineno"):
            ast.copy_location(node, definition)
    factory = ast.parse(f"def factory({', '.join(hooks)}): return {definition.name}").body[0]
    factory.body.insert(0, definition)
    tree = ast.fix_missing_locations(ast.Module(body=[factory], type_ignores=[]))
    namespace: dict = {}
    exec(compile(tree, function.__code__.co_filename, "exec"), function.__globals__, namespace)
    woven = namespace["factory"](**hooks)
    woven.__code__ = woven.__code__.replace(co_qualname=function.__code__.co_qualname)
    woven.__qualname__, woven.__module__ = function.__qualname__, function.__module__
    woven.__defaults__, woven.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    woven.__doc__ = function.__doc__
    return woven
