"""Sources read as they stand; the site makes callouts, numbers and links of them. Each kind is
shown as a lesson has it and as the page has it."""

import re

import pytest

import docs
import pages
import readable
import website


def markdown(text):
    return dict(cell_type='markdown', source=text.splitlines(keepends=True))


def code(text):
    return dict(cell_type='code', source=text.splitlines(keepends=True), outputs=[])


def test_a_blockquote_with_a_title_is_a_callout():
    title = '> **The paper leaves this open.**'
    raw = f'Before.\n\n{title} Whether $B$ is trained.\n>\n> - or not\n\nAfter.'
    made = readable.callouts(raw)
    assert made == (
        'Before.\n\n::: {.callout-note title="The paper leaves this open"}\n'
        'Whether $B$ is trained.\n\n- or not\n:::\n\n\nAfter.'
    )


@pytest.mark.parametrize(
    'raw',
    [
        '> a subtitle, no title in bold',
        '> **bold words** that go on',
        '```\n> **Code.** stays\n```',
        '    > **Indented.** is code',
        'Some **Bold.** in a line',
    ],
)
def test_other_quotes_stay(raw):
    assert readable.callouts(raw) == raw


def test_two_callouts_and_one_at_the_end():
    made = readable.callouts('> **One.** a\n\n> **Not verified here.** b\n> c')
    assert made.count('callout-note') == 1 and made.count('callout-warning') == 1
    assert made.count('\n:::') == 2 + 1  # two ends, and the beginning of the second
    assert made.endswith('b\nc\n:::')


def test_a_quote_in_a_title_does_not_end_it():
    made = readable.callouts('> **What "open" means.** x')
    assert 'title="What &quot;open&quot; means"' in made


def test_an_equation_with_a_tag_has_an_anchor_and_keeps_its_tag():
    raw = 'So\n\n$$ a = b $$\n\nand\n\n$$\nc = d \\tag{9}\n$$\n\nor $$ e \\tag{b} $$'
    assert readable.anchors([markdown(raw)]) == ['equation-9', 'equation-b']
    assert readable.mark_equations(raw) == (
        'So\n\n$$ a = b $$\n\nand\n\n\n'
        '::: {#equation-9 .equation}\n$$\nc = d$$\n\n[(9)]{.number}\n:::\n'
        '\n\nor\n\n::: {#equation-b .equation}\n$$ e$$\n\n[(b)]{.number}\n:::\n'
    )


def test_an_equation_in_a_list_stays_in_its_item():
    made = readable.mark_equations('1. so\n\n   $$ e \\tag{b} $$\n\n2. then')
    assert made == (
        '1. so\n\n\n   ::: {#equation-b .equation}\n   $$ e$$\n\n   [(b)]{.number}\n   :::\n'
        '\n\n2. then'
    )


def test_a_callout_in_a_list_stays_in_its_item():
    made = readable.callouts('- so\n\n  > **Not a rule.** But\n  > often.\n- then')
    assert made == (
        '- so\n\n  ::: {.callout-warning title="Not a rule"}\n  But\n  often.\n  :::\n\n- then'
    )


HOSTILE = {
    'a fence of code is not closed': 'x\n\n```python\n> **A callout.** in code',
    'a fence of code is not closed, longer': '````\n```\n',
    'a box (:::) is not closed': '::: {.callout-note}\nwords',
    'a box (:::) is not closed, or closed twice': '::: {.a}\nwords\n:::\n\n:::',
    'a list without an empty line above it': 'These:\n- one\n- two',
    'an equation ($$) is not closed': 'so $$ x = y',
    'a callout that is none': '1. x\n\n      > **Too deep.** in a list',
    'an equation whose number is none': '$$ x \\tag{} $$',
    'an equation whose number is none: ': '$$ x \\tag{one two} $$',
    'a reference to nothing': 'see equation (z)',
    'a reference to nothing, a figure': 'see Figure Z.',
    'a reference to nothing, of the paper': 'by Eq. 14',
    'a reference to nothing, for Quarto': 'see @fig-x',
    'an anchor that is none': '$$ x $$ {#eq-x}',
}


@pytest.mark.parametrize('kind', HOSTILE)
def test_what_is_left_unresolved_is_named(kind):
    "By each page that the site is made of: one fault ends the build."
    cells = [markdown(HOSTILE[kind])]
    docs.link_cells(cells, {}, {}, 'x')
    with pytest.raises(SystemExit) as said:
        docs.check_prepared({'x': dict(cells=cells)})
    assert str(said.value).startswith('x, cell 0: ') and kind.split(', ')[0].strip(': ') in str(
        said.value
    )


