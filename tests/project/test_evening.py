"""The evening notebook keeps what it promises: its length, what it takes from the package, and the
scores of its saved run."""

import ast
import re

import pytest

import colab
import pages
from pages import cells_of, find_page

TAKEN = {'uar_nb.data.labels', 'uar_nb.phantom.generator', 'uar_nb.tokenizer.dvae'}


@pytest.fixture(scope='module')
def code():
    return [
        ''.join(c['source'])
        for c in cells_of(find_page('01_one_evening'))
        if c['cell_type'] == 'code' and c['id'] != colab.INSTALL
    ]


def saved():
    "What the code cells printed when the page was saved."
    cells = [c for c in cells_of(find_page('01_one_evening')) if c['cell_type'] == 'code']
    return '\n'.join(''.join(o.get('text', '')) for c in cells for o in c['outputs'])


def taken(cell):
    "Modules of the package that a cell imports from."
    nodes = ast.walk(ast.parse(cell))
    return {node.module for node in nodes if isinstance(node, ast.ImportFrom) if node.module} & {
        module for module in re.findall(r'uar_nb[\w.]*', cell)
    }


def test_the_evening_is_short(code):
    lines = [line for cell in code for line in cell.splitlines() if line.strip()]
    assert 150 <= len(lines) <= 340
    assert max(map(len, lines)) <= 100


def test_the_model_is_its_own(code):
    "Nothing of the package's model before the proof, which is the last cell."
    *build, proof = code
    assert set().union(*map(taken, build)) == TAKEN
    assert taken(proof) == {'uar_nb.config', 'uar_nb.data.batch', 'uar_nb.model'}
    assert 'largest < 1e-5' in proof


def test_a_module_taken_from_the_package_is_seen():
    assert taken('from uar_nb.cra import CRA\nimport torch\nfrom torch import nn') == {'uar_nb.cra'}


def test_the_saved_run_beats_the_nearest_image():
    number = r'([+-]?\d\.\d+)'
    line = rf'F1 of UAR and of the nearest X-ray: {number} and {number}, difference {number} '
    [found] = re.findall(line + rf'\[{number}, {number}\]', saved())
    ours, nearest, difference, low, _ = map(float, found)
    assert difference == pytest.approx(ours - nearest, abs=1.1e-3)
    assert difference >= 0.10 and low > 0


def test_the_evening_comes_before_the_road():
    order = pages.flat(pages.reading_order(pages.page_ids()))
    assert order[:4] == ['index', '00_the_task', '01_one_evening', '02_lsu']
