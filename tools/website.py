"""Prepared pages (tools/docs.py) as a small static site by nbconvert: sidebar, numbered
equations and figures, search; nothing is fetched where latex2mathml is installed."""

import functools
import html
import json
import posixpath
import re
import shutil
from pathlib import Path

import docs
import readable
from pages import all_pages, flat, folder_of, linked_page, page_id, reading_order, relative

CALLOUTS = {
    'note': 'Note',
    'tip': 'Tip',
    'warning': 'Warning',
    'important': 'Important',
    'caution': 'Caution',
}
MATHJAX = (
    '<script async src="https://cdn.jsdelivr.net/npm/mathjax@3/es5/tex-mml-chtml.js"></script>'
)


def slug(text):
    "Identifier of a heading, as Pandoc and so Quarto make it."
    text = re.sub(r'[^\w\s.-]', '', html.unescape(re.sub(r'<[^>]+>', '', text)).lower())
    return re.sub(r'^[^a-z]+', '', re.sub(r'\s+', '-', text.strip())) or 'section'


def math(tex, block):
    "MathML of TeX, or TeX for MathJax where latex2mathml is not installed."
    tex = re.sub(
        r'\\[bB]ig+[lr]?\s*(?=\\[lr]angle|\\[lr]Vert|\\[lr]floor)', '', tex.strip()
    )  # what latex2mathml does not know
    tex = tex.replace(r'\arg\max', r'\operatorname{arg\,max}').replace(
        r'\arg\min', r'\operatorname{arg\,min}'
    )
    try:
        from latex2mathml.converter import convert
    except ImportError:
        return html.escape(rf'\[{tex}\]' if block else rf'\({tex}\)')
    return convert(tex, display='block' if block else 'inline')


def front_matter(book):
    "Title, description and file name of a prepared page."
    import yaml

    raw = docs.source(book['cells'][0]).strip()
    return yaml.safe_load(raw.strip('-\n ')) if raw.startswith('---') else {}


def option(text, name):
    "Value of a cell option (`#| name: value`)."
    found = re.search(rf'^#\| *{name}: *(.+)$', text, re.M)
    return found and found[1].strip().strip('"')


class Site:
    """What pages must know of each other, by page id: files below the root of the site, titles,
    numbers of equations and figures."""

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
        self.pages = [p for p in flat(self.order) if p in self.books]

    def link(self, url, here):
        """Links between notebooks, and those that nbdev made to the published site, as links of
        the page `here` to these pages."""
        target, mark, anchor = url.partition('#')
        if target.startswith(docs.SITE):
            return self.way(target.removeprefix(docs.SITE) or 'index.html', here) + mark + anchor
        page = linked_page(target, here)
        return self.way(self.file[page], here) + mark + anchor if page in self.file else url

    def way(self, file, here):
        "The relative link from the page `here` to a file of the site."
        return relative(file, self.file[here])


