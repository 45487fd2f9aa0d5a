"""Prepared pages (tools/docs.py) as a small static site by Pandoc, which Quarto also builds on:
sidebar, contents, search, a light and a dark theme. Nothing is fetched from another host."""

import functools
import html
import json
import os
import posixpath
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docs
from pages import all_pages, flat, folder_of, html_of, linked_page, page_id, reading_order, relative

ASSETS = Path(__file__).with_name('site_assets')
READS = 'markdown-implicit_figures+autolink_bare_uris'
# The kinds of output that a page shows, best first
SHOWN = ('text/markdown', 'text/html', 'image/svg+xml', 'image/png', 'image/jpeg', 'text/plain')
SEAM = '<!-- the contents end, the text begins -->'


def slug(text):
    "Identifier of a heading, as Pandoc makes it."
    text = re.sub(r'[^\w\s.-]', '', html.unescape(re.sub(r'<[^>]+>', '', text)).lower())
    return re.sub(r'^[^a-z]+', '', re.sub(r'\s+', '-', text.strip())) or 'section'


def front_matter(book):
    "Title, description and file name of a prepared page."
    import yaml

    raw = docs.source(book['cells'][0]).strip()
    return yaml.safe_load(raw.strip('-\n ')) if raw.startswith('---') else {}


# ---- from a notebook to markdown


def fence(text, kind=''):
    "A block of code; its fence is longer than each in the text."
    longest = max((len(run) for run in re.findall('`+', text)), default=0)
    mark = '`' * max(3, longest + 1)
    return f'{mark}{kind}\n{text.rstrip()}\n{mark}'


def image(out, kind, alt, folder, number):
    """An output that is an image: its file in `folder`, and the HTML that shows it, at the width
    that its cell gives."""
    suffix = dict(svg='svg', png='png', jpeg='jpg')[re.match(r'image/(\w+)', kind)[1]]
    file = folder / f'{number}.{suffix}'
    file.parent.mkdir(parents=True, exist_ok=True)
    docs.write_image(file, ''.join(out['data'][kind]), kind)
    shown = html.escape(alt or '', quote=True)
    width = out.get('metadata', {}).get(kind, {}).get('width')
    size = f' width="{width}"' if width else ''
    shown = f'<img src="{folder.name}/{file.name}" alt="{shown}"{size} loading="lazy">'
    return fence(shown, '{=html}')


def output(out, alt, folder, number):
    "An output of a cell as markdown."
    if 'text' in out or 'traceback' in out:
        text = ''.join(out.get('text') or '\n'.join(out['traceback']))
        return fence(re.sub(r'\x1b\[[\d;]*m', '', text), '{.output}')
    kind = next((kind for kind in SHOWN if kind in out.get('data', {})), None)
    if kind is None:
        return ''
    text = ''.join(out['data'][kind])
    if kind.startswith('image/'):
        return image(out, kind, alt, folder, number)
    if kind == 'text/html':
        return fence(text, '{=html}')
    return text if kind == 'text/markdown' else fence(text, '{.output}')


def page_markdown(book, folder):
    "A prepared notebook as one markdown text; its images become files in `folder`."
    parts, number = [], 0
    for cell in book['cells']:
        text = docs.source(cell)
        if cell['cell_type'] == 'markdown':
            parts.append(text)
        if cell['cell_type'] != 'code':
            continue
        code = re.sub(r'^#\|.*\n?', '', text, flags=re.M).strip('\n')
        if code and docs.option(text, 'echo') != 'false':
            folded = docs.option(text, 'code-fold') == 'true'
            title = html.escape(docs.option(text, 'code-summary') or 'Code')
            begin = fence(f'<details class="fold"><summary>{title}</summary>', '{=html}')
            end = fence('</details>', '{=html}')
            parts += [begin, fence(code, 'python'), end] if folded else [fence(code, 'python')]
        for out in cell['outputs']:
            number += 1
            parts.append(output(out, docs.option(text, 'fig-alt'), folder, number))
    return '\n\n'.join(filter(None, parts)) + '\n'


def pandoc(text):
    "The contents and the body of a page; whatever Pandoc warns of is an error."
    import pypandoc

    command = [pypandoc.get_pandoc_path(), '--from', READS, '--to', 'html', '--mathml', '--toc']
    command += ['--template', ASSETS / 'body.html', '--lua-filter', ASSETS / 'callouts.lua']
    command += ['--fail-if-warnings', '--wrap=none', '--columns=1000', '--metadata=title:page']
    done = subprocess.run(command, input=text, capture_output=True, encoding='utf-8')
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return done.stdout.split(SEAM)


# ---- the pages and the site


