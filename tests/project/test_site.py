"""The site: no dead link, every row of the paper, terms linked where they come first, numbers on
equations, readable in a real browser."""

import ast
import contextlib
import functools
import http.server
import importlib
import json
import posixpath
import re
import threading

import pytest

import check_site
import docs
import glossary
import lessons
import pages
import readable
import website
from check_site import SMALL
from pages import ROOT, bare, cells_of, find_page, html_of, kind_of, linked_page, module_of, page_id
from uar_nb.apps.explorer_pages import PAGES


def cells(name, kind='markdown'):
    return [''.join(c['source']) for c in cells_of(find_page(name)) if c['cell_type'] == kind]


def shown(name):
    "The markdown that the code of a page has made."
    return [
        ''.join(o['data']['text/markdown'])
        for c in cells_of(find_page(name))
        for o in c.get('outputs', [])
        if 'text/markdown' in o.get('data', {})
    ]


# ---- the pages as text

PAPER = (
    [f'Eq. {i}' for i in range(1, 14)]
    + [f'Table {i}' for i in range(1, 5)]
    + [f'Figure {i}' for i in range(1, 7)]
)


def paper_rows():
    lines = [
        line.strip('| ').split(' | ')
        for line in '\n'.join(cells('paper_to_code')).splitlines()
        if line.startswith('| ')
    ]
    return {
        row[0]: row
        for row in lines
        if re.match(r'((Eq\.|Table|Figure) \d+|(Section|Footnote) .*)$', row[0])
    }


def test_paper_to_code_lacks_nothing():
    assert sorted(
        row for row in paper_rows() if not row.startswith(('Section', 'Footnote'))
    ) == sorted(PAPER)


def items_of_the_paper():
    """Rows to test. While tests are collected a page may be missing: then the rows that must be
    there fail one by one."""
    try:
        rows = paper_rows()
    except LookupError:
        rows = {}
    return list(dict.fromkeys([*PAPER, *rows]))


@pytest.mark.parametrize('item', items_of_the_paper())
def test_paper_to_code_names_what_exists(item):
    """Each function exists in its module and is checked in its lesson; each row names a check,
    and each test named exists."""
    _, _, *_, code, checks = paper_rows()[item]
    here = page_id(find_page('paper_to_code'))
    names = [
        (name, linked_page(link, here))
        for name, link in re.findall(r'\[`([\w.]+)`\]\(([\w./-]+\.ipynb)', code)
    ]
    assert names
    named = re.findall(r'`tests/([\w/]+\.py)::(\w+)`', checks)
    assert named or 'lesson' in checks
    assert named or item not in (
        'Table 2',
        'Table 3',
        'Table 4',
        'Figure 3',
        'Figure 4',
        'Figure 6',
    )
    for name, page in names:
        module = module_of(find_page(page))
        assert module and name.startswith(f'{module}.'), (
            f'{name} has its lesson elsewhere than in {page}'
        )
        path = name.removeprefix(f'{module}.').split('.')
        functools.reduce(getattr, path, importlib.import_module(f'uar_nb.{module}'))
        called = (
            path[-2] if path[-1] == 'forward' else path[-1]
        )  # a module is called by its own name
        assert any(
            called in text and re.search(r'\b(test_\w+|expect_fail|assert)\b', text)
            for text in cells(page, 'code')
        ), f'{page} has no check with {called}'
    for file, test in named:
        assert re.search(
            rf'^def {test}\b', (ROOT / 'tests' / file).read_text(encoding='utf-8'), re.M
        ), test


