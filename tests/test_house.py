"How the project is built: modules in order, lessons complete, notebooks clean, exported code in sync, pages processed, wheel usable."

import ast, copy, json, os, re, subprocess, sys, venv
from pathlib import Path

import pytest

import docs, pages
from lesson_rules import lesson_faults
from pages import ROOT, page_id

# No fewer than these are looked at below: whoever takes a module or a page away writes the new number here
MODULES, NOTEBOOKS = 59, 76
PAGES = pages.all_pages()
LESSONS = pages.lessons()  # notebook of each module, in reading order
ORDER = list(LESSONS)
SYMBOLS = ast.literal_eval(
    (ROOT / 'uar_nb' / '_modidx.py').read_text(encoding='utf-8').split('d = ', 1)[1]
)['syms']


def module_file(module):
    return ROOT / 'uar_nb' / f'{module.replace(".", "/")}.py'


def package_modules(folder):
    "Files of all modules in a folder and its folders, by dotted name; without those that nbdev or we write by hand."
    by_hand = ('__init__.py', '_modidx.py', '__main__.py')
    paths = [p for p in sorted(folder.rglob('*.py')) if p.name not in by_hand]
    return {'.'.join(p.relative_to(folder).with_suffix('').parts): p for p in paths}


def imported(path, module, known):
    "What a module imports from the package, anywhere in it, as dotted names below the package; relative or absolute."
    package = ['uar_nb', *module.split('.')[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (
                a.name.removeprefix('uar_nb.') for a in node.names if a.name.startswith('uar_nb.')
            )
        if not isinstance(node, ast.ImportFrom):
            continue
        base = package[: len(package) + 1 - node.level] if node.level else []
        base = base + (node.module.split('.') if node.module else [])
        if base[:1] != ['uar_nb']:
            continue
        for name in node.names:
            whole, above = '.'.join(base[1:] + [name.name]), '.'.join(base[1:])
            if whole in known:
                yield whole
            elif above:  # a name of the package itself, such as its version, is no module
                yield above


# ---- nothing is left out


def test_no_module_and_no_page_is_left_out():
    "Counted once more without the walk that all other tests lean on."
    there = [
        Path(folder) / file
        for folder, _, files in os.walk(ROOT / 'nbs')
        for file in files
        if file.endswith('.ipynb') and '.ipynb_checkpoints' not in folder
    ]
    assert sorted(there) == sorted(PAGES) and len(PAGES) >= NOTEBOOKS
    exporting = [p for p in there if '"#| default_exp ' in p.read_text(encoding='utf-8')]
    assert sorted(exporting) == sorted(LESSONS.values()) and len(ORDER) >= MODULES
    assert len(package_modules(ROOT / 'uar_nb')) >= MODULES


def test_every_page_has_one_place_in_the_reading_order():
    order = pages.flat(pages.reading_order(pages.page_ids()))
    assert sorted(order) == sorted([*pages.page_ids(), pages.API])
    kinds = {
        kind: len(pages.of_kind(kind))
        for kind in ('start', 'lesson', 'training', 'analysis', 'reference')
    }
    assert all(kinds.values()) and sum(kinds.values()) == len(PAGES), kinds
    assert all(pages.kind_of(page_id(path)) == 'lesson' for path in LESSONS.values())


def test_make_runs_every_page_but_the_training_runs():
    run = pages.to_run()
    assert (
        sorted(run) == sorted(set(PAGES) - set(pages.of_kind('training')))
        and page_id(run[-1]) == 'index'
    )
    make = (ROOT / 'Makefile').read_text(encoding='utf-8')
    assert 'tools/lessons.py --all' in make and not re.search(
        r'nbs/\S*[%*[]', make
    )  # it asks, and holds no pattern of its own


def test_what_is_named_in_the_list_of_pages_exists():
    "Pages and modules that are named one by one: a name that no longer fits would silently mean nothing."
    import glossary

    assert pages.KEPT <= set(pages.page_ids()) and pages.PAPER <= set(ORDER)
    assert all(pages.kind_of(page) == 'training' for page in pages.KEPT)
    assert set(glossary.OTHER) <= {pages.bare(page) for page in pages.page_ids()}


def test_no_check_is_skipped_in_saved_outputs():
    "Where a file that a page reads is in every clone, its absence is an error and not a word."
    silent = [
        page_id(p)
        for p in PAGES
        if pages.kind_of(page_id(p)) not in ('training', 'analysis')
        for c in pages.cells_of(p)
        if re.search(r'\bskipped\b', json.dumps(c.get('outputs', [])), re.I)
    ]
    assert not silent, silent


# ---- modules


@pytest.mark.parametrize('module', ORDER)
def test_modules_import_only_from_above(module):
    above = ORDER[: ORDER.index(module)]
    wrong = sorted({m for m in imported(module_file(module), module, ORDER) if m not in above})
    assert not wrong, f'{module} imports {wrong}, which do not stand above it'


def test_the_reader_of_imports_sees_every_form(tmp_path):
    known = ['core', 'show.plots', 'data.dicom', 'data.study', 'phantom.chest', 'apps.cli']
    text = """
from .study import Study
from ..core import (
    UARError,
)
from .. import __version__
from uar_nb.show import plots
from . import dicom
import uar_nb.phantom.generator.chest as chest, json
def late():
    from uar_nb.apps.cli import main
    from uar_nb import core
from torch import nn
"""
    (tmp_path / 'load.py').write_text(text)
    got = set(imported(tmp_path / 'load.py', 'data.load', known))
    assert got == {'data.study', 'core', 'show.plots', 'data.dicom', 'phantom.chest', 'apps.cli'}


def test_every_module_has_its_lesson():
    assert set(package_modules(ROOT / 'uar_nb')) == set(ORDER)


@pytest.mark.parametrize('module', ORDER)
def test_a_module_stands_where_its_lesson_says(module):
    "The same path below uar_nb/ and, without numbers, below nbs/ (a wing is a folder of the package); and the module names that notebook."
    path = LESSONS[module]
    assert module == pages.expected_module(page_id(path))
    [edited] = re.findall(
        r'^# AUTOGENERATED! DO NOT EDIT! File to edit: (\S+\.ipynb)\.$',
        module_file(module).read_text(encoding='utf-8'),
        re.M,
    )
    assert (ROOT / 'uar_nb' / edited).resolve() == path or (
        module_file(module).parent / edited
    ).resolve() == path
    symbols = SYMBOLS[f'uar_nb.{module}']
    assert {url.partition('#')[0] for url, _ in symbols.values()} == {
        pages.html_of(page_id(path))
    }  # nbdev's index of symbols: a stale one takes links from the pages without a word


# Random numbers hang on these strings. They are data: whoever changes one changes weights, pictures or texts.
STREAMS = [
    'basis',
    'body',
    'bootstrap',
    'ceiling',
    'change',
    'constant',
    'crop',
    'derangements',
    'draw',
    'drawing',
    'dvae',
    'findings',
    'fresh test set',
    'held out',
    'kinds',
    'load',
    'look',
    'memory',
    'order',
    'pose',
    'random attention',
    'random floor',
    'random places',
    'report',
    'sample',
    'slot',
    'split',
    'step',
    'tag',
    'weights',
]


def stream_strings(text):
    "All strings that the calls of derive_seed, numpy_rng and torch_rng in a module have among their arguments."
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, 'id', getattr(node.func, 'attr', None))
        if called in ('derive_seed', 'numpy_rng', 'torch_rng'):
            literals = [
                n.value
                for a in [*node.args, *(k.value for k in node.keywords)]
                for n in ast.walk(a)
                if isinstance(n, ast.Constant)
            ]
            yield from (value for value in literals if isinstance(value, str))


def test_random_streams_keep_their_names():
    found = {
        s
        for path in package_modules(ROOT / 'uar_nb').values()
        for s in stream_strings(path.read_text(encoding='utf-8'))
    }
    assert sorted(found) == STREAMS and len(STREAMS) == 30
    assert list(
        stream_strings('core.numpy_rng(\n    seed,\n    "new", *(["late"] if rank else []))')
    ) == ['new', 'late']


# ---- lessons and pages


@pytest.mark.parametrize('lesson', LESSONS.values(), ids=page_id)
def test_lesson_rules(lesson):
    assert lesson_faults(lesson) == []


def test_page_names_are_unique_within_a_folder():
    names = [pages.bare_id(page) for page in pages.page_ids()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize('notebook', PAGES, ids=page_id)
def test_notebooks_are_clean(notebook):
    from execnb.nbio import read_nb
    from nbdev.clean import clean_nb

    book = read_nb(notebook)
    before = json.dumps(copy.deepcopy(book), sort_keys=True, default=str)
    clean_nb(book)
    assert json.dumps(book, sort_keys=True, default=str) == before, (
        f'run nbdev_clean on {page_id(notebook)}'
    )


def exported(folder):
    "Exported modules by dotted name; nbdev's comments name the notebook by a path relative to the folder, of which only the part below nbs/ counts."
    plain = lambda text: re.sub(
        r'^(# AUTOGENERATED.*?|# %% )\S*/nbs/(?=[\w./-]+\.ipynb)', r'\1', text, flags=re.M
    )
    return {
        name: plain(p.read_text(encoding='utf-8')) for name, p in package_modules(folder).items()
    }


def test_exported_code_is_in_sync(tmp_path):
    from nbdev.export import nb_export

    (tmp_path / 'uar_nb').mkdir()
    for notebook in LESSONS.values():
        nb_export(notebook, lib_path=tmp_path / 'uar_nb')
    made, kept = exported(tmp_path / 'uar_nb'), exported(ROOT / 'uar_nb')
    assert sorted(made) == sorted(kept) and len(made) >= MODULES
    differ = [name for name in made if made[name] != kept[name]]
    assert not differ, f'run nbdev_export: {differ}'


def test_every_page_processes_and_the_readme_is_the_index(prepared):
    made = pages.page_ids(prepared)
    assert made == sorted([*pages.page_ids(), pages.API]) and len(made) >= NOTEBOOKS + 1
    assert docs.readme_text(prepared) == (ROOT / 'README.md').read_text(encoding='utf-8'), (
        'run make readme'
    )


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
for module in {[m for m in ORDER if m.split('.')[-1] != 'cli']!r}: importlib.import_module(f"uar_nb.{{module}}")
'''
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_wheel_writes_a_report_in_a_clean_environment(tmp_path):
    "The wheel, installed outside the clone without its tests or notebooks, trains a toy model and writes a report from a picture."
    subprocess.run(
        [
            sys.executable,
            '-m',
            'build',
            '--wheel',
            '--no-isolation',
            '--outdir',
            str(tmp_path / 'dist'),
            str(ROOT),
        ],
        check=True,
        capture_output=True,
    )
    [wheel] = (tmp_path / 'dist').glob('*.whl')
    venv.create(tmp_path / 'env', with_pip=True)
    python = tmp_path / 'env' / ('Scripts' if os.name == 'nt' else 'bin') / 'python'
    # the clean environment sees the packages that are installed here, but not this clone
    site = next(Path(tmp_path / 'env').rglob('site-packages'))
    import torch

    (site / 'shared.pth').write_text(str(Path(torch.__file__).parents[1]) + '\n')
    subprocess.run(
        [python, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-index', str(wheel)],
        check=True,
        capture_output=True,
    )
    script = Path(__file__).with_name('wheel_user.py')
    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH',)}
    done = subprocess.run(
        [python, str(script), str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert str(tmp_path / 'env') in done.stdout.splitlines()[0], done.stdout
