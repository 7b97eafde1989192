"""Run a stranger's Jinja template: what it can reach is listed, what it can spend is counted.

Jinja's sandbox stops a template from leaving through attributes, not from filling the memory or
running for ever. Here nothing is allowed but what is named below (tags, filters, functions, methods
of texts, lists and dictionaries), and a budget pays for everything: before a template is compiled
its syntax tree gets a payment at each place where work or text can grow: loops, macros, outputs,
comparisons, new lists. No clock is read, so the same template ends at the same step everywhere.
Rendering is otherwise as transformers does it (`chat_template_utils.py`). Not here:
`gptcli.chat_templates.own` reads the file and words the errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from gptcli.chat_templates.budget import STEP_UNITS, Budget
from gptcli.chat_templates.builtins import METHODS, Clock, filters, functions, tests, words

LOOP = words(
    "changed cycle depth depth0 first index index0 last length nextitem previtem revindex revindex0"
)
# Tags and expressions; no include, import, extends, block or autoescape.
SYNTAX = words(
    "Add And Assign AssignBlock Break Call CallBlock Compare Concat CondExpr Const Continue Dict"
    " Div Filter FilterBlock FloorDiv For Getattr Getitem If Keyword List Macro Mod Mul NSRef Name"
    " Neg Not Operand Or Output Pair Pos Pow Slice Sub Template TemplateData Test Tuple With"
)
# Names of filters that no template can write, as they hold a space.
PAY, EACH, JOIN = " pay", " pay for each", " join"


class Program:
    """A compiled template. Raises Jinja's errors, SecurityError and Runaway; see `render`."""

    def __init__(self, source: str) -> None:
        self._environment = _Environment(trim_blocks=True, lstrip_blocks=True, optimized=False)
        tree = self._environment.parse(source)
        self._template = self._environment.from_string(_Meter().visit(tree))

    def render(self, messages: Sequence[Mapping[str, str]], bos: str, eos: str) -> str:
        """The prompt for `messages`, with the beginning of a reply.

        What it may cost grows with the messages. Raises whatever the template runs into; ValueError
        where the text is no Unicode.
        """
        size = sum(len(text) for message in messages for text in message.values())
        self._environment.budget = Budget.for_input(size + 10 * len(messages))
        text = self._template.render(
            messages=[dict(message) for message in messages],
            bos_token=bos,
            eos_token=eos,
            add_generation_prompt=True,
            tools=None,
            documents=None,
        )
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("its text holds a lone surrogate") from None
        return text


class _Generation(Extension):
    """`{% generation %}` marks, for training, what the model wrote: here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with lists of what is allowed in place of lists of what is not."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

    def __init__(self, *, trim_blocks: bool, lstrip_blocks: bool, optimized: bool) -> None:
        super().__init__(
            trim_blocks=trim_blocks,
            lstrip_blocks=lstrip_blocks,
            optimized=optimized,
            extensions=["jinja2.ext.loopcontrols", _Generation],
        )
        self.budget = Budget.for_input(0)  # also for the constants that the compiler computes
        self.filters = filters(lambda: self.budget)
        self.filters |= {PAY: _pay, EACH: _each, JOIN: _join}
        self.tests = tests(lambda: self.budget)
        self.globals = functions(lambda: self.budget, Clock())
        self._functions = list(self.globals.values())

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, Namespace):
            return not attr.startswith("_")
        if isinstance(obj, LoopContext):
            return attr in LOOP
        return attr in METHODS.get(type(obj), ())

    def is_safe_callable(self, obj: Any) -> bool:
        if isinstance(obj, Macro) or any(obj is function for function in self._functions):
            return True
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, LoopContext):
            return name in ("cycle", "changed")
        return name in METHODS.get(type(owner), ())

    def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
        # Jinja gives a value that fails when used; printed, it would be silent.
        raise SecurityError(f"{attribute!r} of a {type(obj).__name__} is out of bounds")

    def wrap_str_format(self, value: Any) -> None:
        return None  # format() is no method that is allowed

    def getattr(self, obj: Any, attribute: str) -> Any:
        self.budget.pay(STEP_UNITS)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        self.budget.pay(STEP_UNITS)
        return super().getitem(obj, argument)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        self.budget.check_operation(operator, left, right)
        return self.budget.worth(super().call_binop(context, operator, left, right))

    # A template calls with any arguments: these two are Jinja's to name.
    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        if isinstance(obj, Undefined):
            return obj()  # Jinja's error, which names it
        if not self.is_safe_callable(obj):
            raise SecurityError(f"a {type(obj).__name__} cannot be called")
        for added in (
            "_loop_vars",
            "_block_vars",
        ):  # by Jinja's compiler
            kwargs.pop(added, None)
        owner = getattr(obj, "__self__", None)
        self.budget.worth([owner, *args, *kwargs.values()])
        bounded = METHODS.get(type(owner), {}).get(getattr(obj, "__name__", ""))
        if bounded is not None:
            return self.budget.worth(bounded(self.budget, owner, *args, **kwargs))
        return self.budget.worth(super().call(context, obj, *args, **kwargs))


class _Meter(NodeTransformer):
    """Puts payments into a syntax tree, and refuses syntax that is not listed."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        kind = type(node).__name__
        if kind not in SYNTAX:
            raise SecurityError(f"line {node.lineno}: {kind.lower()} is not allowed here")
        return super().visit(node, *args, **kwargs)

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        texts = [
            nodes.Const(child.data) if isinstance(child, nodes.TemplateData) else self.visit(child)
            for child in node.nodes
        ]
        node.nodes = [_paid(text) for text in texts]
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.recursive:
            raise SecurityError(f"line {node.lineno}: a recursive loop is not allowed here")
        size = _size(node)
        self.generic_visit(node)
        node.iter = _paid(node.iter, EACH, nodes.Const(size))
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        return self._body(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        return self._body(node)

    def _body(self, node: nodes.Macro | nodes.CallBlock) -> nodes.Node:
        """A body that runs each time it is called pays for its own length first."""
        price = nodes.Const(_size(node))
        self.generic_visit(node)
        node.body.insert(0, nodes.Output([_paid(nodes.Const(""), PAY, price)]))
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _paid(node.expr)
        for operand in node.ops:
            operand.expr = _paid(operand.expr)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return _paid(self.generic_visit(node))

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return _paid(self.generic_visit(node))

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        whole = self.generic_visit(node)  # `{% for key, value in ... %}` has a tuple to store to
        return _paid(whole) if node.ctx == "load" else whole

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        whole = self.generic_visit(node)
        return _paid(whole) if isinstance(node.arg, nodes.Slice) else whole

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _paid(nodes.List(node.nodes), JOIN)


def _paid(node: Any, how: str = PAY, *prices: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, how, list(prices), [], None, None)


def _size(node: nodes.Node) -> int:
    """How many nodes a tree has: what one pass through it may cost."""
    return 1 + sum(_size(child) for child in node.iter_child_nodes())


# With the context as an argument a filter is not computed at compile time, once for all.
@pass_context
def _pay(context: Any, value: Any, price: int = 0) -> Any:
    budget: Budget = context.environment.budget
    budget.pay(price)
    return budget.worth(value)


@pass_context
def _each(context: Any, value: Any, price: int) -> Any:
    budget: Budget = context.environment.budget
    budget.worth(value)
    budget.pay(price * (len(value) if hasattr(value, "__len__") else 1))
    return value


@pass_context
def _join(context: Any, parts: list[Any]) -> str:
    budget: Budget = context.environment.budget
    budget.worth(parts)
    return str(budget.worth("".join(map(str, parts))))
