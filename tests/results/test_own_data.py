"""The analyses run on a data set of one's own: two environment variables, and no word of the
notebook changes."""

import os

import nbformat
import pytest
from nbclient import NotebookClient

from pages import ROOT, find_page

NOTE = 'views of 40 studies by the order of names'  # what `load_studies` says of this layout and of nothing else here  # noqa: E501
LATER = ['alignment', 'basis', 'where_words_look']
PAGES = [  # analyses; those of LATER take 1.5 min together
    'retrieval',
    'how_it_fails',
    *(pytest.param(page, marks=pytest.mark.slow) for page in LATER),  # 1.5 min
]


@pytest.fixture(scope='module')
def data_set(tmp_path_factory):
    "Forty studies as the openi layout has them: images and reports, neither findings nor boxes."
    from uar_nb.data.load import save_studies
    from uar_nb.phantom.generator import make_studies

    return save_studies(
        make_studies(40, seed=77, split='test'),
        tmp_path_factory.mktemp('own') / 'hospital',
        'openi',
    )


def printed(book):
    "All that the cells of an executed notebook printed or showed as text."
    outputs = [o for c in book.cells if c.cell_type == 'code' for o in c.outputs]
    assert not [o for o in outputs if o.output_type == 'error']
    return '\n'.join(o.get('text', '') or o.get('data', {}).get('text/plain', '') for o in outputs)


@pytest.mark.parametrize('page', PAGES)
def test_a_page_runs_on_a_data_set_of_ones_own(page, data_set, monkeypatch):
    for name in ('UAR_RUNS', 'UAR_CHECKPOINT', 'UAR_SPLIT'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('UAR_DATA_SET', str(data_set))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]))
    path = find_page(page, kind='analysis')
    book = nbformat.read(path, as_version=4)
    for cell in book.cells:
        if cell.cell_type == 'code' and any(
            s in cell.source for s in ('nbdev_export()', '#| eval: false')
        ):
            cell.source = 'pass'
    NotebookClient(
        book, timeout=600, kernel_name='python3', resources={'metadata': {'path': str(path.parent)}}
    ).execute()
    assert NOTE in printed(book)
    assert data_set.name in printed(book) and 'fresh phantoms' not in printed(book)