def test_open_choices_has_every_question_with_its_present_answer():
    from uar_nb.config import open_questions

    text = '\n'.join(shown('open_choices'))
    rows = {m[1]: m[0] for m in re.finditer(r'^\| .*? `([\w.]+)` \|.*$', text, re.M)}
    for q in open_questions('iu_xray'):
        value = f"`{q['default']}`".replace('True', 'yes').replace('False', 'no')
        assert f"`{q['field']}` | {value}" in rows[q['field']], (
            f"{q['field']}: run open_choices.ipynb again"
        )
    assert 'In `phantom-small` a token' in text and not re.search(r'(reads|costs|moves) –', text), (
        'run the analyses basis and where_words_look, then open_choices'
    )
    wanted = 'margin pooling center negatives cra_scale mask_scale train_basis d_ff gate_bias cra_dropout cra_norm mask mask_layers mask_heads k ce mask_reduction'  # noqa: E501
    assert {f'model.{w}' for w in wanted.split()} <= set(rows)


def test_glossary():
    heads = re.findall(r'^### (.+)$', '\n'.join(cells('glossary')), re.M)
    assert len(heads) >= 40 and len(set(map(website.slug, heads))) == len(heads)
    assert set(glossary.HEADS) <= set(heads)
    texts = re.split(r'^### .+$', '\n'.join(cells('glossary')), flags=re.M)[1:]
    for head, text in zip(heads, texts, strict=True):
        assert 20 < len(text.split('\n##')[0].strip()) < 420, head


def test_each_term_of_the_glossary_links_to_a_lesson():
    "A lesson or a result, under the name that it has, that uses the word."
    here = page_id(find_page('glossary'))
    heads = re.findall(r'^### (.+)$', '\n'.join(cells('glossary')), re.M)
    texts = re.split(r'^### .+$', '\n'.join(cells('glossary')), flags=re.M)[1:]
    for head, text in zip(heads, texts, strict=True):
        links = [
            (name, linked_page(link, here))
            for name, link in re.findall(r'\[`([\w. ]+)`\]\(([\w./-]+\.ipynb)\)', text)
        ]
        lessons = [
            (name, page) for name, page in links if kind_of(page) not in ('start', 'reference')
        ]
        assert lessons, f'{head} has no lesson'
        assert all(name in (bare(page), module_of(find_page(page))) for name, page in lessons), head
        forms = '|'.join(
            [
                re.escape(re.split(r'[ ,@-]', head)[0]),
                *(form for form, of in glossary.FORMS.items() if of == head),
            ]
        )
        assert any(
            re.search(forms, '\n'.join(cells(page) + cells(page, 'code')), re.I)
            for _, page in lessons
        ), f'{head}: no lesson that it names has the word'


@pytest.mark.parametrize('page', glossary.linked_pages())
def test_terms_are_linked_at_their_first_use(page):
    assert not glossary.link_book(json.loads(find_page(page).read_text(encoding='utf-8')), page), (
        f'run python tools/glossary.py link {page}'
    )


def test_terms_are_looked_for_on_every_lesson_and_result():
    assert (
        len(glossary.linked_pages()) == len(pages.of_kind('lesson', 'training', 'analysis')) >= 71
    )


def test_linking_leaves_everything_else_alone():
    text = '# The dVAE\n> a dVAE\n\nA `dVAE`, $dVAE$, [a dVAE](x.ipynb), then a dVAE and a dVAE.\n\n```sh\ndVAE\n```\n| dVAE |'  # noqa: E501
    got, new = glossary.link_text(text, set())
    assert got == text.replace('then a dVAE', 'then a [dVAE](glossary.ipynb#dvae)') and new == [
        'dVAE'
    ]
    assert glossary.link_text(got, set()) == (got, [])


def test_sidebar_holds_every_page_once_in_order():
    text = (ROOT / '_quarto.yml').read_text(encoding='utf-8')
    assert docs.quarto_yml(text) == text, 'run python tools/docs.py sidebar'
    named = re.findall(r'^ +- ([\w/-]+)\.ipynb$', text, re.M)
    assert sorted(named) == sorted([*pages.page_ids(), pages.API]) and len(named) >= 81
    for folder in {pages.folder_of(page) for page in named}:
        numbered = [
            page
            for page in named
            if pages.folder_of(page) == folder and page.rpartition('/')[2][0].isdigit()
        ]
        assert numbered == sorted(numbered), folder


