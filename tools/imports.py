"""Who may import whom, read from the exported modules.

    python tools/imports.py     every import or action at import time that breaks the rules;
    nothing where all hold

The order of GROUPS is the order of the package. A module imports from earlier groups and from
earlier modules of its
own group; NEVER forbids more than the order does. Nothing happens when a module is imported: it
defines, and that is all.
"""

import ast
import builtins
import sys
from pathlib import Path

# A group is one wing (its modules in the order of their notebooks' numbers) or some modules of
# the road, in this order.
GROUPS = [
    ['core'],
    ['show'],
    ['data'],
    ['tokenizer'],
    ['phantom'],
    ['attention', 'losses', 'config', 'lsu'],
    ['cra', 'tir'],
    ['variants'],
    ['model'],
    ['generation'],
    ['systems'],
    ['checkpoint'],
    ['scoring'],
    ['experiment'],
    ['training'],
    ['analysis'],
    ['exercises'],
    ['apps'],
    ['check'],
]
RANK = {part: i for i, group in enumerate(GROUPS) for part in group}
# The parts of the model know no files and no phantoms; whoever trains and scores knows no
# phantoms and no figures
MODEL = {'core', *'attention losses config lsu cra tir variants model generation'.split()}
TRAINING = set('systems checkpoint scoring experiment training'.split())
NEVER = [
    (MODEL, {'show', 'data', 'tokenizer', 'phantom'}),
    (TRAINING, {'phantom', 'show'}),
]
ONLY_HERE = {'typer': 'apps.cli'}  # a library and the one module that may import it
REGISTERS = 'apps.cli'  # the one module in which decorators and calls register something: commands
BY_HAND = ('__init__.py', '_modidx.py', '__main__.py')


def package_modules(folder):
    """Files of all modules in a folder and its folders, by dotted name; without those that nbdev
    or we write by hand."""
    paths = [path for path in sorted(Path(folder).rglob('*.py')) if path.name not in BY_HAND]
    return {'.'.join(path.relative_to(folder).with_suffix('').parts): path for path in paths}


def part_of(module):
    "The wing of a module, or the module itself where it stands on the road."
    return module.split('.')[0]


# ---- what a module imports


def literal_import(node):
    """The module name that a call of importlib's import_module or of __import__ has, and its
    text where it is computed."""
    if not isinstance(node, ast.Call) or not node.args:
        return None, None
    called = getattr(node.func, 'id', getattr(node.func, 'attr', ''))
    if called not in ('import_module', '__import__'):
        return None, None
    name = node.args[0]
    if isinstance(name, ast.Constant):
        return name.value, None
    parts = [part.value for part in ast.walk(name) if isinstance(part, ast.Constant)]
    inside = any(str(part).startswith(('uar_nb', '.')) for part in parts)
    return None, ast.unparse(name) if inside else None


