"""The Python that works out a rig, as JavaScript for the page: one source, so that both make the same rig.

Modules are read, not run. What they use of Python, NumPy and OpenCV is written once more in `static/encoding/*.js`, with the same names
and orders of arguments; whatever a module uses beyond that fails when the page calls it, and the test that makes a rig by both finds it.

    x + y           $.add(x, y), which knows arrays; of two numbers the same as x + y
    f(a, k=b)       $.kw(f, [a], {k: b}), which puts b where f's parameter k is
    a[i, 2:]        $.get(a, $.T(i, $.slice(2, null, null)))
    class A         a class of JavaScript, called without `new`
"""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Words that mean something else in JavaScript.
RESERVED = frozenset(
    [
        "arguments",
        "await",
        "case",
        "catch",
        "const",
        "debugger",
        "default",
        "delete",
        "do",
        "enum",
        "eval",
        "export",
        "extends",
        "function",
        "implements",
        "in",
        "instanceof",
        "interface",
        "let",
        "new",
        "null",
        "package",
        "private",
        "protected",
        "public",
        "static",
        "super",
        "switch",
        "this",
        "throw",
        "typeof",
        "var",
        "void",
        "with",
        "yield",
    ]
)

OPERATORS = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.FloorDiv: "floordiv",
    ast.Mod: "mod",
    ast.Pow: "pow",
    ast.MatMult: "matmul",
    ast.BitAnd: "and_",
    ast.BitOr: "or_",
    ast.BitXor: "xor",
    ast.Eq: "eq",
    ast.NotEq: "ne",
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
}

#: What making a rig takes, each module after those that it imports: of `livepuppet.core`, and of `livepuppet.realtime`.
CORE = ("numbers", "square", "reading", "keypoints", "matrices")
REALTIME = (
    "framing.follow",
    "framing.refine",
    "framing.seek",
    "rig.close_ups",
    "rig.eye_fit",
    "rig.dark_eyes",
    "rig.lip_fit",
    "rig.looks",
    "rig.contours",
    "rig.finding",
    "motion.parts",
    "motion.eyes",
    "rig.ramps",
    "rig.amounts",
    "rig.template",
    "rig.pose",
    "rig.scratch",
    "rig.surface",
    "rig.brows",
    "rig.patches",
    "rig.rims",
    "rig.sampling",
    "rig.closed_eyes",
    "rig.eye_crop",
    "rig.eye_lids",
    "rig.eye_balls",
    "rig.eyes",
    "compositing.matte",
    "rig.lattice",
    "rig.matting",
    "rig.layers",
    "rig.teeth",
    "rig.mouth",
    "rig.head",
    "rig.rig",
    "rig.tables",
)

#: What the page calls.
ROOTS = (
    "finding.find",
    "layers.one_layer",
    "layers.split_layers",
    "rig.Rig",
    "rig.Face",
    "tables.rig_tables",
    "tables.sheets_tables",
    "matte.figure_colours",
    "pose.place",
    "square.Square",
    "keypoints.Keypoints",
)

#: What the page gives: networks, what they said before, the generic head; and what only drawing takes, which it does itself.
INSTEAD = {
    "matting._kept": "$host.kept",
    "matting._seen": "$host.matting",
    "closed_eyes._seen": "$host.closedEye",
    "close_ups._session": "$host.closeUps",
    "close_ups.default_avatar_eyes": "$host.avatarEyes",
    "template.head_template": "$host.headTemplate",
    "sampling.Sampler": "$host.drawn",
    "scratch.Scratch": "$host.drawn",
    "head._Reach": "$host.drawn",
}

#: Modules that the runtime has itself.
NATIVE = {"numpy": "np", "cv2": "cv2", "math": "math", "itertools": "itertools", "operator": "operator"}


