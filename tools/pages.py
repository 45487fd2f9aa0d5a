"""Which pages there are, where they stand, what kind they are and in which order they are read.

    python tools/pages.py                 every page in reading order: its id, its kind, its module
    python tools/pages.py html NAME ...   where the site has these pages

A page is known by its id, its path below nbs/ without suffix: `04_cra`, `wings/data/03_dicom`.
Pages are found by
walking through all folders; what kind a page is follows from PARTS and from what stands in it,
never from its number.
"""

import configparser
import functools
import json
import posixpath
import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT / 'nbs'
SETTINGS = configparser.ConfigParser(delimiters=['='])
SETTINGS.read(ROOT / 'settings.ini', encoding='utf-8')
SETTINGS = SETTINGS['DEFAULT']
CELL_METADATA = SETTINGS['allowed_cell_metadata_keys'].split()  # what nbdev leaves in a cell
API = 'api'  # the page of all signatures, which tools/docs.py makes: it has no notebook


class Part(NamedTuple):
    "One row of the reading order."

    chapter: str  # heading of the sidebar
    section: str | None  # heading below it
    kind: str  # start, lesson, training, analysis or reference
    pages: list  # a page by its id, 'folder/' for all pages of it ('/': of nbs itself), or a range of numbers  # noqa: E501


# The one table of parts. A page that one row names by its id belongs to no folder or range of
# another row.
# Ranges of numbers, from one up to (not including) another, describe the flat folder; folders
# take their place.
PARTS = [
    Part('Start', None, 'start', ['index']),
    Part('The first evening', None, 'lesson', ['00_the_task', '01_one_evening']),
    Part('The paper', None, 'lesson', ['/']),
    Part('Wings', 'Data', 'lesson', ['wings/data/']),
    Part('Wings', 'Tokenizers', 'lesson', ['wings/tokenizer/']),
    Part('Wings', 'Phantoms', 'lesson', ['wings/phantom/']),
    Part('Wings', 'Variants', 'lesson', ['wings/variants/']),
    Part('Wings', 'Other systems', 'lesson', ['wings/systems/']),
    Part('Wings', 'Scoring', 'lesson', ['wings/scoring/']),
    Part('Wings', 'Experiments', 'lesson', ['wings/experiment/']),
    Part('Wings', 'Analysis', 'lesson', ['wings/analysis/']),
    Part('Wings', 'Figures and pages', 'lesson', ['wings/show/']),
    Part('Wings', 'Exercises', 'lesson', ['wings/exercises/']),
    Part('Wings', 'Programs', 'lesson', ['wings/apps/']),
    Part(
        'Results',
        'Training',
        'training',
        [
            'results/01_train_phantom',
            'results/02_train_iu_xray',
            'results/03_train_mimic_cxr',
            'results/04_train_iu_phantom',
        ],
    ),
    Part('Results', 'Analyses', 'analysis', ['results/']),
    Part(
        'Reference',
        None,
        'reference',
        [
            'reference/commands',
            'reference/clinical_scores',
            'reference/architecture',
            'reference/paper_to_code',
            'reference/open_choices',
            'reference/data_cards',
            'reference/glossary',
            'reference/comparison',
            'reference/robustness',
            'reference/pages_and_cost',
            API,
        ],
    ),
    Part('Reference', 'Solutions', 'reference', ['reference/solutions/']),
]
# Kept with the outputs of a long run and never run again; pages with `skip_exec: true` in their
# front matter are kept too
KEPT = {'results/01_train_phantom'}
# It lists what every other page took, so it runs last
SUMS_UP = 'reference/pages_and_cost'
# Modules of the paper's road, of its variants, of scoring and of analysis: their lessons have an
# equation and exercises
PAPER = set(
    'core attention lsu cra tir losses config model checkpoint generation training '
    'variants.cnn variants.memory variants.local_mixing scoring.metrics scoring.naive_baselines scoring.evaluate scoring.published analysis.retrieval analysis.token_fidelity analysis.grounding analysis.errors'.split()  # noqa: E501
)


# ---- pages as files


def all_pages(below=NBS):
    """Every notebook in a folder and its folders, in the order of their ids; none at all is an
    error."""
    below = Path(below)
    found = [
        p for p in below.rglob('*.ipynb') if '.ipynb_checkpoints' not in p.relative_to(below).parts
    ]
    if not found:
        raise FileNotFoundError(f'no notebook in {below} or its folders')
    return sorted(found, key=lambda path: page_id(path, below))


def page_id(path, below=None):
    "The path below a folder (without one: below the last folder called nbs) without suffix."
    path = Path(path).absolute()
    if below is None:
        folders = [folder for folder in path.parents if folder.name == 'nbs']
        if not folders:
            raise ValueError(f'{path} is not below a folder called nbs')
        below = folders[0]
    return path.relative_to(Path(below).absolute()).with_suffix('').as_posix()


def page_ids(below=NBS):
    return [page_id(path, below) for path in all_pages(below)]


def bare(page):
    "The name of a page without folder and number: `dicom` of `wings/data/03_dicom`."
    return re.sub(r'^\d+[a-z0-9]*_', '', page.rpartition('/')[2])


def folder_of(page):
    return page.rpartition('/')[0]


def bare_id(page):
    """The id with the number taken away: `wings/data/dicom`. nbdev names the page of the site
    like this."""
    return posixpath.join(folder_of(page), bare(page))


def html_of(page):
    "The file of a page below the root of the site."
    return bare_id(page) + '.html'