def test_every_link_above_the_pages_leads_to_a_page():
    import yaml

    links = yaml.safe_load((ROOT / '_quarto.yml').read_text(encoding='utf-8'))['website']['navbar'][
        'left'
    ]
    assert [link['text'] for link in links] == ['Start', 'Learn', 'Paper to code', 'Glossary']
    assert not [link for link in links if not (ROOT / 'nbs' / link['href']).is_file()]


def test_data_readme_and_cards_do_not_repeat_each_other():
    def sentences(text):
        return {
            s.strip()
            for s in re.split(r'(?<=[.;])\s|\n|\|', text)
            if len(s.strip()) > 50 and 'http' not in s
        }

    assert not sentences((ROOT / 'data/README.md').read_text(encoding='utf-8')) & sentences(
        '\n'.join(cells('data_cards'))
    )


@pytest.mark.parametrize('where', ['README.md', 'data/README.md', *pages.page_ids()])
def test_code_blocks_say_their_language(where):
    text = (
        (ROOT / where).read_text(encoding='utf-8')
        if where.endswith('.md')
        else '\n'.join(cells(where))
    )
    fences = re.findall(r'^ *```(.*)$', text, re.M)
    assert len(fences) % 2 == 0 and all(fences[::2]), fences


def test_workflows():
    import yaml

    for name in ('docs', 'test'):
        flow = yaml.safe_load((ROOT / f'.github/workflows/{name}.yml').read_text(encoding='utf-8'))
        assert flow['jobs'] and 'push' in flow[True]  # YAML reads `on` as true
    weekly = yaml.safe_load((ROOT / '.github/workflows/weekly.yml').read_text(encoding='utf-8'))
    [job] = weekly['jobs'].values()
    assert 'schedule' in weekly[True] and 'make test-all' in job['steps'][-1]['run']
    text = (ROOT / '.github/workflows/docs.yml').read_text(encoding='utf-8')
    assert 'quarto render' in text and 'tools/docs.py process' in text
    assert 'tools/check_site.py' in text


@pytest.mark.parametrize(
    'said, fails',
    [('[ 3/125] cra.ipynb\nOutput created: _docs/index.html\n', False),
     ('[WARNING] Unable to resolve crossref @eq-9\n', True),
     ('\x1b[33mWARN: Unable to resolve link target: x.ipynb\x1b[39m\n', True)],
)  # fmt: skip
def test_a_warning_of_quarto_ends_the_workflow(said, fails, tmp_path):
    "The very lines of docs.yml, with a program in Quarto's place that says this."
    import subprocess

    import yaml

    flow = yaml.safe_load((ROOT / '.github/workflows/docs.yml').read_text(encoding='utf-8'))
    [lines] = [
        s['run'] for s in flow['jobs']['build']['steps'] if 'quarto render' in s.get('run', '')
    ]
    quarto = tmp_path / 'quarto'
    quarto.write_text('#!/bin/sh\ncat said.txt >&2\n')
    quarto.chmod(0o755)
    (tmp_path / 'said.txt').write_text(said)
    way = {'PATH': f'{tmp_path}:/usr/bin:/bin'}
    command = ['bash', '--noprofile', '--norc', '-eo', 'pipefail', '-c', lines]
    done = subprocess.run(command, cwd=tmp_path, env=way, capture_output=True)
    assert (done.returncode != 0) == fails


