"""The site without Quarto: pages as nbdev prepares them, the README, plain HTML with sidebar, links and search.

    python tests/docs.py process FOLDER   nbdev's own processing of every page (directives, links, API page); Quarto renders FOLDER/_proc
    python tests/docs.py html FOLDER      the same, then every page as HTML
    python tests/docs.py readme           README.md from nbs/index.ipynb
    python tests/docs.py sidebar          write the reading order of nbs/ into _quarto.yml
"""
import ast, configparser, json, re, shutil, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = configparser.ConfigParser(delimiters=['='])
SETTINGS.read(ROOT/'settings.ini', encoding='utf-8')
SETTINGS = SETTINGS['DEFAULT']
SITE = SETTINGS['doc_host'] + SETTINGS['doc_baseurl'] + '/'
WORKER = '''
from nbdev.quarto import refresh_quarto_yml, nbdev_sidebar
from nbdev.serve import proc_nbs
import nbdev.doclinks
if __name__ == '__main__':
    refresh_quarto_yml(); nbdev.doclinks._build_modidx(); nbdev_sidebar.__wrapped__(); proc_nbs(n_workers=2)
'''

# The reading order: a part holds pages by name, or the numbered notebooks from one number up to (not including) another
START, REFERENCE = ['index', 'architecture'], ['paper_to_code', 'open_choices', 'data_cards', 'glossary', 'api']
LEARN = [('Foundations', '00', '04b'), ('Phantoms: pictures and words', '04b', '09'), ('From picture to tokens', '09', '12'), ('The model', '12', '21'),
         ('Writing and scoring', '21', '23b'), ('Training', '23b', '25'), ('Looking inside', '25', '26'), ('Pages, demo, commands', '26', '30')]


def number(stem):
    "`04b` of `04b_xray`."
    return stem.split('_')[0]


def reading_order(stems):
    "Titles of the sidebar with the page names below them, as nested lists: [(title, [name or (title, [...])])]."
    numbered = sorted(s for s in stems if s[0].isdigit())
    between = lambda low, high: [s for s in numbered if low <= number(s) < high]
    learn = [(title, between(low, high)) for title, low, high in LEARN]
    parts = [('Start', START), ('Learn', [(t, p) for t, p in learn if p]), ('Train', between('30', '40')), ('Analyse', between('40', '99')), ('Reference', REFERENCE)]
    return [(title, pages) for title, pages in parts if pages]


def flat(order):
    "Page names of a reading order, from first to last."
    return [name for item in order for name in ([item] if isinstance(item, str) else flat(item[1]))]


def page_stems():
    return [p.stem for p in (ROOT/'nbs').glob('*.ipynb')]


def sidebar_lines(order, indent=6):
    pad = ' '*indent
    for item in order:
        if isinstance(item, str): yield f'{pad}- {item}.ipynb'
        else: yield from [f'{pad}- section: "{item[0]}"', f'{pad}  contents:', *sidebar_lines(item[1], indent + 4)]


def quarto_yml(text):
    "The text of _quarto.yml with the sidebar that nbs/ has now."
    head, mark, _ = text.partition('    contents:  # made by tests/docs.py\n')
    if not mark: raise SystemExit('_quarto.yml has no line "    contents:  # made by tests/docs.py"')
    return head + mark + '\n'.join(sidebar_lines(reading_order(page_stems()))) + '\n'


def source(cell): return ''.join(cell['source'])


def show_source(cells):
    "Exported cells that define something keep their code on the page: nbdev's `exports` in place of `export`."
    for cell in cells:
        if cell['cell_type'] != 'code' or not re.search(r'^#\| *export *$', source(cell), re.M): continue
        try: body = ast.parse(source(cell)).body
        except SyntaxError: continue
        if all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in body): continue
        cell['source'] = re.sub(r'^#\| *export *$', '#| exports', source(cell), count=1, flags=re.M)


