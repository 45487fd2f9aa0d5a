"""Pyright in basic mode on the modules of the paper's road, with nothing switched off.

    python tools/types_of_road.py [FOLDER]     FOLDER keeps the copy that is checked; otherwise
    it goes

A type checker does not know fastcore's `@patch`: methods that a lesson adds later do not exist
for it. So it is
given a copy of the package in which they stand inside their class; what it finds is told by the
lines of uar_nb/.
"""

import ast
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pages import ROOT

ROAD = 'attention checkpoint config core cra generation losses lsu model tir training'.split()
DECORATORS = {'cls_method': '@classmethod', 'as_prop': '@property'}


def patched_class(node):
    "The class that a `@patch` function belongs to, and the decorator that says the same inside it."
    for decorator in getattr(node, 'decorator_list', []):
        call = decorator if isinstance(decorator, ast.Call) else None
        name = call.func if call else decorator
        if isinstance(name, ast.Name) and name.id == 'patch':
            kinds = [DECORATORS[word.arg] for word in call.keywords] if call else []
            return node.args.args[0].annotation.id, kinds
    return None, []


def method_lines(node, lines, kinds):
    "The lines of a patched function as a method, each with its number in the module."
    kept = [(number, lines[number - 1]) for number in range(node.lineno, node.end_lineno + 1)]
    for decorator in node.decorator_list:
        if not ast.unparse(decorator).startswith('patch'):
            kept.insert(0, (decorator.lineno, f'@{ast.unparse(decorator)}'))
    kept = [(node.lineno, kind) for kind in kinds] + kept
    first = node.args.args[0]
    own = re.compile(rf'\b{first.arg}: {first.annotation.id}\b')
    return [(number, '    ' + own.sub(first.arg, line)) for number, line in kept]


def with_methods_inside(text):
    "A module whose patched functions stand in their classes, and the old number of each line."
    lines = text.splitlines()
    tree = ast.parse(text)
    ends = {node.name: node.end_lineno for node in tree.body if isinstance(node, ast.ClassDef)}
    moved, gone = {}, set()
    for node in tree.body:
        name, kinds = patched_class(node)
        if name not in ends:
            continue
        moved.setdefault(ends[name], []).append(method_lines(node, lines, kinds))
        gone.update(range(node.decorator_list[0].lineno, node.end_lineno + 1))
    first = tree.body[1].lineno if len(tree.body) > 1 else 0  # after the module's docstring
    made = []
    for number, line in enumerate(lines, 1):
        if number == first:  # a class may name one that comes later
            line = f'from __future__ import annotations; {line}'
        made.append((number, '' if number in gone else line))
        for method in moved.get(number, ()):
            made += [(number, ''), *method]
    return '\n'.join(line for _, line in made) + '\n', [number for number, _ in made]


def check(folder):
    "Pyright's findings on the road, by the lines of the real modules."
    package = folder / 'uar_nb'
    shutil.copytree(
        ROOT / 'uar_nb', package, ignore=shutil.ignore_patterns('assets', '__pycache__')
    )
    numbers = {}
    for path in package.rglob('*.py'):
        text, numbers[path] = with_methods_inside(path.read_text(encoding='utf-8'))
        path.write_text(text, encoding='utf-8')
    road = [f'uar_nb/{name}.py' for name in ROAD] + ['uar_nb/variants']
    settings = dict(include=road, typeCheckingMode='basic')
    (folder / 'pyrightconfig.json').write_text(json.dumps(settings))
    command = [sys.executable, '-m', 'pyright', '--outputjson', '--pythonpath', sys.executable]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    try:
        found = json.loads(done.stdout)['generalDiagnostics']
    except (json.JSONDecodeError, KeyError):
        raise SystemExit(f'pyright did not run: {done.stdout[-500:]}{done.stderr[-500:]}') from None
    told = []
    for one in found:
        path = Path(one['file'])
        line = numbers[path][one['range']['start']['line']]
        rule = one.get('rule', one['severity'])
        told.append(f'{path.relative_to(folder)}:{line}: {rule}: {one["message"]}')
    return told


def main():
    if len(sys.argv) > 1:
        told = check(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            told = check(Path(folder).resolve())
    print('\n'.join(told) or f'nothing found in {len(ROAD)} modules and uar_nb/variants')
    sys.exit(bool(told))


if __name__ == '__main__':
    main()