def translated(modules: list[str], roots: Sequence[str], instead: Mapping[str, str]) -> str:
    """One JavaScript module of what `roots` use of these Python `modules`, each after those that it imports.

    Args:
        roots: functions and classes, as "module.name" with the module's last name; all that nothing of them uses is left out.
        instead: expressions in JavaScript by "module.name", to take for functions and classes that a page cannot have; `$host` in them is
            what the page gives.

    Returns:
        A module whose `load(host)` gives the modules' contents by their names.
    """
    trees = {}
    for name in modules:
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None
        trees[name] = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    _leave_out_unused(trees, roots, instead)
    parts = [
        "// Written by realtime/app/web/translate.py from Python: change it there.",
        'import { cv2 } from "./opencv.js";',
        'import { np } from "./numpy.js";',
        'import { itertools, math, operator, py as $ } from "./python.js";',
        "export function load($host) {",
        "const $modules = {};",
    ]
    for name, tree in trees.items():
        short = name.rpartition(".")[2]
        own = {key.partition(".")[2]: value for key, value in instead.items() if key.startswith(f"{short}.")}
        parts.append(_Module(tree, modules, own).text(name))
    parts += ["return $modules;", "}", ""]
    return "\n".join(parts)


def rig_maker() -> str:
    """What makes rigs of visitors' pictures: the module that `static/encoding/maker.js` loads."""
    modules = [f"livepuppet.core.{name}" for name in CORE] + [
        f"livepuppet.realtime.{name}" for name in REALTIME
    ]
    return translated(modules, ROOTS, INSTEAD)


def _leave_out_unused(
    trees: Mapping[str, ast.Module], roots: Sequence[str], instead: Mapping[str, str]
) -> None:
    """Take what nothing of `roots` uses out of the modules: functions, classes, constants, and methods that nobody names."""
    #: Where a module's names come from, and what it defines.
    sources: dict[str, dict[str, tuple[str, str]]] = {}
    defined: dict[str, dict[str, list[ast.stmt]]] = {}
    for module, tree in trees.items():
        sources[module], defined[module] = {}, {}
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    found = (whole, "*") if whole in trees else (node.module, alias.name)
                    if found[0] in trees:
                        sources[module][alias.asname or alias.name] = found
            for name in _stored([node]):
                defined[module].setdefault(name, []).append(node)
    used: set[tuple[str, str]] = set()
    attributes: set[str] = set()
    held: list[tuple[str, ast.AST]] = []
    methods: dict[str, list[tuple[str, ast.AST]]] = {}
    waiting = [
        (module, root.partition(".")[2])
        for root in roots
        for module in trees
        if module.rpartition(".")[2] == root.partition(".")[0]
    ]

    def look_into(module: str, node: ast.AST) -> None:
        for one in ast.walk(node):
            if isinstance(one, ast.Name):
                waiting.append((module, one.id))
            elif isinstance(one, ast.Attribute):
                if isinstance(one.value, ast.Name) and sources[module].get(one.value.id, ("", ""))[1] == "*":
                    waiting.append((sources[module][one.value.id][0], one.attr))
                if one.attr in attributes:
                    continue
                attributes.add(one.attr)
                held.extend(methods.pop(one.attr, []))

    while waiting or held:
        while held:
            look_into(*held.pop())
        if not waiting:
            break
        module, name = waiting.pop()
        module, name = sources[module].get(name, (module, name))
        if (module, name) in used or f"{module.rpartition('.')[2]}.{name}" in instead:
            continue
        used.add((module, name))
        if name == "*":
            # Of a module as a whole, its numbers.
            waiting += [
                (module, one)
                for one, nodes in defined[module].items()
                if not isinstance(nodes[0], (ast.FunctionDef, ast.ClassDef))
            ]
            continue
        for node in defined[module].get(name, []):
            if not isinstance(node, ast.ClassDef):
                look_into(module, node)
                continue
            for base in node.bases:
                look_into(module, base)
            for one in node.body:
                if (
                    isinstance(one, ast.FunctionDef)
                    and not one.name.startswith("__")
                    and one.name not in attributes
                ):
                    methods.setdefault(one.name, []).append((module, one))
                else:
                    held.append((module, one))
    for module, tree in trees.items():
        tree.body = [
            node
            for node in tree.body
            if not (names := _stored([node]))
            or any((module, name) in used or name == "__all__" for name in names)
        ]
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                node.body = [
                    one
                    for one in node.body
                    if not (
                        isinstance(one, ast.FunctionDef)
                        and any(one is left for _, left in methods.get(one.name, []))
                    )
                ]