class Reader:
    """The imports of one module: `modules` of the package, `private` and `face` names taken,
    `libraries`, computed names."""

    def __init__(self, text, module, known):
        self.module, self.known = module, set(known)
        self.package = ['uar_nb', *module.split('.')[:-1]]
        self.modules, self.private, self.face = set(), set(), set()
        self.libraries, self.computed = set(), set()
        self.bound = {}  # a name in this module → the module of the package that it stands for
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.take_module(alias.name, alias.asname)
            elif isinstance(node, ast.ImportFrom):
                self.take_names(node)
            else:
                self.take_call(node)
        for node in ast.walk(tree):
            self.take_attribute(node)

    def split(self, path):
        """The longest module that a dotted path below the package begins with, and the names
        that follow."""
        parts = path.split('.')
        for end in range(len(parts), 0, -1):
            if '.'.join(parts[:end]) in self.known:
                return '.'.join(parts[:end]), parts[end:]
        return None, parts

    def is_wing(self, path):
        return any(module.startswith(f'{path}.') for module in self.known)

    def take_module(self, name, alias=None):
        "`import NAME` or import_module('NAME')"
        if name.split('.')[0] != 'uar_nb':
            self.libraries.add(name.split('.')[0])
            return
        path = name.removeprefix('uar_nb').lstrip('.')
        module, _ = self.split(path) if path else (None, [])
        if module:
            self.modules.add(module)
        elif path and not self.is_wing(path):
            self.modules.add(path)
        if alias:
            self.bound[alias] = module or path

    def take_names(self, node):
        "`from BASE import NAMES`, relative or absolute"
        base = self.package[: len(self.package) + 1 - node.level] if node.level else []
        base = base + (node.module.split('.') if node.module else [])
        if base[:1] != ['uar_nb']:
            self.libraries.update(base[:1])
            return
        above = '.'.join(base[1:])
        for alias in node.names:
            whole = f'{above}.{alias.name}'.lstrip('.')
            if whole in self.known:
                self.modules.add(whole)
                self.bound[alias.asname or alias.name] = whole
            elif above in self.known:
                self.modules.add(above)
                self.take_private(above, alias.name)
            elif self.is_wing(whole):
                self.bound[alias.asname or alias.name] = whole  # its modules come by attribute
            elif alias.name != '__version__':  # the version is the package's own
                self.face.add(whole)

    def take_call(self, node):
        name, computed = literal_import(node)
        if computed:
            self.computed.add(computed)
        if not isinstance(name, str):
            return
        dots = len(name) - len(name.lstrip('.'))
        if dots:
            base = self.package[: len(self.package) + 1 - dots]
            name = '.'.join([*base, name.lstrip('.')])
        self.take_module(name)

    def take_private(self, module, name):
        if name.startswith('_') and not name.startswith('__') and module != self.module:
            self.private.add(f'{module}.{name}')

    def take_attribute(self, node):
        "`module._name`, `uar_nb.wing.module._name` and getattr(module, '_name')"
        if isinstance(node, ast.Attribute):
            root, names = node.value, [node.attr]
        elif isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'getattr':
            literal = len(node.args) > 1 and isinstance(node.args[1], ast.Constant)
            if not literal:
                return
            root, names = node.args[0], [str(node.args[1].value)]
        else:
            return
        while isinstance(root, ast.Attribute):
            names.insert(0, root.attr)
            root = root.value
        if not isinstance(root, ast.Name):
            return
        if root.id not in self.bound and root.id != 'uar_nb':
            return
        path = '.'.join(filter(None, [self.bound.get(root.id, ''), *names]))
        module, rest = self.split(path)
        if module and rest:
            self.modules.add(module)
            self.take_private(module, rest[0])


# ---- what a module does when it is imported

MAKERS = set(
    'dict list set frozenset tuple str int float bool bytes len range enumerate zip map filter '
    'sorted reversed min max sum ord chr abs round slice property staticmethod classmethod '
    'isinstance getattr hasattr repr type any all iter next namedtuple field dataclass replace '
    'cache lru_cache cached_property wraps partial contextmanager no_grad inference_mode patch '
    'total_ordering abstractmethod overload dataclass_transform computed_field field_validator model_validator '  # noqa: E501
    'field_serializer model_serializer getLogger'.split()
)  # functions that make a value or a wrapper of a function and leave everything else alone
METHODS = set(
    'split splitlines rsplit partition join items keys values format strip lstrip rstrip lower '
    'upper title replace removeprefix removesuffix get copy union fromkeys maketrans translate '
    'compile escape astype reshape array asarray arange clip floor linspace zeros ones '
    'startswith endswith isdigit index count errors get_close_matches'.split()
)  # methods, and functions of re and numpy, of which the same holds
CACHES = {'cache', 'lru_cache', 'cached_property'}


def called_name(node):
    return getattr(node, 'id', getattr(node, 'attr', ''))


def runs_now(node):
    "All nodes below an expression that are evaluated with it: not what stands in a lambda."
    yield node
    if isinstance(node, ast.Lambda):
        inside = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
    else:
        inside = ast.iter_child_nodes(node)
    for child in inside:
        yield from runs_now(child)


def shown(node):
    "A short text for a node that stays the same while its details change."
    if isinstance(node, ast.Assign):
        return ', '.join(map(ast.unparse, node.targets)) + ' = ...'
    if isinstance(node, (ast.AugAssign, ast.AnnAssign)):
        return ast.unparse(node.target) + ' is changed'
    if isinstance(node, ast.Call):
        return ast.unparse(node.func)[:60] + '(...)'
    return ast.unparse(node).splitlines()[0][:60]