def link_pages(text, stems):
    "`00_core`, and `core` beside the word notebook, lesson or room, become links to their page; files beside nbs/ lead to the repository."
    names = {s.split('_', 1)[1] if s[0].isdigit() else s: s for s in stems}
    def line(l):
        if l.startswith(('#', '>')): return l
        l = re.sub(r'(?<!\[)`(\w+)`(?!\])', lambda m: f'[`{m[1]}`]({m[1]}.ipynb)' if m[1] in stems and m[1][0].isdigit() else m[0], l)
        l = re.sub(r'(?<!\[)`(\w+)`(?= (?:notebook|lesson|room)\b)', lambda m: f'[`{m[1]}`]({names[m[1]]}.ipynb)' if m[1] in names else m[0], l)
        return re.sub(r'\b(notebook|lesson|room) `(\w+)`', lambda m: f'{m[1]} [`{m[2]}`]({names[m[2]]}.ipynb)' if m[2] in names else m[0], l)
    fenced = re.split(r'(^```.*?^```)', text, flags=re.S | re.M)
    text = ''.join(part if i % 2 else '\n'.join(map(line, part.split('\n'))) for i, part in enumerate(fenced))
    return re.sub(r'\]\(\.\./([^)\s]+)\)', lambda m: f"]({SETTINGS['git_url']}/blob/{SETTINGS['branch']}/{m[1]})", text)


def split_title(cells):
    "The prose of a title cell in a cell of its own: nbdev turns the title cell into front matter and drops the rest."
    for i, cell in enumerate(cells):
        if cell['cell_type'] != 'markdown' or not re.search(r'^# \S', source(cell), re.M): continue
        title = re.match(r'\s*# .*\n(?:\s*\n|>.*(?:\n|$)|- [\w-]+: \S+ *(?:\n|$))*', source(cell) + '\n')[0]
        rest = source(cell)[len(title):].strip('\n')
        if rest: cells[i:i+1] = [dict(cell, source=title), dict(cell, source=rest, id=f"{cell.get('id', 'title')}-2")]
        return


def split_imports(cells):
    "Imports in a cell of their own: nbdev executes every cell that holds one."
    is_import = lambda n: isinstance(n, (ast.Import, ast.ImportFrom))
    for i in reversed(range(len(cells))):
        text = source(cells[i])
        if cells[i]['cell_type'] != 'code' or re.search(r'^(#\| *export|%|!)', text, re.M): continue
        try: body = ast.parse(text).body
        except SyntaxError: continue
        first = next((n for n in body if not is_import(n)), None)
        if first is None or not is_import(body[0]): continue
        start = min([first.lineno] + [d.lineno for d in getattr(first, 'decorator_list', [])]) - 1
        lines = text.split('\n')
        while start and lines[start-1].lstrip().startswith('#') and not lines[start-1].startswith('#|'): start -= 1
        options = [l for l in lines if l.startswith('#|')]
        kept = [l for l in lines[:start] if not l.startswith('#|')]
        hidden = [o for o in options if re.match(r'#\| *hide\b', o)]
        cells[i:i+1] = [dict(cells[i], id=f"{cells[i].get('id', i)}-1", outputs=[], source='\n'.join(hidden + kept)), dict(cells[i], source='\n'.join(options + lines[start:]))]


def labels(cells):
    "Labelled equations and figures of a page, in order."
    found = []
    for cell in cells:
        if cell['cell_type'] == 'markdown': found += re.findall(r'\{#(eq-[\w-]+)\}', source(cell))
        elif cell['cell_type'] == 'code': found += re.findall(r'^#\| *label: *(fig-[\w-]+)', source(cell), re.M)
    return found


def link_labels(text, own, where):
    "References to an equation or figure of another page, which Quarto leaves as they are, become links."
    def change(m):
        if m[1] in own: return m[0]
        if len(where.get(m[1], ())) != 1: raise SystemExit(f'@{m[1]} stands for {where.get(m[1], "nothing")}')
        return f'[{"equation" if m[1].startswith("eq") else "figure"}]({where[m[1]][0]}.ipynb#{m[1]})'
    parts = re.split(r'(^[ ]*```.*?^[ ]*```|`[^`\n]+`)', text, flags=re.S | re.M)
    return ''.join(part if i % 2 else re.sub(r'(?<![\w@])@((?:eq|fig)-[\w-]*\w)', change, part) for i, part in enumerate(parts))