def test_lessons_are_measured(tmp_path, monkeypatch):
    import nbformat

    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell('x = bytearray(60_000_000); print(len(x))')]
    )
    (tmp_path / 'nbs').mkdir()
    (tmp_path / 'data/results').mkdir(parents=True)
    nbformat.write(book, tmp_path / 'nbs/00_toy.ipynb')
    before = (tmp_path / 'nbs/00_toy.ipynb').read_text()
    monkeypatch.setattr(lessons, 'RESULTS', tmp_path / 'data/results/notebooks.json')
    took = lessons.run_notebook(tmp_path / 'nbs/00_toy.ipynb', save=False)
    assert (
        (tmp_path / 'nbs/00_toy.ipynb').read_text() == before
        and 0 < took['seconds'] < 120
        and (took['memory_mb'] is None or 60 < took['memory_mb'] < 1000)
    )
    lessons.note({'00_toy': took})
    lessons.note({'gone': took})
    assert (
        list(json.loads(lessons.RESULTS.read_text())['notebooks']) == ['00_toy']
        and '| [`00_toy`](00_toy.ipynb) |' in lessons.table()
    )
    book.cells[0].source = 'print(3)'
    [kept] = pages.KEPT
    (tmp_path / 'nbs' / kept).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, tmp_path / f'nbs/{kept}.ipynb')
    assert lessons.run_notebook(tmp_path / f'nbs/{kept}.ipynb') is None and lessons.measured_pages(
        tmp_path / 'nbs'
    ) == [tmp_path / 'nbs/00_toy.ipynb']


def test_measurements_of_some_notebooks_join_those_of_the_others():
    row, here, there = dict(seconds=1.0), dict(cores=2), dict(cores=64)
    kept = lessons.merge(
        dict(machine=here, notebooks=dict(a=row, b=row)), dict(b=dict(seconds=2.0)), here
    )
    assert kept == dict(machine=here, notebooks=dict(a=row, b=dict(seconds=2.0)))
    mixed = lessons.merge(kept, dict(b=row, c=row), there)
    assert mixed == dict(
        machine=here, notebooks=dict(a=row, b=dict(row, machine=there), c=dict(row, machine=there))
    )
    assert lessons.merge(mixed, dict(a=row), there) == dict(
        machine=there, notebooks=dict(a=row, b=row, c=row)
    )  # nothing of the first machine is left


def test_one_page_has_every_page_and_what_it_took():
    """All numbers of the table are those of data/results/notebooks.json; pages without one say
    why; lessons and analyses together, the training of the evening with them, stay below half an
    hour."""
    took = json.loads((ROOT / 'data/results/notebooks.json').read_text(encoding='utf-8'))[
        'notebooks'
    ]
    here = pages.SUMS_UP
    table = next(text for text in shown(here) if '| notebook | what it is about |' in text)
    rows = {
        linked_page(m[1], here): (m[2].strip(), m[3].strip())
        for m in re.finditer(
            r'^\| \[`[^`]+`\]\(([\w./-]+\.ipynb)\).* \| ([^|]+) \| ([^|]+) \|$', table, re.M
        )
    }
    assert sorted(rows) == sorted(set(pages.page_ids()) - {here})
    for name, n in took.items():
        if name in rows:
            assert rows[name] == (
                f"{n['seconds'] / 60:.1f}" + ' ²' * ('machine' in n),
                f"{max(n['memory_mb'] or 0, n['children_mb'] or 0) / 1024:.1f}",
            ), f'{name}: run {here}.ipynb again'
    foot, measured = (
        table.rsplit('\n', 1)[1],
        {page_id(p) for p in lessons.measured_pages()} - {here},
    )
    [kept] = pages.KEPT
    assert len(measured) >= 74 and len(took) >= 75
    assert rows[kept] == ('56.1 ¹', '2.0') and 'other work shared' in foot
    assert all(
        cost == ('–', '–') and f'`{name}`' in foot
        for name, cost in rows.items()
        if name not in took and name != kept
    )
    waiting = measured - set(took) - set(lessons.NOT_MEASURED)
    assert not waiting and not set(lessons.NOT_MEASURED) & set(took), (
        f'python tools/lessons.py --measure {" ".join(f"nbs/{n}.ipynb" for n in sorted(measured - set(took)))}'  # noqa: E501
    )
    assert f"**{sum(n['seconds'] for name, n in took.items() if name in rows) / 60:.1f}**" in table
    assert (
        sum(n['seconds'] for name, n in took.items() if kind_of(name) in ('lesson', 'analysis'))
        / 60
        < 30
    )


