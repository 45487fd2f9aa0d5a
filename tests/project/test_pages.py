"""The tools walk: on a small tree of folders as a house with wings has them, every one of them
sees every page, and none looks at nothing."""

import json

import pytest

import docs
import glossary
import lessons
import pages
import website
from pages import Part

WINGS = [
    Part('Start', None, 'start', ['index']),
    Part('Road', None, 'lesson', ['/']),
    Part('Wings', 'Data', 'lesson', ['wings/data/']),
    Part('Wings', 'Analysis', 'lesson', ['wings/analysis/']),
    Part('Results', 'Training', 'training', ['results/01_train']),
    Part('Results', 'Analyses', 'analysis', ['results/']),
    Part('Reference', None, 'reference', ['reference/', pages.API]),
]
IDS = [
    '04_cra',
    'index',
    'reference/glossary',
    'results/01_train',
    'results/11_retrieval',
    'wings/analysis/01_retrieval',
    'wings/data/03_dicom',
    'wings/data/10_load',
]
MODULES = {
    '04_cra': 'cra',
    'wings/analysis/01_retrieval': 'analysis.retrieval',
    'wings/data/03_dicom': 'data.dicom',
    'wings/data/10_load': 'data.load',
}


def write_book(path, *sources):
    """A notebook whose cells are markdown where they begin with # and a space, with two colons
    or with a word; code where they say so."""
    import nbformat

    def make(text):
        return (
            nbformat.v4.new_code_cell(text[6:])
            if text.startswith('code: ')
            else nbformat.v4.new_markdown_cell(text)
        )

    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=list(map(make, sources))), path)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Eight pages in six folders, with the one table that such a house needs; returns its folder
    nbs."""
    monkeypatch.setattr(pages, 'PARTS', WINGS)
    monkeypatch.setattr(pages, 'KEPT', {'results/01_train'})
    glossary.glossary_id.cache_clear()
    nbs = tmp_path / 'nbs'
    for page in IDS:
        export = [f'code: #| default_exp {MODULES[page]}'] if page in MODULES else []
        write_book(nbs / f'{page}.ipynb', f'# {pages.bare(page)}', *export, 'code: print(3)')
    write_book(
        nbs / 'reference/glossary.ipynb',
        '# Glossary\n\n### codebook\n\n[`dicom`](../wings/data/03_dicom.ipynb)',
    )
    write_book(nbs / 'wings/data/.ipynb_checkpoints/03_dicom-checkpoint.ipynb', '# an old copy')
    yield nbs
    glossary.glossary_id.cache_clear()


def test_every_page_is_found(tree):
    assert pages.page_ids(tree) == IDS
    assert {
        pages.page_id(p): m for p in pages.all_pages(tree) if (m := pages.module_of(p))
    } == MODULES
    assert all(pages.expected_module(page) == module for page, module in MODULES.items())
    assert list(pages.lessons(tree)) == ['cra', 'data.dicom', 'data.load', 'analysis.retrieval']
    assert [pages.page_id(p) for p in pages.of_kind('training', below=tree)] == ['results/01_train']
    assert [pages.page_id(p) for p in pages.of_kind('analysis', below=tree)] == [
        'results/11_retrieval'
    ]
    with pytest.raises(FileNotFoundError):
        pages.all_pages(tree / 'wings/nothing')
    with pytest.raises(LookupError):
        pages.kind_of('attic/01_old')


def test_reading_order_and_what_is_run(tree):
    order = pages.reading_order(IDS)
    assert order[1:3] == [
        ('Road', ['04_cra']),
        (
            'Wings',
            [
                ('Data', ['wings/data/03_dicom', 'wings/data/10_load']),
                ('Analysis', ['wings/analysis/01_retrieval']),
            ],
        ),
    ]
    assert sorted(pages.flat(order)) == sorted([*IDS, pages.API])
    assert [pages.page_id(p) for p in pages.to_run(tree)] == [
        '04_cra',
        'wings/data/03_dicom',
        'wings/data/10_load',
        'wings/analysis/01_retrieval',
        'results/11_retrieval',
        'index',
        'reference/glossary',
    ]
    text = (
        '    left:  # made by tools/docs.py\n  sidebar:\n    contents:  # made by tools/docs.py\n'
    )
    with pytest.raises(SystemExit):
        docs.quarto_yml(text.replace('left:', 'right:'), IDS)
    made = docs.quarto_yml(text, [*IDS, 'reference/paper_to_code'])
    assert (
        '      - text: Learn\n        href: 04_cra.ipynb\n' in made
        and 'href: reference/glossary.ipynb' in made
    )
    assert (
        '          - section: "Data"\n            contents:\n              - wings/data/03_dicom.ipynb\n'  # noqa: E501
        in made
    )


def test_pages_are_found_by_name(tree):
    def find(*a, **k):
        return pages.page_id(pages.find_page(*a, below=tree, **k))

    assert (
        find('dicom')
        == find('03_dicom')
        == find('data/dicom')
        == find('data.dicom')
        == find('wings/data/03_dicom')
        == 'wings/data/03_dicom'
    )
    assert (
        find('analysis/retrieval')
        == find('retrieval', kind='lesson')
        == 'wings/analysis/01_retrieval'
    )
    assert find('retrieval', kind='analysis') == 'results/11_retrieval'
    for name in ('retrieval', 'om', 'nothing'):
        with pytest.raises(LookupError):
            find(name)


def test_links_between_folders():
    assert (
        pages.link_to('reference/glossary', 'wings/data/03_dicom')
        == '../../reference/glossary.ipynb'
    )
    assert (
        pages.link_to('04_cra', 'index') == '04_cra.ipynb'
        and pages.link_to('wings/data/10_load', 'wings/data/03_dicom') == '10_load.ipynb'
    )
    assert (
        pages.linked_page('../../reference/glossary.ipynb#x', 'wings/data/03_dicom')
        == 'reference/glossary'
    )
    assert (
        pages.linked_page('../data/README.md', 'index') is None
        and pages.linked_page('https://a.b/x.ipynb#y', 'index') not in IDS
    )
    assert pages.html_of('wings/data/03_dicom') == 'wings/data/dicom.html'


def test_prose_links_to_pages_and_to_the_repository():
    blob = f"{docs.SETTINGS['git_url']}/blob/{docs.SETTINGS['branch']}"

    def link(text, here):
        return docs.link_pages(text, IDS, here)

    assert (
        link('see `03_dicom`, the `load` lesson and lesson `cra`', 'wings/data/03_dicom')
        == 'see [`03_dicom`](03_dicom.ipynb), the [`load`](10_load.ipynb) lesson and lesson [`cra`](../../04_cra.ipynb)'  # noqa: E501
    )
    assert link('see `03_dicom`', '04_cra') == 'see [`03_dicom`](wings/data/03_dicom.ipynb)'
    assert (
        link('the `retrieval` lesson', 'wings/analysis/01_retrieval')
        == 'the [`retrieval`](01_retrieval.ipynb) lesson'
    )  # the one beside
    assert link('the `retrieval` lesson', '04_cra') == 'the `retrieval` lesson'  # two: better none
    text = '[a](../10_load.ipynb) [b](../../04_cra.ipynb#x) [c](../../../data/README.md#y) [d](10_load.ipynb)'  # noqa: E501
    assert link(text, 'wings/data/03_dicom') == text.replace('../../../data', f'{blob}/data')
    assert link('[c](../data/README.md)', '04_cra') == f'[c]({blob}/data/README.md)'
    with pytest.raises(SystemExit):
        link('[x](../../elsewhere.md)', '04_cra')


def test_the_readme_stands_one_folder_higher():
    assert (
        docs.readme_links(
            '[a](wings/data/03_dicom.ipynb#x) [b](index.ipynb) [c](https://a.b/x.ipynb)'
        )
        == '[a](nbs/wings/data/03_dicom.ipynb#x) [b](nbs/index.ipynb) [c](https://a.b/x.ipynb)'
    )


def test_the_site_keeps_folders(tree, tmp_path):
    """Each page is written at its place; what it links to, and its style, script, sidebar and
    steps, are there; the search names pages from the root."""
    import os
    import re

    prepared, out = tmp_path / 'prepared', tmp_path / 'site'
    for page in [*IDS, pages.API]:
        write_book(prepared / f'{page}.ipynb', f'# {page}\n\nwords')

    def front(page):
        return f'---\ntitle: {pages.bare(page)}\noutput-file: {pages.bare(page)}.html\n---'

    for page in [*IDS, pages.API]:
        book = json.loads((prepared / f'{page}.ipynb').read_text())
        book['cells'].insert(0, dict(cell_type='raw', id='front', metadata={}, source=front(page)))
        (prepared / f'{page}.ipynb').write_text(json.dumps(book))
    deep = prepared / 'wings/data/03_dicom.ipynb'
    text = '[g](../../reference/glossary.ipynb#words) [n](10_load.ipynb) [c](../../04_cra.ipynb#x) [home](../../index.ipynb)'  # noqa: E501
    book = json.loads(deep.read_text())
    book['cells'].append(dict(cell_type='markdown', id='links', metadata={}, source=text))
    deep.write_text(json.dumps(book))
    assert website.render(prepared, out) == len(IDS) + 1
    made = sorted(p.relative_to(out).as_posix() for p in out.rglob('*.html'))
    assert made == sorted(pages.html_of(page) for page in [*IDS, pages.API])
    page = (out / 'wings/data/dicom.html').read_text()
    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    for link in (
        '../../reference/glossary.html#words',
        'load.html',
        '../../cra.html#x',
        '../../index.html',
        '../../site/site.css',
        '../../site/site.js',
        '../analysis/retrieval.html',
        '../../results/retrieval.html',
    ):
        assert link in links, link
    for name in made:
        for link in re.findall(r'(?:href|src)="([^"#]+)', (out / name).read_text()):
            if not link.startswith('https:'):
                assert os.path.isfile((out / name).parent / link), f'{name}: {link}'
    search = json.loads((out / 'site/search.js').read_text().removeprefix('window.SEARCH = '))
    assert search and {url.partition('#')[0] for url, *_ in search} == set(made)
    (prepared / 'attic').mkdir()
    deep.rename(prepared / 'attic/03_dicom.ipynb')
    with pytest.raises(LookupError, match='attic/03_dicom'):
        website.render(prepared, out)


def test_two_pages_never_share_a_file(tree, tmp_path):
    for page in ('wings/data/02_dicom', 'wings/data/03_dicom'):
        write_book(tmp_path / f'made/{page}.ipynb', '# one')
    for page in ('wings/data/02_dicom', 'wings/data/03_dicom'):
        book = json.loads((tmp_path / f'made/{page}.ipynb').read_text())
        book['cells'].insert(
            0,
            dict(
                cell_type='raw', id='front', metadata={}, source='---\noutput-file: dicom.html\n---'
            ),
        )
        (tmp_path / f'made/{page}.ipynb').write_text(json.dumps(book))
    with pytest.raises(SystemExit, match='dicom.html'):
        website.Site(tmp_path / 'made')


def test_terms_link_to_the_glossary_from_every_folder(tree):
    assert list(glossary.linked_pages(tree)) == [
        page for page in IDS if page not in ('index', 'reference/glossary')
    ]
    for page, way in (
        ('wings/data/10_load', '../../reference/glossary.ipynb'),
        ('04_cra', 'reference/glossary.ipynb'),
        ('results/11_retrieval', '../reference/glossary.ipynb'),
    ):
        book = dict(cells=[dict(cell_type='markdown', source='A codebook, and a codebook.')])
        assert glossary.link_book(book, page, tree) == [
            ('A codebook, and a codebook.', f'A [codebook]({way}#codebook), and a codebook.')
        ]
        assert glossary.link_book(book, page, tree) == []  # known as a link: no second one
    book = dict(cells=[dict(cell_type='markdown', source='The modality.')])
    assert (
        glossary.link_book(book, 'wings/data/03_dicom', tree) == []
    )  # there the word means something else
    assert glossary.link_book(book, 'wings/data/10_load', tree) != []


def test_measurements_are_kept_for_every_folder(tree, tmp_path, monkeypatch):
    file = tmp_path / 'data/results/notebooks.json'
    file.parent.mkdir(parents=True)
    monkeypatch.setattr(lessons, 'RESULTS', file)
    row = dict(seconds=1.0, memory_mb=10, children_mb=0)
    file.write_text(
        json.dumps(
            dict(
                machine=lessons.machine(),
                notebooks={page: row for page in [*IDS, 'gone', 'wings/gone/01_gone']},
            )
        )
    )
    lessons.note({'wings/data/03_dicom': dict(row, seconds=2.0)})
    kept = json.loads(file.read_text())['notebooks']
    assert sorted(kept) == sorted(IDS) and kept['wings/data/03_dicom']['seconds'] == 2
    assert '| [`wings/data/03_dicom`](wings/data/03_dicom.ipynb) |' in lessons.table()
    before = file.read_text()
    for path in tree.rglob('*.ipynb'):
        path.unlink()
    with pytest.raises(FileNotFoundError):
        lessons.note({})  # an empty walk takes nothing away
    assert file.read_text() == before


def test_measured_pages_are_those_with_code_in_every_folder(tree):
    write_book(tree / 'results/12_long.ipynb', '---\nskip_exec: true\n---', 'code: print(3)')
    assert (
        pages.is_kept(tree / 'results/12_long.ipynb')
        and pages.is_kept(tree / 'results/01_train.ipynb')
        and not pages.is_kept(tree / '04_cra.ipynb')
    )
    assert [pages.page_id(p) for p in lessons.measured_pages(tree)] == [
        page for page in IDS if page not in ('results/01_train', 'reference/glossary')
    ]
    assert lessons.run_notebook(tree / 'results/01_train.ipynb') is None


def test_a_training_page_is_not_told_of_long_runs(tree, monkeypatch):
    monkeypatch.setattr(pages, 'KEPT', set())
    monkeypatch.setenv('UAR_RUNS', 'some folder')
    code = 'code: import os\nassert ("UAR_RUNS" in os.environ) == {}'
    write_book(tree / 'results/01_train.ipynb', '# train', code.format(False))
    write_book(tree / 'results/11_retrieval.ipynb', '# retrieval', code.format(True))
    for page in ('results/01_train', 'results/11_retrieval'):
        assert lessons.run_notebook(tree / f'{page}.ipynb', save=False)