class Actions:
    "What a module does at import, as short sentences in `found`."

    def __init__(self, text, module):
        self.module, self.found = module, []
        body = ast.parse(text).body
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        self.functions = {node.name: node for node in body if isinstance(node, functions)}
        self.classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
        self.entered = set()
        for node in body:
            self.statement(node)

    def fault(self, node):
        if shown(node) not in self.found:
            self.found.append(shown(node))

    def statement(self, node):
        if isinstance(node, (ast.Import, ast.ImportFrom, ast.Pass)):
            return
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self.function(node)
        elif isinstance(node, ast.ClassDef):
            for base in [*node.bases, *(keyword.value for keyword in node.keywords)]:
                self.expression(base)
            self.decorators(node)
            for inner in node.body:
                self.statement(inner)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [name for target in targets for name in getattr(target, 'elts', [target])]
            if not all(isinstance(name, (ast.Name, ast.Starred)) for name in names):
                self.fault(node)  # it changes something that is there already
            elif node.value is not None:
                self.expression(node.value)
        elif isinstance(node, ast.Expr):
            text = isinstance(node.value, ast.Constant)
            if not text and not self.registers(node.value):
                self.fault(node)
        elif isinstance(node, (ast.If, ast.Try)):
            self.branches(node)
        else:  # a loop, a with, an augmented assignment, an assertion
            self.fault(node)

    def branches(self, node):
        "Imports alone: those that may fail, and those for type checkers."
        blocks = [node.body, node.orelse, getattr(node, 'finalbody', [])]
        blocks += [handler.body for handler in getattr(node, 'handlers', [])]
        harmless = (ast.Import, ast.ImportFrom, ast.Pass)
        for inner in [inner for block in blocks for inner in block]:
            nothing = (
                isinstance(inner, ast.Assign)
                and isinstance(inner.targets[0], ast.Name)
                and isinstance(inner.value, ast.Constant)
            )
            if not nothing and not isinstance(inner, harmless):
                self.fault(node)
        if isinstance(node, ast.If):
            self.expression(node.test)

    def function(self, node):
        self.decorators(node)
        for default in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
            self.expression(default)

    def decorators(self, node):
        for decorator in node.decorator_list:
            call = decorator.func if isinstance(decorator, ast.Call) else decorator
            if called_name(call) == 'patch':
                self.patched(node)
            elif not self.registers(decorator):
                if isinstance(decorator, ast.Call):
                    self.expression(decorator)
                elif called_name(call) not in MAKERS and called_name(call) not in ('setter',):
                    self.local(called_name(call), decorator)

    def patched(self, node):
        "`@patch` adds to a class of its own module."
        first = (node.args.posonlyargs + node.args.args)[0].annotation
        classes = first.elts if isinstance(first, ast.Tuple) else [first]
        for one in classes:
            name = one.value if isinstance(one, ast.Constant) else called_name(one)
            if name not in self.classes:
                self.found.append(f'@patch changes {name} of another module')

    def registers(self, node):
        "Whether a call or decorator registers a command, in the one module where this is its job."
        call = node.func if isinstance(node, ast.Call) else node
        while isinstance(call, ast.Attribute):
            call = call.value
        return self.module == REGISTERS and called_name(call) in ('app', '_command', 'command')

    def expression(self, node):
        for inner in runs_now(node):
            if isinstance(inner, ast.Call) and not self.harmless(inner):
                self.fault(inner)

    def harmless(self, call):
        "Whether a call makes a value and changes nothing outside it."
        name = called_name(call.func)
        if isinstance(call.func, ast.Attribute):
            return name in METHODS | MAKERS or name[:1].isupper()
        if name in self.functions or name in self.classes:
            return self.local(name, call)
        imported_class = name.lstrip('_')[
            :1
        ].isupper()  # its constructor touches no disk and no network
        return name in MAKERS or (imported_class and not hasattr(builtins, name))

    def local(self, name, node):
        "A function or class of this module: its body is looked at as if it stood at the call."
        if name in self.classes:
            methods = [m for m in self.classes[name].body if isinstance(m, ast.FunctionDef)]
            bodies = [m for m in methods if m.name in ('__init__', '__post_init__', '__new__')]
        elif name in self.functions:
            bodies = [self.functions[name]]
            kept = {
                called_name(d.func if isinstance(d, ast.Call) else d)
                for d in self.functions[name].decorator_list
            }
            if kept & CACHES:
                self.fault(node)  # it fills a cache
        else:
            self.fault(node)
            return True
        if name in self.entered:
            return True
        self.entered.add(name)
        for body in bodies:
            for inner in body.body:
                for statement in ast.walk(inner):
                    if isinstance(statement, (ast.Global, ast.With, ast.Delete)):
                        self.fault(statement)
                    if isinstance(statement, ast.Call) and not self.harmless_inside(statement):
                        self.fault(statement)
        return True

    def harmless_inside(self, call):
        "Inside a function that runs at import, its own lists and errors may be made too."
        name = called_name(call.func)
        own = name in ('append', 'extend', 'add', 'setdefault', 'update', 'super', '__init__')
        error = name.endswith('Error') or name in ('__setattr__',)
        nested = isinstance(call.func, ast.Name) and name not in self.functions | self.classes
        return own or error or (nested and not hasattr(builtins, name)) or self.harmless(call)