def _name(name: str) -> str:
    return f"{name}_" if name in RESERVED else name


def _stored(nodes: list[ast.stmt]) -> list[str]:
    """Names that these statements assign, without those of functions and comprehensions within."""
    found: dict[str, None] = {}

    def visit(node: ast.AST) -> None:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = None
        elif isinstance(node, ast.NamedExpr):
            assert isinstance(node.target, ast.Name)
            found[node.target.id] = None
            visit(node.value)
        elif isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            # A named expression within is the function's.
            for inner in ast.walk(node):
                if isinstance(inner, ast.NamedExpr):
                    visit(inner)
        elif isinstance(node, ast.Lambda):
            return
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found[node.id] = None
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            return
        else:
            for child in ast.iter_child_nodes(node):
                visit(child)

    for node in nodes:
        visit(node)
    return list(found)


class _Module:
    """Translates one module."""

    def __init__(self, tree: ast.Module, modules: list[str], instead: Mapping[str, str]):
        self._tree, self._modules, self._instead = tree, modules, instead
        self._scopes: list[set[str]] = []
        self._count = 0

    def text(self, name: str) -> str:
        body = [node for node in self._tree.body if not self._is_text(node)]
        imports, known = self._imports(body)
        names = [one for one in _stored(body) if one not in self._instead]
        self._scopes.append({*names, *known, *self._instead})
        lines = [f"{{ // {name}", *imports]
        lines += [f"const {_name(key)} = {value};" for key, value in self._instead.items()]
        lines.append(f"let {', '.join(map(_name, names))};" if names else "")
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in self._instead:
                continue
            lines.append(self._statement(node))
        own = ", ".join(
            f"{one}: {_name(one)}" if _name(one) != one else one for one in [*names, *self._instead]
        )
        lines.append(f"$modules[{json.dumps(name)}] = {{ __name__: {json.dumps(name)}, {own} }}; }}")
        return "\n".join(lines)

    def _imports(self, body: list[ast.stmt]) -> tuple[list[str], list[str]]:
        lines, known = [], []
        for node in body:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    name = alias.asname or alias.name
                    if alias.name in NATIVE:
                        known.append(name)
                        if NATIVE[alias.name] != name:
                            lines.append(f"const {name} = {NATIVE[alias.name]};")
            elif isinstance(node, ast.ImportFrom) and node.module in self._modules:
                for alias in node.names:
                    name = alias.asname or alias.name
                    known.append(name)
                    lines.append(f"const {_name(name)} = $modules[{json.dumps(node.module)}].{alias.name};")
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                for alias in node.names:
                    name, whole = alias.asname or alias.name, f"{node.module}.{alias.name}"
                    if whole in self._modules:
                        known.append(name)
                        lines.append(f"const {name} = $modules[{json.dumps(whole)}];")
        return lines, known

    @staticmethod
    def _is_text(node: ast.stmt) -> bool:
        return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)

    # Statements.

    def _block(self, nodes: list[ast.stmt]) -> str:
        return "\n".join(self._statement(node) for node in nodes if not self._is_text(node))

    def _statement(self, node: ast.stmt) -> str:
        return getattr(self, f"_on_{type(node).__name__}")(node)

    def _on_Import(self, node: ast.Import) -> str:
        return ""

    _on_ImportFrom = _on_Pass = _on_Nonlocal = _on_Global = _on_Assert = _on_Import

    def _on_Expr(self, node: ast.Expr) -> str:
        if isinstance(node.value, ast.Yield):
            return "yield null;"
        return f"{self._value(node.value)};"

    def _on_Return(self, node: ast.Return) -> str:
        return f"return {'null' if node.value is None else self._value(node.value)};"

    def _on_If(self, node: ast.If) -> str:
        text = f"if ({self._test(node.test)}) {{\n{self._block(node.body)}\n}}"
        return f"{text} else {{\n{self._block(node.orelse)}\n}}" if node.orelse else text

    def _on_While(self, node: ast.While) -> str:
        return f"while ({self._test(node.test)}) {{\n{self._block(node.body)}\n}}"

    def _on_For(self, node: ast.For) -> str:
        assert not node.orelse
        return f"for ({self._each(node.target, node.iter)}\n{self._block(node.body)}\n}}"

    def _on_Break(self, node: ast.Break) -> str:
        return "break;"

    def _on_Continue(self, node: ast.Continue) -> str:
        return "continue;"

    def _on_Raise(self, node: ast.Raise) -> str:
        return "throw $.error;" if node.exc is None else f"throw {self._value(node.exc)};"

    def _on_Try(self, node: ast.Try) -> str:
        lines = [f"try {{\n{self._block(node.body)}\n}} catch ($error) {{"]
        for handler in node.handlers:
            kinds = "null" if handler.type is None else self._value(handler.type)
            named = f"const {_name(handler.name)} = $error;" if handler.name else ""
            self._scopes.append({handler.name or ""})
            lines.append(f"if ($.catches($error, {kinds})) {{ {named}\n{self._block(handler.body)}\n}} else")
            self._scopes.pop()
        lines.append("throw $error;\n}")
        return "\n".join(lines)

    def _on_With(self, node: ast.With) -> str:
        return "throw new Error('with');"

    def _on_Assign(self, node: ast.Assign) -> str:
        if isinstance(node.value, ast.Subscript) and ast.unparse(node.value.value) == "Callable":
            return ""  # a type
        value = self._value(node.value)
        if len(node.targets) == 1:
            return self._assigned(node.targets[0], value)
        kept = self._fresh()
        return f"const {kept} = {value};\n" + "\n".join(
            self._assigned(target, kept) for target in node.targets
        )

    def _on_AnnAssign(self, node: ast.AnnAssign) -> str:
        return "" if node.value is None else self._assigned(node.target, self._value(node.value))

    def _on_AugAssign(self, node: ast.AugAssign) -> str:
        name, value = OPERATORS[type(node.op)], self._value(node.value)
        target = node.target
        if isinstance(target, ast.Subscript):
            of, key = self._fresh(), self._fresh()
            return (
                f"const {of} = {self._value(target.value)}, {key} = {self._key(target.slice)};\n"
                f"$.set({of}, {key}, $.inplace('{name}', $.get({of}, {key}), {value}));"
            )
        if isinstance(target, ast.Attribute):
            of = self._fresh()
            place = f"{of}.{target.attr}"
            return (
                f"const {of} = {self._value(target.value)};\n{place} = $.inplace('{name}', {place}, {value});"
            )
        assert isinstance(target, ast.Name)
        return f"{_name(target.id)} = $.inplace('{name}', {_name(target.id)}, {value});"

    def _assigned(self, target: ast.expr, value: str) -> str:
        if isinstance(target, ast.Name):
            return f"{_name(target.id)} = {value};"
        if isinstance(target, ast.Attribute):
            return f"{self._value(target.value)}.{target.attr} = {value};"
        if isinstance(target, ast.Subscript):
            return f"$.set({self._value(target.value)}, {self._key(target.slice)}, {value});"
        assert isinstance(target, (ast.Tuple, ast.List))
        kept = self._fresh()
        lines = [f"const {kept} = $.list({value});"]
        for index, one in enumerate(target.elts):
            after = len(target.elts) - 1 - index
            if isinstance(one, ast.Starred):
                lines.append(self._assigned(one.value, f"{kept}.slice({index}, {kept}.length - {after})"))
            elif any(isinstance(other, ast.Starred) for other in target.elts[:index]):
                lines.append(self._assigned(one, f"{kept}[{kept}.length - {after + 1}]"))
            else:
                lines.append(self._assigned(one, f"{kept}[{index}]"))
        return "{" + "\n".join(lines) + "}"

    def _each(self, target: ast.expr, values: ast.expr) -> str:
        """The head of a loop, and what it assigns."""
        kept = self._fresh()
        return f"const {kept} of $.iter({self._value(values)})) {{\n{self._assigned(target, kept)}"

    def _fresh(self) -> str:
        self._count += 1
        return f"_{self._count}_"

    # Functions and classes.

    def _parameters(self, arguments: ast.arguments) -> tuple[str, list[str]]:
        places = [*arguments.posonlyargs, *arguments.args]
        first = len(places) - len(arguments.defaults)
        texts = [
            _name(one.arg)
            if index < first
            else f"{_name(one.arg)} = {self._value(arguments.defaults[index - first])}"
            for index, one in enumerate(places)
        ]
        names = [one.arg for one in places]
        for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            assert arguments.vararg is None
            texts.append(_name(one.arg) if default is None else f"{_name(one.arg)} = {self._value(default)}")
            names.append(one.arg)
        if arguments.vararg is not None:
            texts.append(f"...{_name(arguments.vararg.arg)}")
            names.append(arguments.vararg.arg)
        return ", ".join(texts), names

    def _function(self, node: ast.FunctionDef, method: bool = False) -> tuple[str, str]:
        """Its parameters and its body."""
        arguments = node.args
        if method:
            arguments = ast.arguments(**{**vars(arguments), "args": arguments.args[1:]})
        parameters, names = self._parameters(arguments)
        inner = [name for name in _stored(node.body) if name not in names]
        outer = {
            name
            for one in ast.walk(node)
            if isinstance(one, (ast.Nonlocal, ast.Global))
            for name in one.names
        }
        inner = [name for name in inner if name not in outer]
        self._scopes.append({*inner, *names, *([node.args.args[0].arg] if method else [])})
        lines = [f"let {', '.join(map(_name, inner))};"] if inner else []
        if method:
            lines.insert(0, f"const {_name(node.args.args[0].arg)} = this;")
        lines.append(self._block(node.body))
        lines.append("return null;")
        self._scopes.pop()
        return parameters, "\n".join(lines)

    def _on_FunctionDef(self, node: ast.FunctionDef) -> str:
        parameters, body = self._function(node)
        star = "*" if self._yields(node) else ""
        value = f"function{star} {_name(node.name)}({parameters}) {{\n{body}\n}}"
        own = {one.arg for one in node.args.args}
        outer = [one.id for one in node.args.defaults if isinstance(one, ast.Name) and one.id in own]
        if outer:
            # `k=k` is the k outside.
            for one in outer:
                value = value.replace(f"{_name(one)} = {_name(one)}", f"{_name(one)} = {one}_before", 1)
            kept = " ".join(f"const {one}_before = {_name(one)};" for one in outer)
            value = f"(() => {{ {kept} return {value}; }})()"
        for decorator in reversed(node.decorator_list):
            value = f"$.{ast.unparse(decorator).rpartition('.')[2]}({value})"
        return f"{_name(node.name)} = {value};"

    @staticmethod
    def _yields(node: ast.FunctionDef) -> bool:
        return any(isinstance(one, (ast.Yield, ast.YieldFrom)) for one in ast.walk(node))

    def _on_ClassDef(self, node: ast.ClassDef) -> str:
        kinds = [ast.unparse(decorator) for decorator in node.decorator_list]
        fields, lines, statics = [], [], []
        for one in node.body:
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                value = one.value
                if isinstance(value, ast.Call):
                    given = {keyword.arg: keyword.value for keyword in value.keywords}
                    factory = given.get("default_factory")
                    text = (
                        f"{self._value(factory)}()" if factory is not None else self._value(given["default"])
                    )
                else:
                    text = None if value is None else self._value(value)
                fields.append((one.target.id, text))
            elif isinstance(one, ast.Assign):
                statics.append((one.targets[0], one.value))
            elif isinstance(one, ast.FunctionDef):
                lines.append(self._method(one))
        if any("dataclass" in kind for kind in kinds):
            texts = [_name(name) if text is None else f"{_name(name)} = {text}" for name, text in fields]
            own = "\n".join(f"this.{name} = {_name(name)};" for name, _ in fields)
            lines.insert(0, f"constructor({', '.join(texts)}) {{\n{own}\nthis.__post_init__?.();\n}}")
            lines.append(f"static fields = {json.dumps([name for name, _ in fields])};")
        body = "\n".join(lines)
        bases = f" extends {self._value(node.bases[0])}.cls" if node.bases else ""
        text = f"{_name(node.name)} = $.callable(class{bases} {{\n{body}\n}});"
        for target, value in statics:
            assert isinstance(target, ast.Name)
            text += f"\n{_name(node.name)}.{target.id} = {self._value(value)};"
        return text

    def _method(self, node: ast.FunctionDef) -> str:
        kinds = [ast.unparse(decorator) for decorator in node.decorator_list]
        if "staticmethod" in kinds:
            parameters, body = self._function(node)
            return f"static {node.name}({parameters}) {{\n{body}\n}}"
        parameters, body = self._function(node, method=True)
        if "classmethod" in kinds:
            body = body.replace("= this;", "= $.classOf(this);", 1)
            return f"static {node.name}({parameters}) {{\n{body}\n}}"
        if "property" in kinds:
            return f"get {node.name}() {{\n{body}\n}}"
        if "cached_property" in kinds:
            return f"get {node.name}() {{ return $.kept(this, '{node.name}', () => {{\n{body}\n}}); }}"
        star = "*" if self._yields(node) else ""
        name = "constructor" if node.name == "__init__" else node.name
        if name == "constructor":
            body = body.removesuffix("return null;")
            above = next((line for line in body.splitlines() if line.startswith("super(")), None)
            if above is not None:
                # There is no `this` before it.
                body = above + "\n" + body.replace(above + "\n", "", 1)
        return f"{star}{name}({parameters}) {{\n{body}\n}}"

    # Expressions.

    def _value(self, node: ast.expr) -> str:
        return getattr(self, f"_of_{type(node).__name__}")(node)

    def _test(self, node: ast.expr) -> str:
        """Whether it is true, for an `if`."""
        if isinstance(node, ast.BoolOp):
            sign = " && " if isinstance(node.op, ast.And) else " || "
            return f"({sign.join(map(self._test, node.values))})"
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return f"!{self._test(node.operand)}"
        if (
            isinstance(node, ast.Compare)
            and len(node.ops) == 1
            and isinstance(node.ops[0], (ast.Is, ast.IsNot))
        ):
            return self._value(node)
        return f"$.truthy({self._value(node)})"

    def _of_Constant(self, node: ast.Constant) -> str:
        value = node.value
        if value is None:
            return "null"
        if value is Ellipsis:
            return "$.Ellipsis"
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, bytes):
            return json.dumps(value.decode("latin-1"))
        if isinstance(value, complex):
            return "$.complex()"
        return json.dumps(value)

    def _of_Name(self, node: ast.Name) -> str:
        if any(node.id in scope for scope in self._scopes):
            return _name(node.id)
        # `$.set` puts an item into something.
        return "$.set_" if node.id == "set" else f"$.{_name(node.id)}"

    def _of_Attribute(self, node: ast.Attribute) -> str:
        if isinstance(node.value, ast.Name) and node.value.id in ("functools", "dataclasses"):
            return f"$.{node.attr}"
        return f"{self._value(node.value)}.{node.attr}"

    def _of_Tuple(self, node: ast.Tuple) -> str:
        return f"$.T({self._several(node.elts)})"

    def _of_List(self, node: ast.List) -> str:
        return f"[{self._several(node.elts)}]"

    def _of_Set(self, node: ast.Set) -> str:
        return f"$.set_([{self._several(node.elts)}])"

    def _of_Dict(self, node: ast.Dict) -> str:
        pairs = [
            f"...{self._value(value)}" if key is None else f"[{self._value(key)}, {self._value(value)}]"
            for key, value in zip(node.keys, node.values, strict=True)
        ]
        return f"new Map([{', '.join(pairs)}])"

    def _several(self, nodes: list[ast.expr]) -> str:
        return ", ".join(
            f"...$.iter({self._value(node.value)})" if isinstance(node, ast.Starred) else self._value(node)
            for node in nodes
        )

    def _of_BinOp(self, node: ast.BinOp) -> str:
        left, right = self._value(node.left), self._value(node.right)
        if isinstance(node.op, (ast.Add, ast.Sub, ast.Mult)):
            # 1.0 is no whole number, though JavaScript says so: an array of bytes becomes one of floats.
            left, right = (
                f"$.float64({text})"
                if isinstance(one, ast.Constant) and isinstance(one.value, float) and one.value.is_integer()
                else text
                for one, text in ((node.left, left), (node.right, right))
            )
        if isinstance(node.op, ast.Mod) and isinstance(node.left, (ast.JoinedStr,)):
            raise NotImplementedError("%")
        return f"$.{OPERATORS[type(node.op)]}({left}, {right})"

    def _of_UnaryOp(self, node: ast.UnaryOp) -> str:
        if isinstance(node.op, ast.Not):
            return f"!{self._test(node.operand)}"
        if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            return f"-{self._value(node.operand)}"
        name = {ast.USub: "neg", ast.Invert: "invert", ast.UAdd: "pos"}[type(node.op)]
        return f"$.{name}({self._value(node.operand)})"

    def _of_BoolOp(self, node: ast.BoolOp) -> str:
        name = "both" if isinstance(node.op, ast.And) else "either"
        text = self._value(node.values[-1])
        for value in reversed(node.values[:-1]):
            text = f"$.{name}({self._value(value)}, () => {text})"
        return text

    def _of_Compare(self, node: ast.Compare) -> str:
        if len(node.ops) == 1:
            return self._compared(self._value(node.left), node.ops[0], self._value(node.comparators[0]))
        # Each value once.
        values = [node.left, *node.comparators]
        names = [self._fresh() for _ in values]
        texts = [f"const {name} = {self._value(value)};" for name, value in zip(names, values, strict=True)]
        parts = [
            f"$.truthy({self._compared(one, op, other)})"
            for one, op, other in zip(names, node.ops, names[1:], strict=False)
        ]
        return f"(() => {{ {' '.join(texts)} return {' && '.join(parts)}; }})()"

    def _compared(self, left: str, op: ast.cmpop, right: str) -> str:
        if isinstance(op, ast.Is):
            return f"({left} === {right})"
        if isinstance(op, ast.IsNot):
            return f"({left} !== {right})"
        if isinstance(op, ast.In):
            return f"$.contains({right}, {left})"
        if isinstance(op, ast.NotIn):
            return f"!$.contains({right}, {left})"
        return f"$.{OPERATORS[type(op)]}({left}, {right})"

    def _of_IfExp(self, node: ast.IfExp) -> str:
        return f"({self._test(node.test)} ? {self._value(node.body)} : {self._value(node.orelse)})"

    def _of_NamedExpr(self, node: ast.NamedExpr) -> str:
        return f"({self._value(node.target)} = {self._value(node.value)})"

    def _of_YieldFrom(self, node: ast.YieldFrom) -> str:
        return f"(yield* {self._value(node.value)})"

    def _of_Lambda(self, node: ast.Lambda) -> str:
        parameters, names = self._parameters(node.args)
        self._scopes.append(set(names))
        text = f"(({parameters}) => {self._value(node.body)})"
        self._scopes.pop()
        return text

    def _of_JoinedStr(self, node: ast.JoinedStr) -> str:
        texts = []
        for one in node.values:
            if isinstance(one, ast.FormattedValue):
                spec = "''" if one.format_spec is None else self._value(one.format_spec)
                texts.append(f"$.format({self._value(one.value)}, {spec})")
            else:
                texts.append(self._value(one))
        return f"({' + '.join(texts) or repr('')})"

    def _of_Subscript(self, node: ast.Subscript) -> str:
        return f"$.get({self._value(node.value)}, {self._key(node.slice)})"

    def _key(self, node: ast.expr) -> str:
        if isinstance(node, ast.Slice):
            parts = [
                "null" if one is None else self._value(one) for one in (node.lower, node.upper, node.step)
            ]
            return f"$.slice({', '.join(parts)})"
        if isinstance(node, ast.Tuple):
            return f"$.T({', '.join(f'...$.iter({self._value(one.value)})' if isinstance(one, ast.Starred) else self._key(one) for one in node.elts)})"
        return self._value(node)

    def _comprehension(
        self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp, push: str
    ) -> str:
        names = []
        for one in node.generators:
            names += _stored([ast.Assign([one.target], ast.Constant(None))])
        # The first values are looked up outside.
        first = self._value(node.generators[0].iter)
        self._scopes.append(set(names))
        heads, ends = [], 0
        for index, one in enumerate(node.generators):
            kept = self._fresh()
            values = first if index == 0 else self._value(one.iter)
            heads.append(f"for (const {kept} of $.iter({values})) {{ {self._assigned(one.target, kept)}")
            ends += 1
            for test in one.ifs:
                heads.append(f"if ({self._test(test)}) {{")
                ends += 1
        push = (
            f"$out.push({self._value(node.elt)});"
            if not isinstance(node, ast.DictComp)
            else f"$out.push([{self._value(node.key)}, {self._value(node.value)}]);"
        )
        self._scopes.pop()
        declared = f"let {', '.join(map(_name, names))};"
        return (
            f"(() => {{ const $out = []; {declared} {' '.join(heads)} {push} {'}' * ends} return $out; }})()"
        )

    def _of_ListComp(self, node: ast.ListComp) -> str:
        return self._comprehension(node, "")

    _of_GeneratorExp = _of_ListComp

    def _of_SetComp(self, node: ast.SetComp) -> str:
        return f"$.set_({self._comprehension(node, '')})"

    def _of_DictComp(self, node: ast.DictComp) -> str:
        return f"new Map({self._comprehension(node, '')})"

    def _of_Call(self, node: ast.Call) -> str:
        plain = self._several(node.args)
        keywords = ", ".join(
            f"...$.entries({self._value(one.value)})"
            if one.arg is None
            else f"{one.arg}: {self._value(one.value)}"
            for one in node.keywords
        )
        function = node.func
        if isinstance(function, ast.Attribute) and ast.unparse(function.value) == "super()":
            return f"super({plain})" if function.attr == "__init__" else f"super.{function.attr}({plain})"
        if isinstance(function, ast.Attribute):
            of = self._value(function.value)
            native = isinstance(function.value, ast.Name) and function.value.id in (
                "np",
                "cv2",
                "math",
                "itertools",
                "functools",
                "operator",
            )
            if not native and not (
                isinstance(function.value, ast.Attribute) and ast.unparse(function.value) == "np.linalg"
            ):
                if of == "self" and not keywords:
                    return f"self.{function.attr}({plain})"
                if keywords:
                    return f"$.kwm({of}, '{function.attr}', [{plain}], {{ {keywords} }})"
                return f"$.m({of}, '{function.attr}'{', ' if plain else ''}{plain})"
        called = self._value(function)
        if keywords:
            return f"$.kw({called}, [{plain}], {{ {keywords} }})"
        if isinstance(function, ast.Name) and function.id == "self":
            return f"self.__call__({plain})"
        return f"{called}({plain})"