def one_link(text):
    "A name that was the text of a link already, and that nbdev has made a link once more, is one link again."
    return re.sub(r'\[\[(`[^`\]]+`)\]\([^)\s]+\)\]\(([^)\s]+)\)', r'[\1](\2)', text)


def tidy(book):
    "On a prepared page, each exported symbol becomes a heading above its code; returns its API entry [(name, markdown)] as nbdev made it."
    cells, entries = [], []
    for cell in book['cells']:
        docs = [o for o in cell.get('outputs', []) if 'show_doc(' in source(cell) and 'text/markdown' in o.get('data', {})]
        for out in docs:
            text = ''.join(out['data']['text/markdown'])
            head, fence, code = text.partition('```python')
            code, end, rest = code.partition('\n```')
            text = head + fence + re.sub(r'\[(`[^`\]]+`)\]\([^)]*\)', r'\1', code) + end + rest   # links inside code are no links
            [url] = re.findall(r'\[source\]\(([^)\s]+)\)', text)[:1] or ['']
            [title] = re.findall(r'^### (.+)$', text, re.M)
            entries.append((title, f'[source]({url})\n\n' + text.split(f'### {title}', 1)[1].strip()))
            out['data'] = {'text/markdown': f'### {title}'}
        names = [name.split('.')[-1] for name, _ in entries[-len(docs):]] if docs else []
        late = names and cells and '#| code-fold' in source(cells[-1]) and re.search(rf'^(def|class) {names[0]}\b', source(cells[-1]), re.M)
        cells.insert(len(cells) - bool(late), cell)
    book['cells'] = cells
    return entries


def api_page(entries):
    "One notebook with the signature of every public symbol, by module."
    text = ['---\ntitle: API\ndescription: "Every public function and class, with what it takes and gives"\noutput-file: api.html\n---\n']
    cells = [dict(cell_type='raw', id='api', metadata={}, source=text)]
    for stem, symbols in entries.items():
        module = stem.split('_', 1)[1]
        parts = [f'## {module}\n\nThe lesson: [{module}]({stem}.ipynb)']
        for name, text in symbols:
            text = re.sub(r'@(eq-[\w-]+)', rf'[equation]({stem}.ipynb#\1)', text)
            parts.append(f'### {module}.{name}\n\n' + text.replace('[source]', f'[lesson]({stem}.ipynb#{name.lower()}) · [source]', 1))
        cells.append(dict(cell_type='markdown', id=module, metadata={}, source='\n\n'.join(parts)))
    return dict(cells=cells, metadata=dict(kernelspec=dict(name='python3', display_name='python3', language='python')), nbformat=4, nbformat_minor=5)


def process(folder):
    "Copy what the docs need into `folder`, let nbdev process it, and return the folder of prepared pages."
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ('nbs', 'uar_nb', 'settings.ini', '_quarto.yml', 'README.md'):
        there = ROOT/name
        if there.is_dir(): shutil.copytree(there, folder/name, dirs_exist_ok=True, ignore=shutil.ignore_patterns('.ipynb_checkpoints', '__pycache__', '*.new'))
        else: shutil.copy(there, folder/name)
    stems = {p.stem for p in (folder/'nbs').glob('*.ipynb')}
    books = {p: json.loads(p.read_text(encoding='utf-8')) for p in (folder/'nbs').glob('*.ipynb')}
    where = {}
    for page, book in books.items():
        for label in labels(book['cells']): where.setdefault(label, []).append(page.stem)
    for page, book in books.items():
        show_source(book['cells'])
        split_title(book['cells'])
        split_imports(book['cells'])
        own = labels(book['cells'])
        for cell in book['cells']:
            if cell['cell_type'] == 'markdown': cell['source'] = link_labels(link_pages(source(cell), stems), own, where)
            else: cell['source'] = re.sub(r'^#\| *fig-cap:.*', lambda m: link_labels(m[0], own, where), source(cell), flags=re.M)
        page.write_text(json.dumps(book), encoding='utf-8')
    (folder/'worker.py').write_text(WORKER)
    done = subprocess.run([sys.executable, 'worker.py'], cwd=folder, capture_output=True, text=True)
    if done.returncode: raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])
    entries, pages = {}, {p: json.loads(p.read_text(encoding='utf-8')) for p in sorted((folder/'_proc').glob('*.ipynb'))}
    for page, book in pages.items():
        found = [(name, text) for name, text in tidy(book) if not name.startswith('_')]
        if found: entries[page.stem] = found
    shown = {f"{stem.split('_', 1)[-1]}.html#{name.lower()}" for stem, symbols in entries.items() for name, _ in symbols}
    plain = lambda text: re.sub(rf'\[(`[^`\]]+`)\]\({re.escape(SITE)}([^)]+)\)', lambda m: m[0] if m[2] in shown else m[1], text)   # links to what has no heading
    entries = {stem: [(name, plain(text)) for name, text in symbols] for stem, symbols in entries.items()}
    for page, book in pages.items():
        for cell in book['cells']:
            if cell['cell_type'] == 'markdown': cell['source'] = plain(one_link(source(cell)))
        book['metadata']['language_info'] = dict(name='python')
        page.write_text(json.dumps(book, ensure_ascii=False), encoding='utf-8')
    (folder/'_proc'/'api.ipynb').write_text(json.dumps(api_page(entries), ensure_ascii=False), encoding='utf-8')
    return folder/'_proc'