def test_a_name_in_a_link_is_one_link():
    assert (
        docs.one_link(
            'that [[`f`](https://a.b/x.html#f)](wings/data/10_load.ipynb) reads [`g`](h.html)'
        )
        == 'that [`f`](wings/data/10_load.ipynb) reads [`g`](h.html)'
    )


def test_the_readme_shows_no_code_that_the_index_hides():
    hidden = dict(cell_type='code', source='#| echo: false\nx = 1', outputs=[], id='a', metadata={})
    table = dict(
        hidden,
        source='#| echo: false\nMarkdown(x)',
        outputs=[dict(output_type='execute_result', data={'text/markdown': ['| a |\n', '|---|']})],
    )
    plain = dict(hidden, source='x = 1')
    assert [(c['cell_type'], c['source']) for c in docs.hide_code([hidden, table, plain])] == [
        ('markdown', '| a |\n|---|'),
        ('code', 'x = 1'),
    ]
    assert 'echo: false' not in (ROOT / 'README.md').read_text(encoding='utf-8')


def test_make_trains_the_models_that_the_analyses_compare():
    from uar_nb.config import MODEL_PRESETS

    make = (ROOT / 'Makefile').read_text(encoding='utf-8')
    rows = re.search(r'ablation \$\(addprefix --row ,([\w ]+)\) --out runs/ablation', make)[
        1
    ].split()
    assert (
        set(rows) <= set(MODEL_PRESETS)
        and set(rows) == {'base', 'a', 'e', 'uar', 'memory', 'uniform', 'normal'}
        and '`make ablation`' in '\n'.join(cells('reference/commands'))
    )


# ---- the rendered site


@pytest.fixture(scope='module')
def rendered(site):
    "The pages of the small site by their path below the root."
    return check_site.read_site(site)


PLANTED = {
    'dead link': '<a href="nowhere.html">x</a>',
    'dead link: #nothing': '<a href="#nothing">x</a>',
    'dead link: other.html#nothing': '<a href="other.html#nothing">x</a>',
    'published address': f'<a href="{docs.SITE}cra.html">x</a>',
    'fetches from another host: https': '<script src="https://a.b/require.js"></script>',
    'fetches from another host: //': '<img src="//a.b/x.png" alt="x">',
    'missing file': '<link rel="stylesheet" href="gone.css">',
    'two things are called': '<p id="here"></p>',
    'without an alternative text': '<img src="other.html" alt=" ">',
    "left over: ':::": '<p>::: {.callout-note}</p>',
    "left over: '$$'": '<p>$$ x $$</p>',
    "left over: '@eq-9'": '<p>see @eq-9</p>',
    "left over: '](cra.ipynb)'": '<p>[x](cra.ipynb)</p>',
}


@pytest.mark.parametrize('fault', PLANTED)
def test_the_check_of_the_site_finds_what_is_planted(fault, tmp_path):
    good = (
        '<p id="here">::</p><a href="other.html#here">x</a><a href="https://a.b">y</a><pre>$$</pre>'
    )
    (tmp_path / 'other.html').write_text('<p id="here"></p>')
    (tmp_path / 'page.html').write_text(good)
    assert not check_site.faults(tmp_path)
    (tmp_path / 'page.html').write_text(good + PLANTED[fault])
    [found] = check_site.faults(tmp_path)
    assert found.startswith('page.html: ') and fault in found


def test_the_check_of_the_site_reads_styles(tmp_path):
    (tmp_path / 'a.css').write_text(
        '/* url(//x.y) */ @import "https://fonts.a.b/css"; x { y: url(z) }'
    )
    assert check_site.faults(tmp_path) == [
        'a.css: fetches from another host: https://fonts.a.b/css'
    ]


