"""What `import uar_nb` offers: fifteen names, each from its module at first use, and neither
torch nor numpy before."""

import ast
import importlib
import subprocess
import sys

import pytest

import uar_nb
from pages import ROOT

FACE = ROOT / 'uar_nb' / '__init__.py'
NAMES = (
    'UAR UARConfig LSU CRA TIR Reporter Trainer load_studies Study View Finding make_studies '
    'score_reports load_checkpoint UARError'
).split()


def python(code, *options):
    "What a fresh interpreter prints."
    command = [sys.executable, *options, '-c', code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_names_are_those_of_the_plan():
    assert sorted(uar_nb.__all__) == uar_nb.__all__ == sorted(NAMES)
    assert set(NAMES) <= set(dir(uar_nb)) and '__version__' in dir(uar_nb)


@pytest.mark.parametrize('name', NAMES)
def test_each_name_is_the_one_of_its_module(name):
    value = getattr(uar_nb, name)
    assert value.__name__ == name
    home = importlib.import_module(value.__module__)
    assert home.__name__.startswith('uar_nb.') and getattr(home, name) is value


def test_editors_are_told_the_same_modules():
    "The imports under TYPE_CHECKING and the table that runs name the same modules."
    tree = ast.parse(FACE.read_text(encoding='utf-8'))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    told = {alias.name: node.module for node in block.body for alias in node.names}
    assert told == uar_nb._MODULES and set(told) == set(NAMES)


def test_nothing_heavy_comes_with_the_package():
    heavy = "{'torch', 'numpy', 'PIL', 'pydantic', 'matplotlib', 'typer'}"
    code = f'import sys, uar_nb; dir(uar_nb); print({heavy} & set(sys.modules), uar_nb.__version__)'
    assert python(code).split() == ['set()', uar_nb.__version__]


def test_every_way_of_import_works():
    code = f'''
from uar_nb import *
from uar_nb import CRA as face
from uar_nb.cra import CRA as home
import uar_nb, uar_nb.lsu
assert face is home is uar_nb.CRA is CRA
assert uar_nb.lsu.LSU is uar_nb.LSU is LSU          # the class beside the module
assert all(name in globals() for name in {NAMES!r})
'''
    python(code)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'uar_nb' has no attribute 'Uar'"):
        uar_nb.Uar  # noqa: B018
    with pytest.raises(ImportError, match='no_such_name'):
        from uar_nb import no_such_name  # noqa: F401
    assert not hasattr(uar_nb, '__wrapped__')


def test_export_leaves_the_file_as_it_is(tmp_path):
    """nbdev writes the version into it and nothing else, as long as the line has the form that
    it looks for."""
    import shutil

    for name in ('settings.ini', 'uar_nb', 'nbs/12_core.ipynb'):
        there, here = ROOT / name, tmp_path / name
        here.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if there.is_dir() else shutil.copy)(there, here)
    command = 'from nbdev.doclinks import nbdev_export\nnbdev_export()'
    done = subprocess.run([sys.executable, '-c', command], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / 'uar_nb/__init__.py').read_bytes() == FACE.read_bytes()
    core = (tmp_path / 'uar_nb/core.py').stat().st_mtime
    assert core > (ROOT / 'uar_nb/core.py').stat().st_mtime  # it did export


def test_the_commands_of_the_readme_write_a_report(tmp_path):
    """The block of commands below 'A report in a minute', as it stands; only its installation is
    done already."""
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    block = readme.split('## A report in a minute')[1].split('```sh\n')[1].split('\n```')[0]
    lines = [line.split('#')[0].split() for line in block.splitlines()]
    assert lines[0] == 'python -m pip install .'.split()
    assert [line[:2] for line in lines[1:]] == [['uar', 'phantom'], ['uar', 'generate']]
    for line in lines[1:]:
        command = [sys.executable, '-m', 'uar_nb', *line[1:]]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    assert 'never for diagnosis' in done.stdout and ' . ' in done.stdout
    report = done.stdout.strip().splitlines()[0].split()
    assert len(list((tmp_path / 'maps').glob('*.png'))) == len(report)
