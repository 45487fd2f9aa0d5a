"""The site without Quarto: pages as nbdev prepares them, the README, plain HTML with sidebar,
links and search.

python tools/docs.py process FOLDER   nbdev's own processing of every page (directives, links,
API page); Quarto renders FOLDER/_proc
python tools/docs.py html FOLDER      the same, then every page as HTML; or only the pages named
python tools/docs.py readme           README.md from nbs/index.ipynb
python tools/docs.py card             the image shown beside a link to the site, from there too
python tools/docs.py sidebar          write the reading order of nbs/ and the links above it into
_quarto.yml
"""

import ast
import base64
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pages
import readable
from pages import ROOT, SETTINGS

IMAGE = 'README_files/figure-{}.png'  # an image of README.md, taken out of nbs/index.ipynb
HOME = '<!-- home -->'  # where an explorer has the link to the site
SITE = SETTINGS['doc_host'] + SETTINGS['doc_baseurl'] + '/'
COLAB = 'https://colab.research.google.com'
CARD = 'site/card.png'  # what other sites show beside a link to this one
FOLDED = dict(jupyter=dict(source_hidden=True))  # metadata of a cell that JupyterLab folds
WAYS = 'page-links'  # the cell above a page with the links to its source and to Colab
BADGE = re.compile(r'\[!\[[^\]]*\]\([^)]*colab-badge[^)]*\)\]\([^)]*\)')  # on another host
WORKER = '''
from nbdev.quarto import refresh_quarto_yml, nbdev_sidebar
from nbdev.serve import proc_nbs
import nbdev.doclinks
if __name__ == '__main__':
    refresh_quarto_yml(); nbdev.doclinks._build_modidx(); nbdev_sidebar.__wrapped__(); proc_nbs(n_workers=2)
'''  # noqa: E501


def sidebar_lines(order, indent=6):
    pad = ' ' * indent
    for item in order:
        if isinstance(item, str):
            yield f'{pad}- {item}.ipynb'
        else:
            yield from [
                f'{pad}- section: "{item[0]}"',
                f'{pad}  contents:',
                *sidebar_lines(item[1], indent + 4),
            ]


def navbar_lines(links, indent=6):
    pad = ' ' * indent
    for text, page in links:
        yield from [f'{pad}- text: {text}', f'{pad}  href: {page}.ipynb']


def quarto_yml(text, ids=None):
    "The text of _quarto.yml with the sidebar and the links above the pages that nbs/ has now."
    ids = pages.page_ids() if ids is None else ids
    mark = '  # made by tools/docs.py\n'
    parts = re.split(rf'^(    left:{mark}|  sidebar:\n|    contents:{mark})', text, flags=re.M)
    if [part.split(':')[0].strip() for part in parts[1::2]] != ['left', 'sidebar', 'contents']:
        raise SystemExit(
            f'_quarto.yml has no lines "    left:{mark.rstrip()}", "  sidebar:", "    contents:{mark.rstrip()}", in this order'  # noqa: E501
        )
    head, left, _, side, between, contents, _ = parts
    links = '\n'.join(navbar_lines(pages.navbar(ids)))
    order = '\n'.join(sidebar_lines(pages.reading_order(ids)))
    return f'{head}{left}{links}\n{side}{between}{contents}{order}\n'


def source(cell):
    return ''.join(cell['source'])


def option(text, name):
    "Value of a cell option (`#| name: value`)."
    found = re.search(rf'^#\| *{name}: *(.+)$', text, re.M)
    value = found and found[1].strip()
    return json.loads(value) if value and value.startswith('"') else value


def write_image(file, data, kind):
    "Write the data of an output that is an image."
    svg = kind == 'image/svg+xml'
    file.write_bytes(data.encode() if svg else base64.b64decode(data))


def show_source(cells):
    """Exported cells that define something keep their code on the page: nbdev's `exports` in
    place of `export`."""
    for cell in cells:
        if cell['cell_type'] != 'code' or not re.search(r'^#\| *export *$', source(cell), re.M):
            continue
        try:
            body = ast.parse(source(cell)).body
        except SyntaxError:
            continue
        if all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in body):
            continue
        cell['source'] = re.sub(r'^#\| *export *$', '#| exports', source(cell), count=1, flags=re.M)