# ---- the rules


def circles(edges):
    "Groups of modules that import each other in a circle, as lists of names."
    reach = {}

    def reached(start):
        if start not in reach:
            found, todo = set(), list(edges.get(start, ()))
            while todo:
                module = todo.pop()
                if module not in found:
                    found.add(module)
                    todo += edges.get(module, ())
            reach[start] = found
        return reach[start]

    rings = {tuple(sorted(m for m in reached(a) if a in reached(m))) for a in edges}
    return sorted(ring for ring in rings if ring)


def may_import(module, other, order):
    "Whether the order of groups, and that of the modules in a group, lets a module import another."
    mine, theirs = part_of(module), part_of(other)
    if any(mine in these and theirs in those for these, those in NEVER):
        return False
    if RANK[mine] != RANK[theirs]:
        return RANK[theirs] < RANK[mine]

    def place(name):
        return (GROUPS[RANK[mine]].index(part_of(name)), order.index(name))

    return place(other) < place(module)


def read_imports(folder, modules=None):
    "A Reader for each module in a folder, by dotted name."
    paths = modules or package_modules(folder)
    return {
        name: Reader(path.read_text(encoding='utf-8'), name, paths) for name, path in paths.items()
    }


def breaches(
    folder,  # of a package that is called uar_nb
    order,  # its modules as their notebooks are numbered
):  # sentences, one for each breach of a rule
    "All that breaks the rules of this file."
    paths = package_modules(folder)
    found = []
    readers = read_imports(folder, paths)
    for name, reader in readers.items():
        if part_of(name) not in RANK:
            found.append(f'{name} has no place in the order')
            continue
        for other in sorted(reader.modules):
            if other not in paths:
                found.append(f'{name} imports {other}, which is no module')
            elif part_of(other) in RANK and not may_import(name, other, order):
                found.append(f'{name} imports {other}')
        found += [f'{name} takes {private}' for private in sorted(reader.private)]
        found += [f'{name} takes {face}, not from its module' for face in sorted(reader.face)]
        found += [f'{name} computes a module name: {text}' for text in sorted(reader.computed)]
        for library, home in ONLY_HERE.items():
            if library in reader.libraries and name != home:
                found.append(f'{name} imports {library}')
        actions = Actions(paths[name].read_text(encoding='utf-8'), name)
        found += [f'{name} does at import: {action}' for action in actions.found]
    edges = {name: reader.modules for name, reader in readers.items()}
    found += [f'a circle: {" ".join(ring)}' for ring in circles(edges)]
    return found


if __name__ == '__main__':
    import pages

    found = breaches(pages.ROOT / 'uar_nb', list(pages.lessons()))
    print(*found, sep='\n')
    sys.exit(bool(found))