def test_the_small_site_has_no_fault(site, rendered):
    """What leads to a page outside of the small site is left to the test of all sources and to
    the slow test of the whole site."""
    missing = {html_of(page) for page in [*pages.page_ids(), pages.API]} - set(rendered)

    def leads_out(fault):
        name, _, link = fault.partition(': dead link: ')
        file = posixpath.normpath(posixpath.join(posixpath.dirname(name), link.split('#')[0]))
        return file in missing

    found = check_site.faults(site)
    assert not [fault for fault in found if not leads_out(fault)]
    made = {html_of(page) for page in [*SMALL, pages.API]}
    assert made | {f'explorers/{name}.html' for name in PAGES} == set(rendered)


def targets(page):
    "The anchors that the page of a source has: headings, equations, figures, exported names."
    book = cells_of(find_page(page))
    text = '\n'.join(readable.strip_code(''.join(c['source']))[0] for c in book)
    found = {website.slug(re.sub(r'\[([^\]]*)\]\([^)]*\)|[`*$]', r'\1', head))
             for head in re.findall(r'^#+ +(.+)$', text, re.M)}  # fmt: skip
    plain = {slug.split('{')[0] for slug in found} | set(readable.anchors(book))
    return plain | {name.lower() for c in book if c['cell_type'] == 'code' for name in names(c)}


def names(cell):
    "What a code cell defines, as the site names it: `f`, `C`, `C.method`, patched ones too."
    try:
        body = ast.parse(''.join(cell['source'])).body
    except SyntaxError:
        return
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.args.args and node.decorator_list:
            owner = node.args.args[0].annotation
            yield f'{ast.unparse(owner)}.{node.name}' if owner else node.name
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        for inner in getattr(node, 'body', []):
            if isinstance(node, ast.ClassDef) and isinstance(inner, ast.FunctionDef):
                yield f'{node.name}.{inner.name}'


def test_every_link_of_every_source_leads_to_a_place():
    "Without building the site: files that are there, and anchors that the page will have."
    dead, seen = [], functools.cache(targets)
    for page in pages.page_ids():
        for cell in cells_of(find_page(page)):
            if cell['cell_type'] != 'markdown':
                continue
            text, _ = readable.strip_code(''.join(cell['source']))
            for link in re.findall(r'\]\(([^)\s]+)\)', text):
                if re.match(r'https?:|mailto:', link):
                    continue
                file, _, anchor = link.partition('#')
                there = linked_page(file, page) if file else page
                known = there in pages.page_ids() if there else is_file(file, page)
                if not known or (anchor and there and anchor not in seen(there)):
                    dead.append(f'{page}: {link}')
    assert not dead


def is_file(link, page):
    return (ROOT / pages.repository_path(link, page)).exists()


@pytest.fixture(scope='module')
def whole_site(tmp_path_factory):
    "Every page of the site."
    out = tmp_path_factory.mktemp('whole')
    website.render(docs.process(out / 'made'), out / 'html')
    return out / 'html'


@pytest.mark.slow  # 3 minutes
def test_the_whole_site_has_no_fault(whole_site):
    assert not check_site.faults(whole_site)
    made = {path.relative_to(whole_site).as_posix() for path in whole_site.rglob('*.html')}
    explorers = {f'explorers/{name}.html' for name in PAGES}
    assert made == explorers | {html_of(page) for page in [*pages.page_ids(), pages.API]}
    assert len(made) >= 129
    assert api_lacks(whole_site, pages.lessons()) == []


def test_links_to_the_repository_lead_to_files(rendered):
    start = f"{docs.SETTINGS['git_url']}/blob/{docs.SETTINGS['branch']}/"
    files = {
        link.removeprefix(start).partition('#')[0]
        for page in rendered.values()
        for link in page.links
        if link.startswith(start)
    }
    assert files and not [f for f in files if not (ROOT / f).exists()]


def test_every_page_leads_to_its_source_and_to_colab(rendered):
    place = f"{docs.SETTINGS['user']}/{docs.SETTINGS['repo']}/blob/{docs.SETTINGS['branch']}/nbs"
    for page in SMALL:
        links = rendered[html_of(page)].links
        assert f'https://github.com/{place}/{page}.ipynb' in links
        assert f'https://colab.research.google.com/github/{place}/{page}.ipynb' in links


