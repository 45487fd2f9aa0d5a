"Opening and saving a notebook in the JupyterLab of `make lab` changes nothing in it."

import re

import nbformat
import pytest
from nbdev import clean

import colab
import docs
import pages
from pages import ROOT

# What JupyterLab 4 writes into the metadata of a notebook that it has opened, under another Python
OPENED = dict(
    kernelspec=dict(display_name='Python 3 (ipykernel)', language='python', name='python3'),
    language_info=dict(
        codemirror_mode=dict(name='ipython', version=3),
        file_extension='.py',
        mimetype='text/x-python',
        name='python',
        nbconvert_exporter='python',
        pygments_lexer='ipython3',
        version='3.14.8',
    ),
)


class NoTrust:
    "In the place of nbdev_trust, which would sign the notebook."

    @staticmethod
    def __wrapped__(path):
        pass


@pytest.fixture
def saved(monkeypatch):
    "The text that a notebook is saved with after JupyterLab has opened it, by its path."
    monkeypatch.setattr(clean, 'nbdev_trust', NoTrust)

    def save(path):
        book = nbformat.read(path, as_version=4)
        book.metadata.update(OPENED)
        clean.clean_jupyter(path=str(path), model=dict(type='notebook', content=book))
        return nbformat.writes(book) + '\n'

    return save


@pytest.mark.parametrize('page', pages.page_ids())
def test_a_notebook_is_saved_as_it_was(page, saved):
    path = pages.find_page(page)
    assert saved(path) == path.read_text(encoding='utf-8'), f'run nbdev_clean --fname {path}'


def test_cells_that_only_draw_or_install_are_folded():
    "In JupyterLab, as the site leaves their code out."
    for page in pages.page_ids():
        for cell in pages.cells_of(pages.find_page(page)):
            aside = cell['id'] == colab.INSTALL or docs.source(cell).startswith('#| echo: false')
            assert cell['metadata'] == (docs.FOLDED if aside else {}), f'{page}, cell {cell["id"]}'


@pytest.mark.usefixtures('saved')
def test_a_cell_that_was_run_is_cleaned_as_well():
    path = ROOT / 'nbs' / 'unsaved.ipynb'  # for its settings; nothing is written there
    book = nbformat.v4.new_notebook(metadata=dict(kernelspec=dict(OPENED['kernelspec'])))
    book.cells = [nbformat.v4.new_code_cell('1', execution_count=7, metadata=dict(trusted=True))]
    model = dict(type='notebook', content=book)
    clean.clean_jupyter(path=str(path), model=model)
    assert book.cells[0].execution_count is None and book.cells[0].metadata == {}


def test_make_lab_cleans_what_is_saved():
    make = (ROOT / 'Makefile').read_text(encoding='utf-8')
    [started] = re.findall(r'^\t.*jupyter lab(.*)$', make, re.M)
    assert '--FileContentsManager.pre_save_hook=nbdev.clean.clean_jupyter' in started