def named_page(name, ids, here):
    """The page of this name, with or without its number: the one in the folder of the page
    `here`, otherwise the lesson of the road, otherwise the only one; None where that does not
    say which."""
    fits = [page for page in ids if name in (page.rpartition('/')[2], pages.bare(page))]
    beside = [page for page in fits if pages.folder_of(page) == pages.folder_of(here)]
    road = [page for page in fits if not pages.folder_of(page)]
    found = beside or road or fits
    return found[0] if len(found) == 1 else None


def link_pages(text, ids, here):
    """On the page `here`, `12_core`, and `core` beside the word notebook, lesson or room, become
    links to their page; files outside nbs/ lead to the repository."""

    def link(name, whole):
        page = named_page(name, ids, here)
        return f'[`{name}`]({pages.link_to(page, here)})' if page else whole

    def line(text):
        if text.startswith(('#', '>')):
            return text
        text = re.sub(r'(?<!\[)`(\d\w*)`(?!\])', lambda m: link(m[1], m[0]), text)
        text = re.sub(
            r'(?<!\[)`(\w+)`(?= (?:notebook|lesson|room)\b)', lambda m: link(m[1], m[0]), text
        )
        return re.sub(
            r'\b(notebook|lesson|room) `(\w+)`',
            lambda m: f'{m[1]} ' + link(m[2], f'`{m[2]}`'),
            text,
        )

    def outside(m):
        path = pages.repository_path(m[1], here)
        if path.startswith('../'):
            raise SystemExit(f'{here}: {m[1]} leads out of the repository')
        return (
            m[0]
            if path.startswith('nbs/')
            else f"]({SETTINGS['git_url']}/blob/{SETTINGS['branch']}/{path})"
        )

    fenced = re.split(r'(^```.*?^```)', text, flags=re.S | re.M)
    text = ''.join(
        part if i % 2 else '\n'.join(map(line, part.split('\n'))) for i, part in enumerate(fenced)
    )
    return re.sub(r'\]\((\.\./[^)\s]+)\)', outside, text)


def split_title(cells):
    """The prose of a title cell in a cell of its own: nbdev turns the title cell into front
    matter and drops the rest."""
    for i, cell in enumerate(cells):
        if cell['cell_type'] != 'markdown' or not re.search(r'^# \S', source(cell), re.M):
            continue
        title = re.match(
            r'\s*# .*\n(?:\s*\n|>.*(?:\n|$)|- [\w-]+: \S+ *(?:\n|$))*', source(cell) + '\n'
        )[0]
        rest = source(cell)[len(title) :].strip('\n')
        if rest:
            cells[i : i + 1] = [
                dict(cell, source=title),
                dict(cell, source=rest, id=f"{cell.get('id', 'title')}-2"),
            ]
        return


def split_imports(cells):
    "Imports in a cell of their own: nbdev executes every cell that holds one."

    def is_import(n):
        return isinstance(n, (ast.Import, ast.ImportFrom))

    for i in reversed(range(len(cells))):
        text = source(cells[i])
        if cells[i]['cell_type'] != 'code' or re.search(r'^(#\| *export|%|!)', text, re.M):
            continue
        try:
            body = ast.parse(text).body
        except SyntaxError:
            continue
        first = next((n for n in body if not is_import(n)), None)
        if first is None or not is_import(body[0]):
            continue
        start = min([first.lineno] + [d.lineno for d in getattr(first, 'decorator_list', [])]) - 1
        lines = text.split('\n')
        while (
            start
            and lines[start - 1].lstrip().startswith('#')
            and not lines[start - 1].startswith('#|')
        ):
            start -= 1
        options = [line for line in lines if line.startswith('#|')]
        kept = [line for line in lines[:start] if not line.startswith('#|')]
        hidden = [o for o in options if re.match(r'#\| *hide\b', o)]
        cells[i : i + 1] = [
            dict(
                cells[i],
                id=f"{cells[i].get('id', i)}-1",
                outputs=[],
                source='\n'.join(hidden + kept),
            ),
            dict(cells[i], source='\n'.join(options + lines[start:])),
        ]


def name_module(cells, module):
    """A hidden import of the page's own module: nbdev runs its cells from above to below, where a
    signature may name a class that stands further down."""
    if module:
        text = f'#| hide\nfrom uar_nb.{module} import *'
        cell = dict(cell_type='code', id='own-module', metadata={}, outputs=[], source=text)
        cells.insert(1, cell | dict(execution_count=None))


