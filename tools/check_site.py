"""Every page of a site that has been built, as a reader and a browser meet it.

    python tools/check_site.py FOLDER     what is wrong, by page; a preview or a site by Quarto

Dead links and anchors, identifiers that stand twice, images without an alternative text, marks
that were left over, links to the published address, and whatever would be fetched from another
host."""

import functools
import posixpath
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import docs

# Pages of each kind: those with most equations, links, figures, tables and the widest code
SMALL = [
    'index',
    '01_one_evening',
    '02_lsu',
    '04_cra',
    '10_config',
    'wings/data/10_load',
    'results/01_train_phantom',
    'results/11_retrieval',
    'results/13_basis',
    'results/14_where_words_look',
    'results/17_explore',
    'reference/open_choices',
    'reference/paper_to_code',
    'reference/glossary',
    'reference/data_cards',
]
# Marks of markdown and TeX that no reader should see
LEFT = re.compile(
    r'(?<!\w)@(?:eq|fig|tbl|sec)-[\w-]+|^ *:::.*|\{#[\w-]+\}|\$\$|\\tag\b|\]\([\w./#-]+\)|^ *```',
    re.M,
)
FETCHED = {'script': 'src', 'img': 'src', 'iframe': 'src', 'source': 'src', 'video': 'src'}
HEAD = ('link', 'meta', 'script', 'style')
QUIET = ('pre', 'code', 'script', 'style', 'math', 'textarea')


class Reader(HTMLParser):
    "Links, identifiers, images and text of a page, and what a browser fetches for it."

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.images, self.text, self.fetched = [], [], [], [], []
        self.quiet = 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == 'a' and given.get('href'):
            self.links.append(given['href'])
        if tag in FETCHED and given.get(FETCHED[tag]):
            self.fetched.append(given[FETCHED[tag]])
        if tag == 'link' and {'stylesheet', 'icon', 'preload'} & set(given.get('rel', '').split()):
            self.fetched.append(given['href'])
        if 'id' in given and tag not in HEAD:  # Quarto names both style sheets of a theme alike
            self.ids.append(given['id'])
        if tag == 'img':
            self.images.append(given)
        self.quiet += tag in QUIET

    def handle_endtag(self, tag):
        self.quiet -= tag in QUIET

    def handle_data(self, data):
        if not self.quiet:
            self.text.append(data)


def read_site(folder):
    "Every page of a site by its path below the root."
    return {
        path.relative_to(folder).as_posix(): Reader(path.read_text(encoding='utf-8'))
        for path in sorted(Path(folder).rglob('*.html'))
        if 'site_libs' not in path.parts
    }


def is_elsewhere(link):
    return bool(re.match(r'(?:[a-z][a-z+.-]*:|//)', link, re.I)) and not link.startswith('data:')


def dead(link, page, site, folder, known):
    "Whether a link of a page leads to a file that is not there, or to no identifier of its page."
    target, _, anchor = link.partition('#')
    path = unquote(target).partition('?')[0]
    file = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
    if not known(file):
        return True
    return bool(anchor) and file in site and unquote(anchor) not in site[file].ids


def faults_of(name, page, site, folder, known):
    "What is wrong with one page."
    for link in dict.fromkeys(page.links):
        if link.startswith(docs.SITE.rstrip('/')):
            yield f'links to the published address: {link}'
        elif not is_elsewhere(link) and dead(link, name, site, folder, known):
            yield f'dead link: {link}'
    for link in dict.fromkeys(page.fetched):
        if is_elsewhere(link):
            yield f'fetches from another host: {link}'
        elif not link.startswith('data:') and dead(link, name, site, folder, known):
            yield f'missing file: {link}'
    for twice in sorted({one for one in page.ids if page.ids.count(one) > 1}):
        yield f'two things are called {twice}'
    for image in page.images:
        if not (image.get('alt') or '').strip():
            yield f'an image without an alternative text: {image.get("src", "")[:60]}'
    for mark in dict.fromkeys(LEFT.findall('\n'.join(page.text))):
        yield f'left over: {mark!r}'


def faults(folder):
    "What is wrong with a site, as lines."
    folder, site = Path(folder), read_site(folder)
    known = functools.cache(lambda file: (folder / file).is_file())
    found = [
        f'{name}: {fault}'
        for name, page in site.items()
        for fault in faults_of(name, page, site, folder, known)
    ]
    for sheet in sorted(folder.rglob('*.css')):
        text = re.sub(r'/\*.*?\*/', '', sheet.read_text(encoding='utf-8'), flags=re.S)
        for url in re.findall(r'(?:@import\s+|url\()\s*[\'"]?((?:https?:)?//[^\'")\s]+)', text):
            found.append(
                f'{sheet.relative_to(folder).as_posix()}: fetches from another host: {url}'
            )
    return found


if __name__ == '__main__':
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    wrong = faults(sys.argv[1])
    print('\n'.join(wrong) or f'{len(read_site(sys.argv[1]))} pages without a fault')
    raise SystemExit(bool(wrong))
