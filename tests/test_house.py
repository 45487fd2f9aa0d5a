"How the project is built: rooms in order, lessons complete, notebooks clean, exported code in sync, pages processed, wheel usable."
import ast, copy, json, os, re, subprocess, sys, venv
from pathlib import Path

import pytest

import docs
from lesson_rules import lesson_faults

ROOT = Path(__file__).resolve().parents[1]
NBS = sorted((ROOT/'nbs').glob('[0-9]*.ipynb'))
LESSONS = [p for p in NBS if p.stem < '30']
ORDER = [p.stem.split('_', 1)[1] for p in LESSONS]


def imported(path):
    "Rooms of the package that a module imports, anywhere in it."
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or '').startswith('uar_nb')):
            name = (node.module or '').replace('uar_nb', '').strip('.').split('.')[0]
            yield from [name] if name else [a.name for a in node.names]
        elif isinstance(node, ast.Import):
            yield from (a.name.split('.')[1] for a in node.names if a.name.startswith('uar_nb.'))


@pytest.mark.parametrize('room', ORDER)
def test_rooms_import_only_from_above(room):
    above = ORDER[:ORDER.index(room)]
    wrong = [m for m in imported(ROOT/f'uar_nb/{room}.py') if m in ORDER and m not in above]
    assert not wrong, f'{room} imports {wrong}, which stand below it'


@pytest.mark.parametrize('room', ORDER)
def test_rooms_are_small(room):
    text = (ROOT/f'uar_nb/{room}.py').read_text(encoding='utf-8')
    assert len(text.splitlines()) <= 350
    long = [n.name for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef) and n.end_lineno-n.lineno >= 40]
    assert not long, f'functions over 40 lines: {long}'


def test_every_module_has_its_lesson():
    modules = {p.stem for p in (ROOT/'uar_nb').glob('*.py')} - {'__init__', '_modidx', '__main__'}
    assert modules == set(ORDER)


@pytest.mark.parametrize('lesson', LESSONS, ids=lambda p: p.stem)
def test_lesson_rules(lesson):
    assert lesson_faults(lesson) == []


def test_page_names_are_unique():
    names = [re.sub(r'^\d+_', '', p.stem) for p in (ROOT/'nbs').glob('*.ipynb')]
    assert len(names) == len(set(names))


@pytest.mark.parametrize('notebook', sorted((ROOT/'nbs').glob('*.ipynb')), ids=lambda p: p.stem)
def test_notebooks_are_clean(notebook):
    from execnb.nbio import read_nb
    from nbdev.clean import clean_nb
    book = read_nb(notebook)
    before = json.dumps(copy.deepcopy(book), sort_keys=True, default=str)
    clean_nb(book)
    assert json.dumps(book, sort_keys=True, default=str) == before, f'run nbdev_clean on {notebook.name}'


def test_exported_code_is_in_sync(tmp_path):
    from nbdev.export import nb_export
    for notebook in NBS: nb_export(notebook, lib_path=tmp_path)
    made = {p.name: p.read_text(encoding='utf-8') for p in tmp_path.glob('*.py') if p.name not in ('__init__.py', '_modidx.py')}
    kept = {p.name: p.read_text(encoding='utf-8') for p in (ROOT/'uar_nb').glob('*.py') if p.name not in ('__init__.py', '_modidx.py', '__main__.py')}
    assert sorted(made) == sorted(kept)
    differ = [name for name in made if made[name] != kept[name]]
    assert not differ, f'run nbdev_export: {differ}'


def test_every_page_processes_and_the_readme_is_the_index(tmp_path):
    pages = docs.process(tmp_path)
    made, there = {p.name for p in pages.rglob('*.ipynb')}, {p.name for p in (ROOT/'nbs').glob('*.ipynb')}
    assert made == there
    docs.convert(sorted(pages.rglob('*.ipynb')), 'html', tmp_path/'html')
    assert {p.stem for p in (tmp_path/'html').glob('*.html')} == {Path(n).stem for n in there}
    assert docs.readme_text() == (ROOT/'README.md').read_text(encoding='utf-8'), 'run make readme'


LIGHT = 'matplotlib pycocoevalcap dall_e torchvision pydicom sklearn typer'.split()


def test_importing_needs_little():
    "Training and generation import with the core packages alone; nothing starts Java or a network connection."
    code = f'''
import sys
for name in {LIGHT!r}: sys.modules[name] = None      # an import of it now fails
import socket
def refuse(*a, **k): raise OSError("no network at import")
socket.socket.connect = refuse
import importlib
for room in {[r for r in ORDER if r != 'cli']!r}: importlib.import_module(f"uar_nb.{{room}}")
'''
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_wheel_writes_a_report_in_a_clean_environment(tmp_path):
    "The wheel, installed outside the clone without its tests or notebooks, trains a toy model and writes a report from a picture."
    subprocess.run([sys.executable, '-m', 'build', '--wheel', '--no-isolation', '--outdir', str(tmp_path/'dist'), str(ROOT)], check=True, capture_output=True)
    [wheel] = (tmp_path/'dist').glob('*.whl')
    venv.create(tmp_path/'env', with_pip=True)
    python = tmp_path/'env'/('Scripts' if os.name == 'nt' else 'bin')/'python'
    # the clean environment sees the packages that are installed here, but not this clone
    site = next(Path(tmp_path/'env').rglob('site-packages'))
    import torch
    (site/'shared.pth').write_text(str(Path(torch.__file__).parents[1]) + '\n')
    subprocess.run([python, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-index', str(wheel)], check=True, capture_output=True)
    script = Path(__file__).with_name('wheel_user.py')
    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH',)}
    done = subprocess.run([python, str(script), str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert str(tmp_path/'env') in done.stdout.splitlines()[0], done.stdout