def one_link(text):
    """A name that was the text of a link already, and that nbdev has made a link once more, is
    one link again."""
    return re.sub(r'\[\[(`[^`\]]+`)\]\([^)\s]+\)\]\(([^)\s]+)\)', r'[\1](\2)', text)


def tidy(book):
    """On a prepared page, each exported symbol becomes a heading above its code; returns its API
    entry [(name, markdown)] as nbdev made it."""
    cells, entries = [], []
    for cell in book['cells']:
        docs = [
            o
            for o in cell.get('outputs', [])
            if 'show_doc(' in source(cell) and 'text/markdown' in o.get('data', {})
        ]
        for out in docs:
            text = ''.join(out['data']['text/markdown'])
            head, fence, code = text.partition('```python')
            code, end, rest = code.partition('\n```')
            text = (
                head + fence + re.sub(r'\[(`[^`\]]+`)\]\([^)]*\)', r'\1', code) + end + rest
            )  # links inside code are no links
            [url] = re.findall(r'\[source\]\(([^)\s]+)\)', text)[:1] or ['']
            [title] = re.findall(r'^### (.+)$', text, re.M)
            entries.append(
                (title, f'[source]({url})\n\n' + text.split(f'### {title}', 1)[1].strip())
            )
            out['data'] = {'text/markdown': f'### {title}'}
        names = [name.split('.')[-1] for name, _ in entries[-len(docs) :]] if docs else []
        late = (
            names
            and cells
            and '#| code-fold' in source(cells[-1])
            and re.search(rf'^(def|class) {names[0]}\b', source(cells[-1]), re.M)
        )
        cells.insert(len(cells) - bool(late), cell)
    book['cells'] = cells
    return entries


def api_page(entries, modules, ways):
    """One notebook with the signature of every public symbol, by module; `entries`, `modules` and
    `ways` (what leads to the equations that a lesson speaks of) by page id."""
    text = [
        f'---\ntitle: API\ndescription: "Every public function and class, with what it takes and gives"\noutput-file: {pages.bare(pages.API)}.html\n---\n'  # noqa: E501
    ]
    cells = [dict(cell_type='raw', id='api', metadata={}, source=text)]
    for page, symbols in entries.items():
        module, lesson = modules[page], pages.link_to(page, pages.API)
        parts = [f'## {module}\n\nThe lesson: [{module}]({lesson})']
        for name, text in symbols:
            text = readable.link_references(text, ways[page])
            parts.append(
                f'### {module}.{name}\n\n'
                + text.replace('[source]', f'[lesson]({lesson}#{name.lower()}) · [source]', 1)
            )
        cells.append(dict(cell_type='markdown', id=module, metadata={}, source='\n\n'.join(parts)))
    return dict(
        cells=cells,
        metadata=dict(kernelspec=dict(name='python3', display_name='python3', language='python')),
        nbformat=4,
        nbformat_minor=5,
    )


def ways_to(own, papers, page, here):
    """The function of an anchor that gives the link to it: on the page itself, which has the
    anchors `own`, or where the paper's equation stands first; as seen from the page `here`."""

    def way(anchor):
        target = page if anchor in own else papers.get(anchor)
        if target is None:
            return None
        return f'#{anchor}' if target == here else f'{pages.link_to(target, here)}#{anchor}'

    return way


def link_cells(cells, paths, papers, page):
    """What plain text says, as the site has it: callouts, anchors, captions, and links to pages,
    equations and figures. `papers` knows the page of each equation of the paper. The cell of the
    title becomes front matter, which holds no links."""
    ways = ways_to(readable.anchors(cells), papers, page, page)
    readable.mark_captions(cells)
    for cell in cells:
        if cell['cell_type'] == 'markdown' and not re.match(r'\s*# ', source(cell)):
            text = readable.link_references(source(cell), ways)
            text = readable.mark_equations(readable.callouts(text))
            cell['source'] = link_pages(text, paths, page)


def equations_of_paper(books):
    "The first page that shows each equation of the paper, by its anchor."
    papers = {}
    for page in pages.flat(pages.reading_order(books)):
        for anchor in readable.anchors(books[page]['cells'] if page in books else []):
            if anchor.rpartition('-')[2].isdigit():
                papers.setdefault(anchor, page)
    return papers


