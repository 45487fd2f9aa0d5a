"""Opens the evening, the paper's road and the training runs in Colab: a badge that leads there,
and a first cell that installs the package where it is missing. Both are written here, from
settings.ini, so that no page has an address of its own.

python tools/colab.py         pages whose badge or first cell is not what this file makes
python tools/colab.py write   write them; outputs stay as they are
"""

import json
import re
import sys

import docs
import pages

PAGES = re.compile(r'0\d_\w+|results/0[123]_train_\w+')  # by page id
SOURCE = '{lib_name}[metrics] @ git+{git_url}@{branch}'.format(**docs.SETTINGS)
BADGE, INSTALL = 'colab-badge', 'colab-install'  # ids of the two cells
INSTALLS = """#| hide
# Where the package is missing, as on Colab, it is installed. This cell: tools/colab.py
import importlib.util
import subprocess
import sys

if importlib.util.find_spec('{lib_name}') is None:
    SOURCE = '{source}'
    command = [sys.executable, '-m', 'pip', 'install', '-q', SOURCE]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f'{lib_name} could not be installed: {{done.stderr[-1500:]}}')
    importlib.invalidate_caches()"""
EXPORTS = """#| hide
from pathlib import Path

if Path('../settings.ini').exists():  # in a clone: write the module of this lesson
    import nbdev

    nbdev.nbdev_export()"""
OLD_BADGE = re.compile(r'\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)\n*')
OLD_TEXT = 'On Colab the package is installed from its repository; it is not on PyPI.'


def badge(page):
    "Markdown of the badge that opens a page in Colab."
    address = f'{docs.COLAB}/github/{docs.place_of(page)}'
    return f'[![Open in Colab]({docs.COLAB}/assets/colab-badge.svg)]({address})'


def install_code(source=SOURCE):
    "Code of the cell that installs the package where it is missing."
    return INSTALLS.format(lib_name=docs.SETTINGS['lib_name'], source=source)


def _cell(kind, name, text):
    made = dict(cell_type=kind, id=name, metadata={}, source=text.splitlines(keepends=True))
    if kind == 'code':  # JupyterLab shows it folded
        made |= dict(execution_count=None, outputs=[], metadata=docs.FOLDED)
    return made


def _is_install(cell):
    text = docs.source(cell)
    return cell['cell_type'] == 'code' and "'pip'" in text and "'install'" in text


def _without_old(cells):
    "The cells without a badge, a cell that installs, or what was said of it."
    for cell in cells:
        text = docs.source(cell)
        if cell.get('id') == BADGE or _is_install(cell) or text.startswith(OLD_TEXT):
            continue
        if cell['cell_type'] == 'markdown' and OLD_BADGE.search(text):
            cell = dict(cell, source=OLD_BADGE.sub('', text).splitlines(keepends=True))
        yield cell


def with_colab(cells, page):
    "The cells of a page with its badge below the title, and the first cell that installs."
    cells = list(_without_old(cells))
    title = next(i for i, cell in enumerate(cells) if re.match(r'# \S', docs.source(cell)))
    cells.insert(title + 1, _cell('markdown', BADGE, badge(page)))
    codes = (i for i, c in enumerate(cells) if c['cell_type'] == 'code' and i > title)
    cells.insert(next(codes), _cell('code', INSTALL, install_code()))
    if 'nbdev_export()' in docs.source(cells[-1]):
        cells[-1] = dict(cells[-1], source=EXPORTS.splitlines(keepends=True))
    return cells


def colab_pages():
    "Pages that open in Colab, by id."
    paths = {pages.page_id(path): path for path in pages.all_pages()}
    return {page: path for page, path in paths.items() if PAGES.fullmatch(page)}


def changed(page, path):
    "The page as it should be, or None where it is."
    book = json.loads(path.read_text(encoding='utf-8'))
    cells = with_colab(book['cells'], page)
    return None if cells == book['cells'] else dict(book, cells=cells)


if __name__ == '__main__':
    command, *names = sys.argv[1:] or ['']
    for page, path in colab_pages().items():
        if names and page not in names:
            continue
        book = changed(page, path)
        if book:
            print(page)
        if book and command == 'write':
            text = json.dumps(book, indent=1, sort_keys=True, ensure_ascii=False) + '\n'
            path.write_text(text, encoding='utf-8')
