"""What a page shows when it runs is saved in it."""

import ast

import pytest

import lessons
import pages


def shows(source):
    "Whether a cell prints, or ends with a figure or a table by its name."
    try:
        body = ast.parse(source).body
    except SyntaxError:  # magics
        return False
    lines = [line.value for line in body if isinstance(line, ast.Expr)]
    calls = [line.func for line in lines if isinstance(line, ast.Call)]
    prints = any(isinstance(call, ast.Name) and call.id == 'print' for call in calls)
    named = bool(body) and isinstance(body[-1], ast.Expr) and isinstance(body[-1].value, ast.Name)
    return prints or named


def silent_cells(cells):
    "Ids of cells that show something, of which nothing is saved."
    return [
        cell['id']
        for cell in cells
        if cell['cell_type'] == 'code'
        and not cell['outputs']
        and shows(''.join(cell['source']))
        and not any(mark in ''.join(cell['source']) for mark in lessons.SKIP)
    ]


@pytest.mark.parametrize(
    'source, shown',
    [
        ('print(3)', True),
        ('x = 3\nx', True),
        ('fig, axes = new_figure()\nfig', True),
        ('x = 3', False),
        ('def f():\n    print(3)', False),
        ('test_eq(1, 1)', False),
        ('%timeit 3', False),
    ],
)
def test_what_shows_something(source, shown):
    cell = dict(id='a', cell_type='code', outputs=[], source=[source])
    assert silent_cells([cell]) == ['a'] * shown
    assert silent_cells([cell | dict(outputs=[{}])]) == []
    assert silent_cells([cell | dict(source=['#| eval: false\n', source])]) == []


@pytest.mark.parametrize('path', pages.all_pages(), ids=pages.page_id)
def test_results_are_saved(path):
    if pages.is_kept(path):
        pytest.skip('a run that is kept, or waits for its data')
    assert silent_cells(pages.cells_of(path)) == []