def copy_sources(folder):
    "What nbdev needs of the repository."
    for name in ('nbs', 'uar_nb', 'settings.ini', '_quarto.yml', 'README.md'):
        there = ROOT / name
        if there.is_dir():
            shutil.copytree(
                there,
                folder / name,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns('.ipynb_checkpoints', '__pycache__', '*.new'),
            )
        else:
            shutil.copy(there, folder / name)


def run_nbdev(folder):
    "What nbdev itself does with the pages in `folder`."
    (folder / 'worker.py').write_text(WORKER)
    done = subprocess.run([sys.executable, 'worker.py'], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])


def read_books(folder):
    "Every page below a folder by its id."
    return {
        pages.page_id(path, folder): json.loads(path.read_text(encoding='utf-8'))
        for path in pages.all_pages(folder)
    }


def write_book(book, path):
    "A page whose sources are lists of lines: Quarto drops the line ends of any other source."
    for cell in book['cells']:
        cell['source'] = source(cell).splitlines(keepends=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(book, ensure_ascii=False), encoding='utf-8')


def place_of(page):
    "Where a page stands on GitHub, below the host; Colab has the same below its own."
    return f"{SETTINGS['user']}/{SETTINGS['repo']}/blob/{SETTINGS['branch']}/nbs/{page}.ipynb"


def way_links(page):
    "The links above a page: to its source, and to Colab."
    place = place_of(page)
    colab = f'[Open in Colab]({COLAB}/github/{place})'
    text = f'::: {{.page-links}}\n{colab} · [View source](https://github.com/{place})\n:::'
    return dict(cell_type='markdown', id=WAYS, metadata={}, source=text)


def plain_outputs(cell):
    """Outputs that need no script of another host: a table in HTML is raw HTML in markdown, and
    the view of a widget is left out."""
    cell['outputs'] = [
        out
        for out in cell['outputs']
        if 'application/vnd.jupyter.widget-view+json' not in out.get('data', {})
    ]
    for out in cell['outputs']:
        shown = ''.join(out.get('data', {}).pop('text/html', ''))
        if shown:
            out['data'] = {'text/markdown': f'```{{=html}}\n{shown}\n```'}


def name_images(cells):
    "An image without a caption is read aloud as a figure of the section that it stands in."
    section = ''
    for cell in cells:
        if cell['cell_type'] == 'markdown':
            section = (re.findall(r'^#+ +(.+)$', source(cell), re.M) or [section])[-1]
        elif cell['cell_type'] == 'code' and not option(source(cell), 'fig-alt'):
            kinds = [kind for out in cell['outputs'] for kind in out.get('data', {})]
            if any(kind.startswith('image/') for kind in kinds):
                alt = f'Figure made by the code above, in the section {readable.plain(section)}'
                readable.add_option(cell, 'fig-alt', alt)


def local_links(text, page, shown):
    """nbdev links names to the published site. Here they lead to the page, where it has a heading
    of this name, and are plain names otherwise."""

    def link(m):
        name, file, anchor = m.groups()
        there = shown.get((file, anchor))
        return f'[{name}]({pages.link_to(there, page)}#{anchor})' if there else name

    return re.sub(rf'\[(`[^`\]]+`)\]\({re.escape(SITE)}([^)#]+)#([^)]+)\)', link, text)


def local_explorers(text, page):
    "Links to the published explorers as links to those of this site."
    return text.replace(f']({SITE}explorers/', f']({pages.relative("explorers", page)}/')


def finish(books, modules, ways):
    "The pages that nbdev has prepared as the site wants them, and the API page."
    entries = {}
    for page, book in books.items():
        found = [(name, text) for name, text in tidy(book) if not name.startswith('_')]
        if found:
            entries[page] = found
    shown = {
        (pages.html_of(page), name.lower()): page
        for page, symbols in entries.items()
        for name, _ in symbols
    }
    for page, book in books.items():
        book['metadata']['language_info'] = dict(name='python')
        for cell in book['cells']:
            if cell['cell_type'] == 'markdown':
                text = BADGE.sub('', one_link(source(cell)))
                cell['source'] = local_explorers(local_links(text, page, shown), page)
            elif cell['cell_type'] == 'code':
                plain_outputs(cell)
                for out in cell['outputs']:
                    text = ''.join(out.get('data', {}).get('text/markdown', ''))
                    if text:
                        out['data']['text/markdown'] = local_links(one_link(text), page, shown)
        name_images(book['cells'])
        book['cells'].insert(1, way_links(page))
    entries = {
        page: [(name, local_links(text, pages.API, shown)) for name, text in symbols]
        for page, symbols in entries.items()
    }
    return books | {pages.API: api_page(entries, modules, ways)}