class Page:
    "One prepared notebook as HTML."

    def __init__(self, site, page):
        self.site, self.page, self.kept, self.heads, self.sections = site, page, [], [], []

    def keep(self, text):
        "A word that stands for ready HTML until markdown is done."
        self.kept.append(text)
        return f'QZKEPT{len(self.kept) - 1:04d}QZ'

    def put_back(self, text):
        def change(m):
            return self.kept[int(m[1] or m[2])]

        while 'QZKEPT' in text:
            text = re.sub(r'<p>QZKEPT(\d{4})QZ</p>|QZKEPT(\d{4})QZ', change, text)
        return text

    def prose(self, text):
        "Quarto's markdown as plain markdown: equations, callouts, links."

        def equation(m):
            indent, tex, tag = m.groups()
            number = f'<span class="number">({tag})</span>' if tag else ''
            shown = self.keep(f'<div class="equation">{math(tex, True)}{number}</div>')
            return f'{indent}\n{indent}{shown}\n{indent}'

        def change(part):
            return re.sub(
                r'(?<![\\$\w])\$(?=\S)((?:[^$\n]|\n(?!\s*\n))*?(?<=\S))\$(?![\d$])',
                lambda m: self.keep(math(m[1], False)),
                part,
            )

        def callout(m):
            kind = m[1]
            title = re.search(r'title="([^"]*)"', m[2])
            return f'\n\n{self.keep(f"<aside class=callout-{kind}><p class=callout-title>{html.escape(title[1]) if title else CALLOUTS[kind]}</p>")}\n\n'

        parts = re.split(r'(^[ ]*```.*?^[ ]*```|`[^`\n]+`)', text, flags=re.S | re.M)
        text = ''.join(
            part
            if i % 2
            else re.sub(
                r'([ ]*)\$\$((?:(?!\$\$).)+?)(?:\\tag\{(\w+)\}\s*)?\$\$', equation, part, flags=re.S
            )
            for i, part in enumerate(parts)
        )
        parts = re.split(r'(^[ ]*```.*?^[ ]*```|`[^`\n]+`|\]\([^)\s]*\))', text, flags=re.S | re.M)
        text = ''.join(part if i % 2 else change(part) for i, part in enumerate(parts))
        text = re.sub(r'^:::+ *\{\.callout-(\w+)([^}]*)\} *$', callout, text, flags=re.M)
        text = re.sub(
            r'^:::+ *$', lambda m: '\n\n' + self.keep('</aside>') + '\n\n', text, flags=re.M
        )
        return re.sub(r'\]\(([^)\s]+)\)', lambda m: f']({self.site.link(m[1], self.page)})', text)

    def code(self, cell):
        "Options off, images with what is read aloud, folded cells; what stands before, and the cell."
        text = docs.source(cell)
        cell['source'] = re.sub(r'^#\|.*\n?', '', text, flags=re.M).strip('\n')
        if option(text, 'echo') == 'false' or not cell['source'].strip():
            cell['metadata'] = {'tags': ['no-input']}
        cell['outputs'] = [
            o
            for o in cell['outputs']
            if 'application/vnd.jupyter.widget-view+json' not in o.get('data', {})
        ]
        alternative = option(text, 'fig-alt')
        for out in cell['outputs']:
            if 'text' in out:
                out['text'] = ''.join(out['text'])
            for kind, value in out.get('data', {}).items():
                if isinstance(value, list):
                    out['data'][kind] = ''.join(value)
            if 'image/png' in out.get('data', {}):
                out.setdefault('metadata', {})['image/png'] = {
                    'alt': alternative or 'figure made by the code above'
                }
            if 'text/markdown' in out.get('data', {}):
                out['data']['text/markdown'] = self.prose(''.join(out['data']['text/markdown']))
        before = []
        if option(text, 'code-fold') == 'true':  # the code in a fold, its outputs below
            from pygments import highlight, lexers
            from pygments.formatters import HtmlFormatter

            code = highlight(cell['source'], lexers.PythonLexer(), HtmlFormatter())
            before = [
                self.markdown(
                    self.keep(
                        f'<details class="fold"><summary>{html.escape(option(text, "code-summary") or "code")}</summary>{code}</details>'
                    )
                )
            ]
            cell['metadata'] = {'tags': ['no-input']}
        return [*before, cell]

    def markdown(self, text):
        return dict(cell_type='markdown', metadata={}, source=text)

    def cells(self):
        for cell in self.site.books[self.page]['cells']:
            text = docs.source(cell)
            if cell['cell_type'] == 'markdown':
                yield self.markdown(self.prose(text))
            elif cell['cell_type'] == 'code' and option(text, 'output') == 'asis':
                for out in cell['outputs']:
                    yield self.markdown(
                        self.prose(''.join(out.get('data', {}).get('text/markdown', '')))
                    )
            elif cell['cell_type'] == 'code':
                yield from self.code(cell)

    def headings(self, body):
        "Identifiers for headings as Quarto gives them; noted for the contents and the search."
        used, cuts = set(readable.anchors(self.site.books[self.page]['cells'])), []

        def head(m):
            name = base = slug(m[2])
            n = 1
            while name in used:
                name, n = f'{base}-{n}', n + 1
            used.add(name)
            title = re.sub(r'<[^>]+>', '', m[2])
            cuts.append((m.start(), name, title))
            self.heads.append((int(m[1]), name, title))
            return (
                f'<h{m[1]} id="{name}"><a class="anchor" href="#{name}">{m[2]}</a></h{m[1]}>'
                if '<a ' not in m[2]
                else f'<h{m[1]} id="{name}">{m[2]}</h{m[1]}>'
            )

        made = re.sub(r'<h([1-6])[^>]*>(.*?)</h\1>', head, body, flags=re.S)

        def plain(part):
            return re.sub(
                r'\s+',
                ' ',
                html.unescape(
                    re.sub(
                        r'<math.*?</math>|<style.*?</style>|<svg.*?</svg>|<[^>]+>',
                        ' ',
                        part,
                        flags=re.S,
                    )
                ),
            ).strip()

        ends = [c[0] for c in cuts[1:]] + [len(body)]
        first = cuts[0][0] if cuts else len(body)
        self.sections = [('', '', plain(body[:first]))] + [
            (name, title, plain(body[start:end]))
            for (start, name, title), end in zip(cuts, ends, strict=False)
        ]
        return made

    def body(self, exporter):
        import nbformat

        cells = list(self.cells())
        for i, cell in enumerate(cells):
            cell['id'] = f'cell-{i}'
        book = nbformat.from_dict(
            dict(
                cells=cells,
                metadata=dict(language_info=dict(name='python')),
                nbformat=4,
                nbformat_minor=5,
            )
        )
        images = []

        def aside(m):
            images.append(m[0])
            return f'QZIMAGE{len(images) - 1}QZ'

        text = re.sub(r'data:image/[^"]{200,}', aside, exporter.from_notebook_node(book)[0])
        text = self.put_back(text)
        text = re.sub(
            r'<script type="application/vnd.*?</script>| id="cell-id=[^"]*"', '', text, flags=re.S
        )
        text = re.sub(r'(<table\b.*?</table>)', r'<div class="table">\1</div>', text, flags=re.S)
        text = self.headings(
            re.sub(
                r'href="([^"#][^"]*)"', lambda m: f'href="{self.site.link(m[1], self.page)}"', text
            )
        )
        return re.sub(r'QZIMAGE(\d+)QZ', lambda m: images[int(m[1])], text)