def test_sources_are_lists_of_lines(prepared):
    "Quarto drops the line ends of a source that is one string."
    made = {page: docs.read_books(prepared)[page] for page in [*SMALL, pages.API]}
    for page, book in made.items():
        for cell in book['cells']:
            lines = cell['source']
            assert isinstance(lines, list), page
            assert all(line.endswith('\n') for line in lines[:-1]), page
            assert not any('\n' in line[:-1] for line in lines), page
    assert len(made[pages.API]['cells']) > 1


def test_no_output_needs_a_script_of_another_host(prepared):
    "Quarto fetches require.js and jQuery for a page with outputs in HTML, and more for widgets."
    kinds = {
        kind
        for book in docs.read_books(prepared).values()
        for cell in book['cells']
        for out in cell.get('outputs', [])
        for kind in out.get('data', {})
    }
    assert 'image/png' in kinds
    assert kinds <= {'text/markdown', 'text/plain', 'image/png', 'image/svg+xml'}
    cell = dict(outputs=[{'data': {'text/html': ['<b>', 'x</b>'], 'text/plain': 'x'}},
                         {'data': {'application/vnd.jupyter.widget-view+json': {}}}])  # fmt: skip
    docs.plain_outputs(cell)
    assert cell['outputs'] == [{'data': {'text/markdown': '```{=html}\n<b>x</b>\n```'}}]


def test_quarto_fetches_nothing_from_another_host():
    "MathML needs no MathJax, and the themes leave out the fonts that they would fetch."
    import yaml

    text = (ROOT / '_quarto.yml').read_text(encoding='utf-8')
    said = yaml.safe_load(text)
    page = said['format']['html']
    assert page['html-math-method'] == 'mathml' and set(page['theme']) == {'light', 'dark'}
    for theme in page['theme'].values():
        sheet = (ROOT / 'nbs' / theme[1]).read_text(encoding='utf-8')
        assert re.search(r'/\*-- scss:defaults --\*/[^/]*//[^\n]*\n\$web-font-path: false;', sheet)
    assert 'http' not in text
    named = [page['css'], said['website']['favicon'], said['website']['open-graph']['image']]
    for file in [*named, *said['project']['resources']]:
        assert (ROOT / 'nbs' / file).is_file(), file
    style = (ROOT / 'nbs/site/styles.css').read_text(encoding='utf-8')
    [font] = re.findall(r'url\("([^"]+)"\)', style)
    assert (ROOT / 'nbs/site' / font).read_bytes()[:4] == b'wOF2'


def test_the_card_shows_what_the_home_page_shows():
    from PIL import Image, ImageChops

    kept = Image.open(ROOT / 'nbs' / docs.CARD).convert('RGB')
    made = docs.card()
    assert kept.size == (1200, 630) and (ROOT / 'nbs' / docs.CARD).stat().st_size < 400_000
    box = (120, 130, 1080, 630)
    worst = ImageChops.difference(kept.crop(box), made.crop(box)).getextrema()
    assert max(high for _, high in worst) <= 3, 'run python tools/docs.py card'


def test_equations_and_figures_can_be_linked(site):
    lesson = pages.lessons()['cra']
    text = (site / html_of(page_id(lesson))).read_text(encoding='utf-8')
    own = readable.anchors(cells_of(lesson))
    assert {'equation-9', 'equation-a', 'figure-a'} <= set(own)
    for anchor in own:
        assert f'id="{anchor}"' in text, anchor
    assert re.search(r'<a href="#equation-9">Eq. 9</a>', text)
    assert re.search(r'<a href="losses.html#equation-10">Eq. 10</a>', text)
    assert '<span class="number">(9)</span>' in text and '<math display="block"' in text
    assert 'class CRA' in re.sub(r'<[^>]+>', '', text)  # a lesson shows the code that it exports