def lead_home(folder):
    """The explorers, pages that stand ready in nbs/explorers, get a link to the page that tells of
    them."""
    explore = pages.html_of(pages.page_id(pages.find_page('explore', kind='analysis')))
    link = f'<a class="home" href="../{explore}">← uar_nb: explore a trained model</a>'
    for file in sorted(Path(folder).glob('*.html')):
        text = file.read_text(encoding='utf-8')
        if text.count(HOME) != 1:
            raise SystemExit(f'{file.name} has no place for the link home: run make explorers')
        file.write_text(text.replace(HOME, link), encoding='utf-8')


def process(folder, only=None):
    """Copy what the docs need into `folder`, let nbdev process every page or these, and return
    the folder of prepared pages."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    copy_sources(folder)
    lead_home(folder / 'nbs' / 'explorers')
    paths = {pages.page_id(p, folder / 'nbs'): p for p in pages.all_pages(folder / 'nbs')}
    modules = {page: pages.module_of(p) for page, p in paths.items()}
    books = read_books(folder / 'nbs')
    papers = equations_of_paper(books)
    for page in set(books) - set(only or books):
        paths.pop(page).unlink()
        del books[page]
    ways = {
        page: ways_to(readable.anchors(book['cells']), papers, page, pages.API)
        for page, book in books.items()
    }
    for page, book in books.items():
        show_source(book['cells'])
        split_title(book['cells'])
        split_imports(book['cells'])
        name_module(book['cells'], modules[page])
        link_cells(book['cells'], modules, papers, page)
        write_book(book, paths[page])
    run_nbdev(folder)
    books = read_books(folder / '_proc')
    if set(books) != set(paths):
        raise SystemExit(f'nbdev left out or added pages: {sorted(set(books) ^ set(paths))}')
    books = finish(books, modules, ways)
    for page, book in books.items():
        write_book(book, folder / '_proc' / f'{page}.ipynb')
    check_prepared(books)
    return folder / '_proc'


def check_prepared(books):
    "Nothing on a prepared page is left half made."
    found = [
        f'{page}, cell {number}: {fault}'
        for page, book in books.items()
        for number, cell in enumerate(book['cells'])
        if cell['cell_type'] == 'markdown'
        for fault in readable.faults(source(cell))
    ]
    if found:
        raise SystemExit('\n'.join(found))


def convert(paths, to, out):
    "nbconvert every prepared page."
    done = subprocess.run(
        [sys.executable, '-m', 'nbconvert', '--to', to, '--output-dir', str(out), *map(str, paths)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])


def html(out, *only):
    import website

    out = Path(out).resolve()
    with tempfile.TemporaryDirectory() as tmp:
        count = website.render(process(tmp, only), out)
    print(f'{count} pages in {out.name}/; open {out.name}/index.html')
    return out


def readme_images(book):
    "The images of a notebook by the file that README.md shows them from."
    encoded = [
        ''.join(out['data']['image/png'])
        for cell in book['cells']
        for out in cell.get('outputs', [])
        if 'image/png' in out.get('data', {})
    ]
    return {IMAGE.format(i + 1): base64.b64decode(text) for i, text in enumerate(encoded)}


def card():
    """The image that other sites show beside a link to this one: what the home page shows, with
    its name above it."""
    from matplotlib import font_manager
    from PIL import Image, ImageDraw, ImageFont

    book = json.loads((ROOT / 'nbs' / 'index.ipynb').read_text(encoding='utf-8'))
    [shown] = readme_images(book).values()
    shown = Image.open(io.BytesIO(shown)).convert('RGB')
    shown = shown.resize((960, round(960 * shown.height / shown.width)), Image.LANCZOS)
    made = Image.new('RGB', (1200, 630), 'white')
    made.paste(shown, (120, 130))
    face = font_manager.findfont('DejaVu Sans')
    pen = ImageDraw.Draw(made)
    pen.text((120, 30), 'uar_nb', 'black', ImageFont.truetype(face, 48))
    line = 'Chest X-ray reports by Unify, Align and Refine'
    pen.text((330, 48), line, '#57606a', ImageFont.truetype(face, 26))
    return made


def hide_code(cells):
    """Cells whose code a page does not show (`echo: false`) leave their outputs alone, and
    nothing where they have none; an image becomes a link to its file."""
    count = 0
    for cell in cells:
        if cell['cell_type'] == 'code' and re.search(r'^#\| *echo: *false', source(cell), re.M):
            shown = []
            for out in cell['outputs']:
                data = out.get('data', {})
                if 'image/png' in data:
                    count += 1
                    about = re.search(r'^#\| *fig-alt: *"(.*)"', source(cell), re.M)
                    shown.append(f'![{about[1] if about else ""}]({IMAGE.format(count)})')
                else:
                    text = data.get('text/markdown') or data.get('text/plain')
                    shown.append(''.join(text or out.get('text', '')))
            cell = dict(
                cell_type='markdown',
                id=cell.get('id', 'shown'),
                metadata={},
                source='\n\n'.join(shown),
            )
        if source(cell).strip() and cell.get('id') != WAYS:
            yield cell


def readme_links(text):
    """Links to pages and files as nbs/index.ipynb has them, as README.md has them, one folder
    higher."""
    text = re.sub(
        r'\]\(([\w./-]+\.ipynb)', lambda m: '](' + pages.repository_path(m[1], 'index'), text
    )
    text = text.replace('](explorers/', f']({SITE}explorers/')  # a repository shows no pages
    return text.replace(f"]({SETTINGS['git_url']}/blob/{SETTINGS['branch']}/", '](')


def readme_text(prepared=None):
    """README.md as nbs/index.ipynb says it; `prepared` is the folder of the pages where they are
    prepared already."""
    with tempfile.TemporaryDirectory() as tmp:
        made = Path(prepared or process(tmp, ['index']))
        book = json.loads((made / 'index.ipynb').read_text(encoding='utf-8'))
        page = Path(tmp) / 'shown' / 'index.ipynb'
        page.parent.mkdir()
        page.write_text(
            json.dumps(dict(book, cells=list(hide_code(book['cells'])))), encoding='utf-8'
        )
        convert([page], 'markdown', Path(tmp) / 'readme')
        text = (Path(tmp) / 'readme' / 'index.md').read_text(encoding='utf-8')
    text = re.sub(r'^---\n.*?\n---\n', '', text.lstrip(), flags=re.S)
    text = re.sub(r'<!-- WARNING.*?-->\n*', '', text, flags=re.S)
    text = readme_links(text)
    title = ''.join(
        json.loads((ROOT / 'nbs' / 'index.ipynb').read_text(encoding='utf-8'))['cells'][0]['source']
    )  # nbdev moves it into the front matter
    return (
        '<!-- Made from nbs/index.ipynb by `make readme`; edit that notebook -->\n\n'
        + title.strip()
        + '\n\n'
        + re.sub(r'\n{3,}', '\n\n', text).strip()
        + '\n'
    )


if __name__ == '__main__':
    command, *rest = sys.argv[1:] or ['']
    if command == 'process':
        print(len(list(process(*rest).rglob('*.ipynb'))), 'pages')
    elif command == 'html':
        html(*rest)
    elif command == 'readme':
        (ROOT / 'README.md').write_text(readme_text(), encoding='utf-8')
        index = json.loads((ROOT / 'nbs' / 'index.ipynb').read_text(encoding='utf-8'))
        for name, content in readme_images(index).items():
            (ROOT / name).parent.mkdir(exist_ok=True)
            (ROOT / name).write_bytes(content)
    elif command == 'card':
        card().save(ROOT / 'nbs' / CARD, optimize=True)
    elif command == 'sidebar':
        (ROOT / '_quarto.yml').write_text(
            quarto_yml((ROOT / '_quarto.yml').read_text(encoding='utf-8')), encoding='utf-8'
        )
    else:
        raise SystemExit(__doc__)