class Site:
    "What pages must know of each other, by page id: files below the root, titles, order."

    def __init__(self, folder):
        self.books = {
            page_id(p, folder): json.loads(p.read_text(encoding='utf-8')) for p in all_pages(folder)
        }
        self.meta = {page: front_matter(book) for page, book in self.books.items()}
        self.file = {
            page: posixpath.join(
                folder_of(page), meta.get('output-file', page.rpartition('/')[2] + '.html')
            )
            for page, meta in self.meta.items()
        }
        twice = [file for file in self.file.values() if list(self.file.values()).count(file) > 1]
        if twice:
            raise SystemExit(f'two pages would be written to {sorted(set(twice))}')
        self.title = {page: str(meta.get('title', page)) for page, meta in self.meta.items()}
        self.order = reading_order(self.books)
        self.pages = [page for page in flat(self.order) if page in self.books]
        missing = set(self.pages) ^ set(self.books)
        if missing:
            raise SystemExit(f'the reading order and the pages differ: {sorted(missing)}')

    def link(self, url, here):
        "A link to a notebook as a link to its page, even where this page is not made now."
        target, mark, anchor = url.partition('#')
        page = linked_page(target, here)
        if page not in self.file and not (page and (docs.ROOT / f'nbs/{page}.ipynb').is_file()):
            return url
        return self.way(self.file.get(page) or html_of(page), here) + mark + anchor

    def way(self, file, here):
        "The relative link from the page `here` to a file of the site."
        return relative(file, self.file[here])


def words(body):
    "The text of HTML, on one line."
    body = re.sub(r'<annotation.*?</annotation>|<style.*?</style>', ' ', body, flags=re.S)
    return ' '.join(html.unescape(re.sub(r'<[^>]+>', ' ', body)).split())


def headings(body, file, title):
    "The body with a link on each heading, and the rows of the search: link, page, heading, text."
    parts = re.split(r'<h([2-6]) id="([^"]+)">(.*?)</h\1>', body, flags=re.S)
    made, rows = [parts[0]], [[file, title, '', words(parts[0])]]
    for level, name, text, below in zip(*(parts[i::4] for i in range(1, 5)), strict=True):
        shown = re.sub(r'(?<=[a-z])\.(?=\w)', '.<wbr>', text)  # where a long name may break
        link = f'<a class="anchor" href="#{name}" aria-label="link to this section">#</a>'
        made += [f'<h{level} id="{name}">{shown} {link}</h{level}>', below]
        rows.append([f'{file}#{name}', title, words(text), words(below)])
    return ''.join(made), [row for row in rows if row[3] or row[2]]


def sidebar(site, page):
    "The reading order, with the parts open that hold this page."

    def items(order):
        for item in order:
            if isinstance(item, str) and item not in site.file:
                continue
            if isinstance(item, str):
                here = ' class="here" aria-current="page"' if item == page else ''
                way = site.way(site.file[item], page)
                yield f'<li><a{here} href="{way}">{html.escape(site.title[item])}</a></li>'
            else:
                shown = ' open' if page in flat([item]) else ''
                below = ''.join(items(item[1]))
                yield f'<li><details{shown}><summary>{item[0]}</summary><ul>{below}</ul></details>'

    return ''.join(
        f'<p class="part">{title}</p><ul>{"".join(items(order))}</ul>'
        for title, order in site.order
    )


def step(site, page, by, kind):
    "The link to the page before or behind this one."
    at = site.pages.index(page) + by
    if not 0 <= at < len(site.pages):
        return '<span></span>'
    other = site.pages[at]
    way = site.way(site.file[other], page)
    return f'<a class="{kind}" href="{way}">{html.escape(site.title[other])}</a>'


def shell(site, page, contents, body):
    "A whole page around its body."
    fill = dict(contents=contents, body=body, sidebar=sidebar(site, page))
    fill['title'] = html.escape(site.title[page])
    fill['name'] = fill['title'] if page == 'index' else f'{fill["title"]} – uar_nb'
    fill['about'] = html.escape(str(site.meta[page].get('description') or site.title[page]))
    fill |= dict(back=step(site, page, -1, 'back'), next=step(site, page, 1, 'next'))
    fill['root'] = site.way('.', page).rstrip('/') + '/'
    fill['card'] = docs.SITE + docs.CARD
    text = (ASSETS / 'page.html').read_text(encoding='utf-8')
    return re.sub(r'\{\{(\w+)\}\}', lambda m: fill[m[1]], text)


def write_page(site, out, page):
    "One page as HTML; returns its rows of the search."
    file = out / site.file[page]
    text = page_markdown(site.books[page], file.with_name(f'{file.stem}_files'))
    contents, body = pandoc(text)
    body = re.sub(r'href="([^"#][^"]*)"', lambda m: f'href="{site.link(m[1], page)}"', body)
    body, rows = headings(body, site.file[page], site.title[page])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(shell(site, page, contents, body), encoding='utf-8')
    return rows


def render(folder, out):
    "All prepared pages of `folder` as HTML in `out`; returns how many."
    site, out = Site(folder), Path(out)
    if out.exists():
        shutil.rmtree(out)
    shutil.copytree(docs.ROOT / 'nbs' / 'site', out / 'site')
    if (Path(folder) / 'explorers').exists():
        shutil.copytree(Path(folder) / 'explorers', out / 'explorers')
    for name in ('site.css', 'site.js'):
        shutil.copy(ASSETS / name, out / 'site' / name)
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        found = list(workers.map(functools.partial(write_page, site, out), site.pages))
    rows = json.dumps(sum(found, []), ensure_ascii=False, separators=(',', ':'))
    (out / 'site' / 'search.js').write_text(f'window.SEARCH = {rows}', encoding='utf-8')
    return len(site.pages)