def test_code_links_and_what_is_resolved_have_no_fault():
    text = (
        '```\n::: {.x}\n$$\n```\n\n`$$` and ``a ` $$``, [equation (a)](#equation-a), '
        '**Figure A.** See.\n\n~~~\n```\n~~~\n\nFigure 3 of the paper, Eq. 7.'
    )
    assert readable.faults(text) == []


def test_nothing_is_left_unresolved_on_any_page(books):
    "The pages as the site has them but for what nbdev does with code."
    papers = docs.equations_of_paper(books)
    for page, book in books.items():
        cells = [dict(cell) for cell in book['cells']]
        docs.split_title(cells)
        docs.link_cells(cells, list(books), papers, page)
        docs.check_prepared({page: dict(cells=cells)})


def test_references_below_a_heading_are_links_too():
    made = readable.link_references('## Try Eq. 9\n\nBy Eq. 9.', {'equation-9': '#e'}.get)
    assert made == '## Try Eq. 9\n\nBy [Eq. 9](#e).'


def test_pandoc_reads_callouts_equations_and_lists():
    "The engine below Quarto, with whatever it warns of as an error."
    pytest.importorskip('pypandoc')
    cells = [
        markdown('- so\n\n  > **Look.** here $x$\n\n  $$ y \\tag{a} $$\n\n- by equation (a)'),
    ]
    docs.link_cells(cells, {}, {}, 'x')
    _, body = website.pandoc(readable.source(cells[0]))
    assert re.search(r'<li>.*callout-note.*<div class="callout-title">\s*<p>Look</p>', body, re.S)
    assert re.search(r'<div id="equation-a" class="equation">.*<math.*\(a\)', body, re.S)
    assert body.count('<ul>') == 1 and '<a href="#equation-a">equation (a)</a>' in body
    for text in ('::: {.callout-note}\nx', '$\\nothing{x}$', '# a {#b}\n\n# c {#b}'):
        with pytest.raises(SystemExit):
            website.pandoc(text)


def test_a_caption_stands_below_and_is_read_aloud():
    cells = [
        code('#| echo: false\nplot()'),
        markdown('**Figure B.** What `F` [reads](x.ipynb) of $B$, "all". Look.'),
    ]
    assert readable.anchors(cells) == ['figure-b']
    readable.mark_captions(cells)
    assert readable.source(cells[0]) == (
        '#| echo: false\n#| fig-alt: "What F reads of B, all. Look."\nplot()'
    )
    text = readable.source(cells[1])
    assert text.startswith('<span id="figure-b" class="caption"></span>**Figure B.** What `F`')


def test_references_are_links_where_the_page_is_known():
    known = {'equation-9': '#equation-9', 'equation-a': '#equation-a', 'figure-c': '#figure-c'}
    raw = (
        'Eq. 9, equation (a) and Figure C; Equation (b), figure D, Eq. 7 and Figure 3 stay. '
        '`Eq. 9` and [Eq. 9](x.ipynb) stay; so do Eq. 9-11, Eq. 9 and 10.\n# Eq. 9\n$$ Eq. 9 $$'
    )
    made = readable.link_references(raw, known.get)
    assert made == raw.replace(
        'Eq. 9, equation (a) and Figure C;',
        '[Eq. 9](#equation-9), [equation (a)](#equation-a) and [Figure C](#figure-c);',
    )


@pytest.fixture(scope='module')
def books():
    import json

    paths = {pages.page_id(path): path for path in pages.all_pages()}
    return {page: json.loads(path.read_text(encoding='utf-8')) for page, path in paths.items()}


def test_no_source_needs_a_program_to_be_read(books):
    found = []
    for page, book in books.items():
        for number, cell in enumerate(book['cells']):
            text = re.sub(r'```.*?```|`[^`\n]*`', '', readable.source(cell), flags=re.S)
            for mark in (r'^:::', r'\{#\w', r'(?<!\w)@(?:eq|fig)-', r'^#\| *(?:fig-cap|label):'):
                if re.search(mark, text, re.M):
                    found.append((page, number, mark))
    assert len(books) >= 79 and not found


def test_letters_follow_each_other(books):
    for page, book in books.items():
        own = readable.anchors(book['cells'])
        assert len(own) == len(set(own)), f'{page}: {own}'
        for kind in ('equation', 'figure'):
            letters = [a.rpartition('-')[2] for a in own if a.startswith(kind)]
            letters = [letter for letter in letters if not letter.isdigit()]
            wanted = [chr(ord('a') + i) for i in range(len(letters))]
            assert letters == wanted, f'{page}: {kind} {letters}'


