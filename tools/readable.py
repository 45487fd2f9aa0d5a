"""Lessons are written to be read as they stand, in JupyterLab, in Colab and on GitHub. What they
write in plain text becomes callouts, numbers and links on the site:

a blockquote that begins with bold words and a full stop    a callout
    > **The paper leaves this open.** Whether ...
an equation with a tag                                      an equation with an anchor
    $$ L = ... \\tag{13} $$      the paper's own number
    $$ x = ... \\tag{a} $$       an equation of ours: a letter, new on each page
a text below a cell that begins with a letter in bold       the caption of its figure, and what
    **Figure A.** What to see.                              is read aloud in place of the image
Eq. 13, equation (a), figure A                              links to them
"""

import json
import re

EQUATION = re.compile(r'([ ]*)\$\$((?:(?!\$\$).)+?)\\tag\{(\w+)\}\s*\$\$', re.S)
CAPTION = re.compile(r'\s*\*\*Figure ([A-Z])\.\*\*\s+(.*)', re.S)
CALLOUT = re.compile(r'> \*\*([^*\n]+[.!?])\*\*[ ]?(.*)')
WARNINGS = ('Not ', 'Never ', 'Warning')  # how the titles of callouts begin that warn
# code in fences and in line, links and equations, which hold no references
OPAQUE = re.compile(
    r'(^[ ]*```.*?^[ ]*```|`[^`\n]+`|!?\[(?:[^\]\n]|`[^`\n]*`)*\]\([^)\n]*\)|\$\$.*?\$\$|^#.*$)',
    re.S | re.M,
)
REFERENCE = re.compile(
    r'\bEq\. (\d+)\b(?!\s*(?:[-–]|,|and|or|to)\s*\d)'  # not the first of several
    r'|\b[Ee]quation \(([a-z])\)'
    r'|\b[Ff]igure ([A-Z])\b'
)


def source(cell):
    return ''.join(cell['source'])


def is_fence(line):
    return line.lstrip().startswith('```')


def callouts(text):
    "Markdown with its callouts as Quarto writes them."
    lines, inside, in_code = [], False, False
    for line in text.split('\n'):
        in_code ^= is_fence(line) and not inside
        begins = None if in_code else CALLOUT.fullmatch(line)
        if inside and (begins or not line.startswith('>')):
            lines += [':::', '']
            inside = False
        if begins:
            title, rest = begins.groups()
            kind = 'warning' if title.startswith(WARNINGS) else 'note'
            title = title.rstrip('.').replace('"', '&quot;')
            lines += [f'::: {{.callout-{kind} title="{title}"}}', rest]
            inside = True
        else:
            lines.append(re.sub('^> ?', '', line) if inside else line)
    return '\n'.join([*lines, ':::'] if inside else lines)


def anchor(tag):
    "The anchor of an equation, by its tag, or of a figure, by its capital letter."
    return f'figure-{tag.lower()}' if tag.isupper() else f'equation-{tag}'


def anchors(cells):
    "The anchors of a page, in order."
    found = []
    for cell in cells:
        if cell['cell_type'] != 'markdown':
            continue
        found += [anchor(m[3]) for m in EQUATION.finditer(source(cell))]
        caption = CAPTION.match(source(cell))
        if caption:
            found.append(anchor(caption[1]))
    return found


def mark_equations(text):
    "Markdown with an anchor before each equation that has a tag."

    def mark(m):
        indent, _, tag = m.groups()
        return f'{indent}<span id="{anchor(tag)}"></span>\n\n{m[0]}'

    return EQUATION.sub(mark, text)


def plain(text):
    "A caption as it is read aloud: no links, no marks, no TeX."
    text = re.sub(r'\[([^\]]+)\]\([^)]*\)', r'\1', text)
    return ' '.join(re.sub(r'[`*$\\"]', '', text).split())


def add_option(cell, name, value):
    "Write an option into a code cell, before the first line that is none."
    lines = source(cell).split('\n')
    first = next((i for i, line in enumerate(lines) if not line.startswith('#|')), len(lines))
    lines.insert(first, f'#| {name}: {json.dumps(value, ensure_ascii=False)}')
    cell['source'] = '\n'.join(lines)


def mark_captions(cells):
    "Give each caption an anchor, and its text to the figure above it."
    for above, cell in zip(cells, cells[1:], strict=False):
        caption = CAPTION.match(source(cell)) if cell['cell_type'] == 'markdown' else None
        if caption and above['cell_type'] == 'code':
            letter, text = caption.groups()
            add_option(above, 'fig-alt', plain(text.split('\n\n')[0]))
            mark = f'<span id="{anchor(letter)}" class="caption"></span>'
            cell['source'] = f'{mark}**Figure {letter}.** {text}'


def link_references(text, way):
    """Markdown whose references are links; `way` gives the target of an anchor, None where the
    page has no such thing."""

    def link(m):
        paper, letter, figure = m.groups()
        target = way(anchor(paper or letter or figure))
        return f'[{m[0]}]({target})' if target else m[0]

    parts = OPAQUE.split(text)
    return ''.join(part if i % 2 else REFERENCE.sub(link, part) for i, part in enumerate(parts))