def sidebar(site, page):
    "The reading order, with the parts open that hold this page."

    def items(pages):
        for item in pages:
            if isinstance(item, str):
                here = ' class="here" aria-current="page"' if item == page else ''
                if item in site.file:
                    yield f'<li><a{here} href="{site.way(site.file[item], page)}">{html.escape(site.title[item])}</a></li>'
            else:
                held = flat([item])
                yield f'<li><details{" open" if page in held else ""}><summary>{item[0]}</summary><ul>{"".join(items(item[1]))}</ul></details></li>'

    return ''.join(
        f'<p class="part">{title}</p><ul>{"".join(items(pages))}</ul>'
        for title, pages in site.order
    )


def contents(heads):
    return ''.join(
        f'<li class="depth{level}"><a href="#{name}">{title}</a></li>'
        for level, name, title in heads
        if level in (2, 3)
    )


def shell(site, page, body, heads):
    "A whole page around its body."
    at = site.pages.index(page)
    way = functools.partial(site.way, here=page)

    def step(i, arrow):
        return (
            f'<a class="{arrow}" href="{way(site.file[site.pages[i]])}">{html.escape(site.title[site.pages[i]])}</a>'
            if 0 <= i < len(site.pages)
            else '<span></span>'
        )

    about = site.meta[page].get('description')
    title = html.escape(site.title[page])
    mathjax = '' if '<math' in body or not re.search(r'\\[(\[]', body) else MATHJAX
    return f'''<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}{"" if page == "index" else " – uar_nb"}</title><meta name="description" content="{html.escape(str(about or title))}"><link rel="stylesheet" href="{way("site.css")}">{mathjax}</head>
<body><a class="skip" href="#page-text">to the text</a>
<header><button id="menu" aria-label="contents of the site" aria-expanded="false">☰</button><a class="home" href="{way("index.html")}">uar_nb</a>
<input id="search" type="search" placeholder="search" aria-label="search all pages" autocomplete="off"><ol id="found" hidden></ol></header>
<div class="columns"><nav id="side" aria-label="pages">{sidebar(site, page)}</nav>
<main id="page-text"><h1 id="top">{title}</h1>{f'<p class="about">{html.escape(str(about))}</p>' if about else ''}
{body}
<nav class="steps" aria-label="previous and next page">{step(at - 1, "back")}{step(at + 1, "next")}</nav></main>
<nav id="toc" aria-label="on this page"><p class="part">On this page</p><ul>{contents(heads)}</ul></nav></div>
<script src="{way("site.js")}"></script></body></html>
'''


def render(folder, out):
    "All prepared pages of `folder` as HTML in `out`; returns how many."
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter
    from traitlets.config import Config

    exporter = HTMLExporter(
        template_name='basic',
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
        config=Config(TagRemovePreprocessor=dict(enabled=True, remove_input_tags={'no-input'})),
    )
    site, out = Site(folder), Path(out)
    missing = [p for p in flat(site.order) if p not in site.books] + [
        p for p in site.books if p not in site.pages
    ]
    if missing:
        raise SystemExit(f'the reading order and the pages differ: {missing}')
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    index = []
    for name in site.pages:
        page, file = Page(site, name), out / site.file[name]
        body = page.body(exporter)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(shell(site, name, body, page.heads), encoding='utf-8')
        for (
            anchor,
            title,
            text,
        ) in page.sections:  # the search finds pages from the root of the site
            if text:
                index.append(
                    [
                        site.file[name] + (f'#{anchor}' if anchor else ''),
                        site.title[name],
                        title,
                        text,
                    ]
                )
    assets = Path(__file__).with_name('site_assets')
    pygments = HtmlFormatter(style='default').get_style_defs('.highlight')
    (out / 'site.css').write_text(
        (assets / 'site.css').read_text(encoding='utf-8') + pygments, encoding='utf-8'
    )
    (out / 'site.js').write_text((assets / 'site.js').read_text(encoding='utf-8'), encoding='utf-8')
    (out / 'search.js').write_text(
        'window.SEARCH = ' + json.dumps(index, ensure_ascii=False, separators=(',', ':')),
        encoding='utf-8',
    )
    return len(site.pages)