def test_every_reference_to_a_letter_stands_for_something(books):
    for page, book in books.items():
        own = readable.anchors(book['cells'])
        missing = []

        def way(anchor, own=own, missing=missing):
            if anchor not in own and not anchor.rpartition('-')[2].isdigit():
                missing.append(anchor)

        for cell in book['cells']:
            if cell['cell_type'] == 'markdown':
                readable.link_references(readable.source(cell), way)
        assert not missing, f'{page}: {missing}'


def test_equations_in_callouts_stand_on_one_line(books):
    "JupyterLab takes the mark of the quote for a part of the equation otherwise."
    for page, book in books.items():
        for cell in book['cells']:
            if cell['cell_type'] == 'markdown':
                odd = [li for li in readable.source(cell).split('\n') if li[:1] == '>']
                assert all(line.count('$$') % 2 == 0 for line in odd), f'{page}: {odd}'


def test_captions_stand_below_code(books):
    for page, book in books.items():
        for above, cell in zip(book['cells'], book['cells'][1:], strict=False):
            if cell['cell_type'] == 'markdown' and readable.CAPTION.match(readable.source(cell)):
                assert above['cell_type'] == 'code', f'{page}: {readable.source(cell)[:60]}'


def heads(book):
    "The levels of a page's headings, in order."
    texts = [readable.strip_code(readable.source(c))[0] for c in markdown_cells(book)]
    return [len(mark) for text in texts for mark in re.findall(r'^(#+) ', text, re.M)]


def markdown_cells(book):
    return [cell for cell in book['cells'] if cell['cell_type'] == 'markdown']


def test_the_table_of_contents_reads_well(books):
    "One title, first, and no level left out: what JupyterLab and the site list."
    assert heads(dict(cells=[markdown('# a\n```\n# b\n```\n## c')])) == [1, 2]
    for page, book in books.items():
        levels = heads(book)
        assert levels[0] == 1 and levels.count(1) == 1, page
        assert all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False)), page


# ---- plain English

AMOUNTS = (
    'words|minutes|seconds|steps|images|bits|characters|tokens|nats|trials|lines?|maps?|studies|'
    'hours|bytes|log-probability|sentences'
)
EACH = 'report|sentence|step|study|epoch|row|page|word|token|head|view|image|batch|seed|chapter'
VERBS = (
    'finds|keeps|opens|has|is|was|belongs|that|which|can|must|needs|reads|of|takes|writes|states'
)
ODD = {  # what is said, and how it is said in plain English
    rf'(?<!# the )\b(?:{AMOUNTS}) an? (?:{EACH})\b(?! (?:{VERBS}))': '"per", not "a"',
    r'\b(?:this|next|last|each|other|previous|a|the) room\b(?! (?:below|above))': 'page or lesson',
    r'\btrial (?:before|that preceded) this\b|\b[Ii]n (?:the|our) trial\b': 'where it can be seen',
    r'\bno mask is better than\b': 'none of the masks beats leaving it out',
    r'\basks? nothing of\b': 'needs no …',
    r'\b[Tt]he paper (?:takes|uses) OpenAI': 'an inference, not a statement of the paper',
    r"the paper's (?:size|width) \(d = 512|paper's \$d = 512": 'an inference, not a statement',
}


def odd_phrases(text):
    "Phrases that a reader in another country stumbles over, or that say more than is known."
    return [
        f'{found[0]!r}: {better}'
        for pattern, better in ODD.items()
        for found in re.finditer(pattern, text)
    ]


def test_pages_are_in_plain_english(books):
    found = [
        (page, number, phrase)
        for page, book in books.items()
        for number, cell in enumerate(book['cells'])
        for phrase in odd_phrases(readable.source(cell))
    ]
    assert not found


@pytest.mark.parametrize(
    'text',
    [
        'reports of 60 words a report',
        'seconds a step, and more',
        'as the next room shows',
        'In the trial it rose',
        'no mask is better than none',
        'asks nothing of the network',
        "The paper takes OpenAI's dVAE",
        "the paper's size (d = 512)",
    ],
)
def test_an_odd_phrase_is_seen(text):
    assert odd_phrases(text)


def test_plain_phrases_are_no_odd_ones():
    text = 'which images a report finds; some steps a row keeps; an X-ray room; it leaves room; '
    text += 'six trials per row; the paper names no dVAE; a random trial'
    assert odd_phrases(text) == []
