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
CALLOUT = re.compile(r'([ ]{0,3})> \*\*([^*\n]+[.!?])\*\*[ ]?(.*)')
WARNINGS = ('Not ', 'Never ', 'Warning')  # how the titles of callouts begin that warn
# code in fences and in line, links and equations, which hold no references
OPAQUE = re.compile(
    r'(^[ ]*```.*?^[ ]*```|`[^`\n]+`|!?\[(?:[^\]\n]|`[^`\n]*`)*\]\([^)\n]*\)'
    r'|\$\$.*?\$\$|^#[^\n]*$)',
    re.S | re.M,
)
REFERENCE = re.compile(
    r'\bEq\. (\d+)\b(?!\s*(?:[-–]|,|and|or|to)\s*\d)'  # not the first of several
    r'|\b[Ee]quation \(([a-z])\)'
    r'|\b[Ff]igure ([A-Z])\b'
)

# What no prepared page may have outside code and links
LEFT = {
    'a callout that is none': re.compile(r'^ *> \*\*[^*\n]+[.!?]\*\*.*', re.M),
    'an equation whose number is none': re.compile(r'\\tag\b.*'),
    'a reference to nothing': re.compile(
        r'(?<!\w)@(?:eq|fig|tbl|sec)-[\w-]+|\b[Ee]quation \([a-z]\)'
        r'|\b[Ff]igure [A-Z]\b(?!\.\*\*)|\bEq\. (?:0|1[4-9]|[2-9]\d)\b'
    ),
    'an anchor that is none': re.compile(r'^.*\S *\{#(?:eq|fig)-[^}]*\}', re.M),
}


def source(cell):
    return ''.join(cell['source'])


def is_fence(line):
    return line.lstrip().startswith('```')


def callouts(text):
    "Markdown with its callouts as Quarto writes them, those of a list inside it."
    lines, indent, in_code = [], None, False
    for line in text.split('\n'):
        in_code ^= is_fence(line) and indent is None
        begins = None if in_code else CALLOUT.fullmatch(line)
        if indent is not None and (begins or not line.startswith(f'{indent}>')):
            lines += [f'{indent}:::', '']
            indent = None
        if begins:
            indent, title, rest = begins.groups()
            kind = 'warning' if title.startswith(WARNINGS) else 'note'
            title = title.rstrip('.').replace('"', '&quot;')
            lines += [f'{indent}::: {{.callout-{kind} title="{title}"}}', indent + rest]
        elif indent is None:
            lines.append(line)
        else:
            lines.append(indent + re.sub('^ *> ?', '', line))
    return '\n'.join(lines if indent is None else [*lines, f'{indent}:::'])


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
    """Markdown in which an equation with a tag is a box with an anchor and its number: Pandoc
    leaves a tag out of MathML."""

    def mark(m):
        indent, tex, tag = m.groups()
        starts = m.string[: m.start()].endswith('\n') or not m.start()
        indent = indent if starts else ''  # a word stands before it
        box = f'{indent}::: {{#{anchor(tag)} .equation}}\n{indent}$${tex.rstrip()}$$\n\n'
        return f'{"" if starts else chr(10)}\n{box}{indent}[({tag})]{{.number}}\n{indent}:::\n'

    return EQUATION.sub(mark, text)


def strip_code(text):
    "Markdown without its code, and whether a fence is left open."
    kept, mark = [], None
    for line in text.split('\n'):
        found = re.match(r' *(`{3,}|~{3,})', line)
        if found and mark is None:
            mark = found[1]
        elif found and found[1].startswith(mark) and line.strip() == found[1]:
            mark = None
        elif mark is None:
            kept.append(re.sub(r'(`+)(?!`).*?(?<!`)\1(?!`)', '', line))
    return '\n'.join(kept), mark is not None


def faults(text):
    "What the markdown of a prepared page has left unresolved."
    text, open_fence = strip_code(text)
    found = ['a fence of code is not closed'] if open_fence else []
    boxes = re.findall(r'^ *:::+ *(\{?)', text, re.M)
    if boxes.count('{') != boxes.count(''):
        found.append('a box (:::) is not closed, or closed twice')
    bare = re.sub(r'\$\$.*?\$\$', '', text, flags=re.S)
    if re.search(
        r'^(?! *(?:[-*>|#]|\d+\.|:::)|  )[^\n]*\S[^\n]*\n {0,3}(?:[-*]|\d+\.) \S', bare, re.M
    ):
        found.append('a list without an empty line above it, which Pandoc takes for prose')
    if text.count('$$') % 2:
        found.append('an equation ($$) is not closed')
    text = re.sub(r'\[(?:[^\]\n]|\n(?!\n))*\]\([^)\n]*\)', '', text)
    for name, mark in LEFT.items():
        found += [f'{name}: {m[0].strip()!r}' for m in mark.finditer(text)]
    return found


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