def api_lacks(site, modules):
    "The modules with public names that the API page does not have, or has without."
    text = (site / html_of(pages.API)).read_text(encoding='utf-8')
    wrong = []
    for module in modules:
        file = ROOT / 'uar_nb' / f'{module.replace(".", "/")}.py'
        body = ast.parse(file.read_text(encoding='utf-8')).body
        made = [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        public = any(not name.startswith('_') for name in made)
        if (f'id="{website.slug(module)}"' in text) != public:
            wrong.append(module)
    return wrong


def test_the_api_page_has_every_public_function(site):
    text = (site / html_of(pages.API)).read_text(encoding='utf-8')
    for name in ('cra.CRA', 'lsu.LSU', 'data.load.load_studies'):
        assert f'id="{name.lower()}"' in text
    assert api_lacks(site, ['cra', 'lsu', 'data.load']) == []


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serve(folder):
    "A folder on a local port."
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/'
    server.shutdown()


@pytest.fixture(scope='module')
def served(site):
    with serve(site) as address:
        yield address


@pytest.mark.parametrize('width', [1300, 390])
def test_in_a_real_browser(served, width):
    """No page is wider than the screen, menu, search and themes work, nothing is missing, and
    nothing is fetched from elsewhere."""
    check_in_browser(served, width, [html_of(page) for page in [*SMALL, pages.API]])


@pytest.mark.slow  # 4 minutes with the whole site
def test_every_page_fits_a_phone(whole_site):
    with serve(whole_site) as address:
        check_in_browser(address, 390, [html_of(page) for page in pages.page_ids()])


def check_in_browser(address, width, names):
    browser = pytest.importorskip('browser')
    if browser.CHROMIUM is None:
        pytest.skip('no Chromium here')
    pytest.importorskip('websocket')
    page = browser.Browser(width=width, height=850)
    try:
        size = dict(width=width, height=850, deviceScaleFactor=1, mobile=width < 500)
        page.send('Emulation.setDeviceMetricsOverride', **size)
        for name in names:
            page.open(f'{address}{name}')
            here = f"document.readyState === 'complete' && location.pathname.endsWith('/{name}')"
            page.wait(here, what=name)
            wide = page.run('document.documentElement.scrollWidth')
            assert wide <= width, f'{name} is {wide} pixels wide on a screen of {width}'
            page.wait(
                "[...document.querySelectorAll('main img')].every(i => i.loading === 'lazy' && !i.complete || i.naturalWidth > 0)",  # noqa: E501
                30,
                f'{name} has an image that does not show',
            )
        font = """document.fonts.load('16px "Latin Modern Math"').then(found => found.length)"""
        page.wait(font, 30, 'the font of maths')
        if width < 500:
            shown = "getComputedStyle(document.getElementById('side')).display"
            assert page.run(shown) == 'none'
            page.run("document.getElementById('menu').click()")
            assert page.run(shown) == 'block'
            page.run("document.getElementById('menu').click()")
        paper = 'getComputedStyle(document.body).backgroundColor'
        before = page.run(paper)
        page.run("document.getElementById('theme').click()")
        assert {before, page.run(paper)} == {'rgb(255, 255, 255)', 'rgb(18, 23, 29)'}
        page.run("document.getElementById('theme').click()")
        page.run(
            "const box = document.getElementById('search'); box.focus(); box.value = 'orthonormal basis'; box.dispatchEvent(new Event('input')); 1"  # noqa: E501
        )
        first = page.wait(
            "document.querySelector('#found a') && document.querySelector('#found a').getAttribute('href')",  # noqa: E501
            30,
            'search',
        )
        found = ('/cra.html', '/basis.html', '/glossary.html')
        assert any(first.endswith(page) or f'{page}#' in first for page in found), first
        assert page.run(f'fetch({first!r}).then(answer => answer.ok)')
        strange = [
            url for url in page.requests() if not url.startswith((address, 'data:', 'about:'))
        ]
        assert not strange and not page.console_errors()
    finally:
        page.close()
