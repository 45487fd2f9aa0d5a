"""The rules that every lesson keeps, as a function of one notebook; `python
tools/lesson_rules.py [nbs/….ipynb ...]` prints what does not hold."""

import ast
import json
import re
import sys
from pathlib import Path

import pages

MAX_KB = 1400  # a page stays under 1.5 MB
CHECKS = re.compile(r'\b(test_\w+|expect_fail|assert|gradcheck)\b')
# Modules of the paper's parts (pages.PAPER) whose job has no equation in the paper or elsewhere
# Modules whose pages are lists of exercises, or what these are made of; the parts of a command
NO_FIGURE = ('exercises.', 'apps.table_')
NO_EQUATION = {'core', 'checkpoint', 'config'}


def directives(source):
    "The nbdev directives at the top of a cell, as a dict."
    lines = [line[2:].strip() for line in source.splitlines() if line.startswith('#|')]
    return {line.replace(':', ' ', 1).split(' ')[0].strip(): line for line in lines}


def is_export(source):
    return bool({'export', 'exports'} & set(directives(source)))


def definitions(source):
    "Public names that a cell defines: functions, classes and constants."
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return []
    names = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [t.id for t in node.targets if isinstance(t, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return names


def check_exports(cells):
    "Each export that defines something is followed, before the next one, by a cell that checks it."
    faults, waiting = [], None
    for cell in cells:
        source = ''.join(cell['source'])
        if cell['cell_type'] != 'code':
            continue
        if is_export(source) and (definitions(source)):
            if waiting:
                faults.append(f'export without a check after it: {waiting}')
            names = definitions(source)
            callables = [n for n in names if not (n.isupper() or n.startswith('_'))]
            waiting = ', '.join(names) if callables else None
        elif CHECKS.search(source):
            waiting = None
    if waiting:
        faults.append(f'export without a check after it: {waiting}')
    return faults


def check_outputs(cells):
    "No error and no empty output; at least one saved figure."
    faults, figure = [], False
    for cell in cells:
        if cell['cell_type'] != 'code':
            continue
        source = ''.join(cell['source'])
        for out in cell.get('outputs', []):
            if out['output_type'] == 'error':
                faults.append(f'saved error: {source[:60]!r}')
            if out.get('name') == 'stderr':
                faults.append(f'saved stderr output: {source[:60]!r}')
            text = (
                ''.join(out.get('text', ''))
                if out['output_type'] == 'stream'
                else json.dumps(out.get('data', {}))
            )
            if not text.strip() or text == '{}':
                faults.append(f'empty output: {source[:60]!r}')
            figure |= 'image/png' in out.get('data', {}) or 'image/svg+xml' in out.get('data', {})
    return faults if figure else [*faults, 'no saved figure']


def lesson_faults(path):
    "List of what a module notebook does not keep of the lesson rules; empty where all holds."
    path = Path(path)
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    module = pages.module_of(path)
    prose = '\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'markdown')
    faults = check_exports(cells) + check_outputs(cells)
    if module.startswith(NO_FIGURE):
        faults = [fault for fault in faults if fault != 'no saved figure']
    of_paper = module in pages.PAPER
    if of_paper and module not in NO_EQUATION and not re.search(r'\\tag\{\w+\}', prose):
        faults.append('no equation with a number')
    if '## Summary' not in prose:
        faults.append('no "## Summary"')
    exercises = re.split(r'^## (?:Exercises|Try)$', prose, maxsplit=1, flags=re.M)[1:]
    numbered = [n for part in exercises for n in re.findall(r'^\s*\d+\.', part, re.M)]
    if of_paper and len(numbered) < 3:
        faults.append('fewer than three numbered exercises or questions')
    if not re.search(r'^# .+\n+> ', prose, re.M):
        faults.append('no "# Title" with a "> subtitle"')
    if path.stat().st_size > MAX_KB * 1024:
        faults.append(f'{path.stat().st_size // 1024} KB')
    return faults


if __name__ == '__main__':
    total = 0
    for path in sys.argv[1:] or pages.lessons().values():
        for fault in lesson_faults(path):
            total += 1
            print(f'{pages.page_id(path)}: {fault}')
    sys.exit(1 if total else 0)