def find_page(name, kind=None, below=NBS):
    """The one notebook of this id, or whose path ends like this with or without its number, or
    of this module."""
    paths = {page_id(path, below): path for path in all_pages(below)}
    if name in paths:
        return paths[name]
    found = [
        page
        for page in paths
        if f'/{page}'.endswith(f'/{name}') or f'/{bare_id(page)}'.endswith(f'/{name}')
    ]
    if not found:
        found = [page for page, path in paths.items() if module_of(path) == name]
    if kind is not None:
        found = [page for page in found if kind_of(page) == kind]
    if len(found) > 1:  # a lesson of the road is what a bare name means
        found = [page for page in found if not folder_of(page)] or found
    if len(found) != 1:
        raise LookupError(f'{name!r} stands for {found or "no page"}')
    return paths[found[0]]


# ---- what stands in a page


@functools.cache
def _read(path, changed):
    return json.loads(path.read_text(encoding='utf-8'))['cells']


def cells_of(path):
    "The cells of a notebook; read once as long as the file stays as it is."
    path = Path(path).absolute()
    return _read(path, path.stat().st_mtime_ns)


def module_of(path):
    "The module that a notebook exports to, below the package (`data.dicom`), or None."
    for cell in cells_of(path):
        found = re.search(r'^#\| *default_exp +([\w.]+)', ''.join(cell['source']), re.M)
        if cell['cell_type'] == 'code' and found:
            return found[1]
    return None


def expected_module(page):
    "The module that a lesson at this place has: `data.dicom` of `wings/data/03_dicom`."
    return bare_id(page).removeprefix('wings/').replace('/', '.')


def lessons(below=NBS):
    "The notebooks that export a module, by module, in reading order."
    paths = {page_id(path, below): path for path in all_pages(below)}
    ordered = [page for page in flat(reading_order(paths)) if page in paths]
    return {module: paths[page] for page in ordered if (module := module_of(paths[page]))}


def is_kept(path):
    "Whether a page is a run that keeps its outputs, as a name in KEPT or as its front matter says."
    said = any('skip_exec: true' in ''.join(cell['source']) for cell in cells_of(path)[:2])
    return said or page_id(path) in KEPT


# ---- the parts


def _takes(selector, page):
    "Whether a folder or a range of numbers holds a page."
    folder, _, name = page.rpartition('/')
    if isinstance(selector, tuple):
        low, high = selector
        return not folder and name[0].isdigit() and low <= name.split('_')[0] < high
    return selector.endswith('/') and selector.strip('/') == folder


def part_of(page):
    "The row of PARTS that a page belongs to."
    rows = [part for part in PARTS if page in part.pages]
    rows = rows or [
        part for part in PARTS if any(_takes(selector, page) for selector in part.pages)
    ]
    if len(rows) != 1:
        raise LookupError(f'{len(rows)} rows of PARTS in tools/pages.py hold the page {page}')
    return rows[0]


def kind_of(page):
    return part_of(page).kind


def of_kind(*kinds, below=NBS):
    "The notebooks of these kinds in the order of their ids."
    return [path for path in all_pages(below) if kind_of(page_id(path, below)) in kinds]


def reading_order(pages):
    """Titles of the sidebar with the page ids below them, as nested lists: [(title, [id or
    (title, [...])])]."""
    held = {id(part): [] for part in PARTS}
    for page in sorted(set(pages) | {API}):
        held[id(part_of(page))].append(page)
    order = []
    for part in PARTS:
        named = [page for page in part.pages if isinstance(page, str) and not page.endswith('/')]
        found = named + [page for page in held[id(part)] if page not in named]
        if not found:
            continue
        if not order or order[-1][0] != part.chapter:
            order.append((part.chapter, []))
        order[-1][1].extend([(part.section, found)] if part.section else found)
    return order


def flat(order):
    "Page ids of a reading order, from first to last."
    return [page for item in order for page in ([item] if isinstance(item, str) else flat(item[1]))]


def to_run(below=NBS):
    """The pages that `make lessons` runs: lessons, analyses, the rest, and last the page that
    sums up."""
    turn = {'lesson': 0, 'analysis': 1, 'start': 2, 'reference': 2}
    paths = {page_id(path, below): path for path in all_pages(below)}
    ordered = [page for page in flat(reading_order(paths)) if page in paths]
    wanted = [page for page in ordered if kind_of(page) in turn]
    wanted.sort(key=lambda page: (page == SUMS_UP, turn[kind_of(page)]))
    return [paths[page] for page in wanted]


def navbar(pages):
    "The links above every page, as (text, page id)."
    first = next(page for page in flat(reading_order(pages)) if kind_of(page) == 'lesson')
    named = {bare(page): page for page in pages if kind_of(page) in ('start', 'reference')}
    ends = [('Paper to code', named['paper_to_code']), ('Glossary', named['glossary'])]
    return [('Start', 'index'), ('Learn', first), *ends]


# ---- links


def relative(file, here):
    "The way from a page or file to another; both below the same root."
    return posixpath.relpath(file, posixpath.dirname(here) or '.')


def link_to(page, here):
    "The link from one page to another, both given by their ids."
    return relative(f'{page}.ipynb', here)


def repository_path(link, here):
    "What a relative link on a page means, as a path below the root of the repository."
    return posixpath.normpath(posixpath.join('nbs', folder_of(here), link))


def linked_page(link, here):
    "The id of the page that a relative link leads to, or None."
    path = repository_path(link.partition('#')[0], here)
    inside = path.startswith('nbs/') and path.endswith('.ipynb')
    return path.removeprefix('nbs/').removesuffix('.ipynb') if inside else None


if __name__ == '__main__':
    command, *names = sys.argv[1:] or ['']
    if command == 'html':
        print(*(html_of(page_id(find_page(name))) for name in names))
    elif command:
        raise SystemExit(__doc__)
    else:
        for page in flat(reading_order(page_ids())):
            module = page != API and module_of(NBS / f'{page}.ipynb')
            print(page, kind_of(page), module or '–')