def convert(pages, to, out):
    "nbconvert every prepared page."
    done = subprocess.run([sys.executable, '-m', 'nbconvert', '--to', to, '--output-dir', str(out), *map(str, pages)], capture_output=True, text=True)
    if done.returncode: raise SystemExit(done.stderr[-3000:])


def html(out):
    import website
    out = Path(out).resolve()
    with tempfile.TemporaryDirectory() as tmp: count = website.render(process(tmp), out)
    print(f'{count} pages in {out.name}/; open {out.name}/index.html')
    return out


def hide_code(cells):
    "Cells whose code a page does not show (`echo: false`) leave their outputs alone, and nothing where they have none."
    for cell in cells:
        if cell['cell_type'] == 'code' and re.search(r'^#\| *echo: *false', source(cell), re.M):
            shown = [''.join(o.get('data', {}).get('text/markdown') or o.get('data', {}).get('text/plain') or o.get('text', '')) for o in cell['outputs']]
            cell = dict(cell_type='markdown', id=cell.get('id', 'shown'), metadata={}, source='\n\n'.join(shown))
        if source(cell).strip(): yield cell


def readme_text(pages=None):
    "README.md as nbs/index.ipynb says it; `pages` where they are prepared already."
    with tempfile.TemporaryDirectory() as tmp:
        book = json.loads((Path(pages or process(tmp))/'index.ipynb').read_text(encoding='utf-8'))
        page = Path(tmp)/'shown'/'index.ipynb'
        page.parent.mkdir()
        page.write_text(json.dumps(dict(book, cells=list(hide_code(book['cells'])))), encoding='utf-8')
        convert([page], 'markdown', Path(tmp)/'readme')
        text = (Path(tmp)/'readme'/'index.md').read_text(encoding='utf-8')
    text = re.sub(r'^---\n.*?\n---\n', '', text.lstrip(), flags=re.S)
    text = re.sub(r'<!-- WARNING.*?-->\n*', '', text, flags=re.S)
    text = re.sub(r'\]\(([\w]+\.ipynb)', r'](nbs/\1', text)
    text = text.replace(f"]({SETTINGS['git_url']}/blob/{SETTINGS['branch']}/", '](')
    title = ''.join(json.loads((ROOT/'nbs'/'index.ipynb').read_text(encoding='utf-8'))['cells'][0]['source'])  # nbdev moves it into the front matter
    return '<!-- Made from nbs/index.ipynb by `make readme`; edit that notebook -->\n\n' + title.strip() + '\n\n' + re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'


if __name__ == '__main__':
    command, *rest = sys.argv[1:] or ['']
    if command == 'process': print(len(list(process(*rest).rglob('*.ipynb'))), 'pages')
    elif command == 'html': html(*rest)
    elif command == 'readme': (ROOT/'README.md').write_text(readme_text(), encoding='utf-8')
    elif command == 'sidebar': (ROOT/'_quarto.yml').write_text(quarto_yml((ROOT/'_quarto.yml').read_text(encoding='utf-8')), encoding='utf-8')
    else: raise SystemExit(__doc__)
