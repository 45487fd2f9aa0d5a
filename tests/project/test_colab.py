"""Pages that open in Colab: their badge and first cell are those that tools/colab.py makes, and a
page runs in an empty folder where the package is not installed, from a wheel of it."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import nbformat
import pytest

import colab
import docs
import pages
from pages import ROOT, cells_of

PAGES = colab.colab_pages()


def test_the_evening_the_road_and_the_training_runs_open_in_colab():
    road = [page for page in pages.page_ids() if re.match(r'0\d_', page)]
    assert len(road) == 10 and set(road) < set(PAGES) and len(PAGES) == 13


@pytest.mark.parametrize('page', PAGES)
def test_badge_and_first_cell_are_those_of_the_tool(page):
    assert colab.changed(page, PAGES[page]) is None, 'run python tools/colab.py write'
    cells = cells_of(PAGES[page])
    text = '\n'.join(docs.source(cell) for cell in cells)
    assert text.count(f'/blob/{docs.SETTINGS["branch"]}/nbs/{page}.ipynb)') == 1
    code = [c for c in cells if c['cell_type'] == 'code' and 'default_exp' not in docs.source(c)]
    assert code[0]['id'] == colab.INSTALL
    assert text.count("'pip'") == 1 and 'google.colab' not in text


def test_addresses_stand_in_the_settings_alone():
    assert colab.SOURCE == 'uar_nb[metrics] @ git+https://github.com/uar-nb/uar_nb@main'
    said = (ROOT / 'tools' / 'colab.py').read_text(encoding='utf-8')
    assert docs.SETTINGS['git_url'] not in said and docs.SETTINGS['user'] not in said


def test_a_page_of_another_form_is_brought_into_this_one():
    old = (
        "import sys\nif 'google.colab' in sys.modules:\n    run([sys.executable, 'pip', 'install'])"
    )
    title = '# Title\n> what\n\n[![Open in Colab](a.svg)](b.ipynb)\n\nProse.'
    cells = [
        dict(cell_type='code', source='#| default_exp a'),
        dict(cell_type='markdown', source=title),
        dict(cell_type='markdown', source=colab.OLD_TEXT + ' Elsewhere it does nothing.'),
        dict(cell_type='code', source=old),
        dict(cell_type='code', source='x = 1'),
        dict(cell_type='code', source='#| hide\nimport nbdev\n\nnbdev.nbdev_export()'),
    ]
    made = colab.with_colab(cells, '09_x')
    kept = [docs.source(cell) for cell in made]
    assert [c.get('id') for c in made].count(colab.BADGE) == 1
    assert kept[1] == '# Title\n> what\n\nProse.' and kept[2].endswith('/nbs/09_x.ipynb)')
    assert kept[3:] == [colab.install_code(), 'x = 1', colab.EXPORTS]
    assert colab.with_colab(made, '09_x') == made


def test_the_first_cell_installs_only_what_is_missing(monkeypatch):
    called = []

    def run(command, **options):
        called.append(command)
        return subprocess.CompletedProcess(command, 1, '', 'no such repository')

    monkeypatch.setattr(subprocess, 'run', run)
    exec(colab.install_code(), {})
    assert not called
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(RuntimeError, match='uar_nb could not be installed: no such repository'):
        exec(colab.install_code(), {})
    assert called == [[sys.executable, '-m', 'pip', 'install', '-q', colab.SOURCE]]


# ---- in an empty folder, from a wheel

RUNS = """
import sys, time
import nbformat
from nbclient import NotebookClient
book = nbformat.read(sys.argv[1], as_version=4)
start = time.time()
NotebookClient(book, timeout=7200, kernel_name='python3').execute()
nbformat.write(book, sys.argv[1])
print(f'ran in {(time.time() - start) / 60:.1f} minutes')
"""


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp('dist')
    command = [sys.executable, '-m', 'build', '--wheel', '--no-isolation', '--outdir', str(out)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    return next(out.glob('*.whl'))


@pytest.fixture
def python(tmp_path):
    "Python of a new environment that has every library that is installed here, but not uar_nb."
    import torch

    venv.create(tmp_path / 'env', with_pip=False)  # pip is among the libraries
    libraries = tmp_path / 'libraries'
    libraries.mkdir()
    for path in Path(torch.__file__).parents[1].iterdir():
        if 'uar_nb' not in path.name:
            (libraries / path.name).symlink_to(path)
    site = next((tmp_path / 'env').rglob('site-packages'))
    (site / 'shared.pth').write_text(f'{libraries}\n')
    return tmp_path / 'env' / ('Scripts' if os.name == 'nt' else 'bin') / 'python'


def run_alone(page, folder, python, wheel):
    "Run a page in a folder that holds nothing else; the saved page, and what the run printed."
    folder.mkdir()
    text = PAGES[page].read_text(encoding='utf-8')
    assert text.count(colab.SOURCE) == 1
    text = text.replace(colab.SOURCE, f'uar_nb[metrics] @ {wheel.as_uri()}')
    file = folder / f'{page}.ipynb'
    file.write_text(text, encoding='utf-8')
    left_out = ('PYTHONPATH', 'UAR_DATA', 'UAR_REFERENCE', 'UAR_RUNS', 'IN_TEST')
    env = {name: value for name, value in os.environ.items() if name not in left_out}
    env |= dict(PIP_NO_INDEX='1', HF_HUB_OFFLINE='1', PIP_DISABLE_PIP_VERSION_CHECK='1')
    missing = [str(python), '-c', 'import torch, uar_nb']
    before = subprocess.run(missing, cwd=folder, env=env, capture_output=True, text=True)
    assert "No module named 'uar_nb'" in before.stderr
    command = [str(python), '-c', RUNS, file.name]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    where = [str(python), '-c', 'import uar_nb; print(uar_nb.__file__)']
    found = subprocess.run(where, cwd=folder, env=env, capture_output=True, text=True)
    assert str(python.parents[1]) in found.stdout
    return json.loads(file.read_text(encoding='utf-8')), done.stdout


@pytest.mark.slow  # 2 min on two idle cores
@pytest.mark.parametrize('page', ['00_the_task', '02_lsu'])
def test_a_page_runs_alone_from_a_wheel(page, tmp_path, python, wheel):
    book, said = run_alone(page, tmp_path / 'alone', python, wheel)
    code = [c for c in book['cells'] if c['cell_type'] == 'code' and ''.join(c['source']).strip()]
    ran = [c for c in code if c['execution_count']]
    assert len(ran) == len(code) > 10 and 'ran in' in said
    assert [path.name for path in (tmp_path / 'alone').iterdir()] == [f'{page}.ipynb']
    nbformat.validate(nbformat.from_dict(book))


@pytest.mark.slow  # 15 min on two idle cores: it trains
def test_the_evening_runs_alone_from_a_wheel(tmp_path, python, wheel):
    book, said = run_alone('01_one_evening', tmp_path / 'alone', python, wheel)
    printed = ''.join(
        ''.join(o.get('text', '')) for c in book['cells'] for o in c.get('outputs', [])
    )
    assert 'F1 of UAR and of the nearest X-ray' in printed
    print(said)
