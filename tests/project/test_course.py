"""The course as a reader walks through it: plain counting words, minutes that add up, letters that
are told, exercises of other pages, and what comes next."""

import json
import re

import pytest

import exercises as tool
import pages
from pages import NBS, ROOT, cells_of

# ---- "one map a word" is not English that everybody understands at once

NUMBER = r'(?:one|two|three|four|five|six|seven|eight|nine|ten|twelve|\d+(?:,\d{3})*)'
WORD = r'(?:one|two|three|four|five|six|seven|eight|nine|ten|twelve)'
COUNTED = (
    'attention map|map|word|row|number|dict|report|study|studie|vector|image|seed|trial|pass|passe|'
    'draw|weight|position|PNG|file|step|run folder|notebook|line|sentence|training|entry|entrie|'
    'finding|id|group|text|list|score|mark|count|byte|beam|wording|object|statement|parameter|'
    'colour|letter|place|pixel|thing|test|value'
)
FOR_EACH = (
    'word|study|row|report|token|image|line|epoch|step|page|sentence|kind|parameter|file|patient|'
    'layer|head|batch|finding|entry|column|patch|module|lesson|chapter|exercise|run|cell|pair|'
    'model|phantom|region|zone|side|position|folder|group|member|query|score|case|seed|table|'
    'sample|test|place'
)
SHORT = re.compile(
    rf'(?<![\w.])(?:{NUMBER}(?: [\w-]+)?? (?:{COUNTED})s?|{WORD}|(?<!of )an? (?:dict|run folder)) '
    rf'an? (?:{FOR_EACH})\b(?! of)',
    re.I,
)


@pytest.mark.parametrize(
    'text, found',
    [
        ('writes one attention map a word into', True),
        ('Draw one report a study.', True),
        ('# texts, one a study', True),
        ('2 rows a study', True),
        ('a dict a layer', True),
        ('one map for each word, two rows per study', False),
        ('1 begins a report, 2 ends it', False),
        ('the name of a word, in one look at a study', False),
        ('3. A model reaches', False),
        ('one process at a time, three words in a row', False),
    ],
)
def test_what_is_short_for_each(text, found):
    assert bool(SHORT.search(text)) == found


@pytest.mark.parametrize('path', pages.all_pages(), ids=pages.page_id)
def test_no_page_says_one_map_a_word(path):
    "Say `one map for each word`, or `per word`."
    lines = [line for cell in cells_of(path) for line in ''.join(cell['source']).split('\n')]
    assert [line for line in lines if SHORT.search(line)] == []


# ---- what each lesson says at its top and at its end

LESSONS = tool.lesson_pages()


def prose(page):
    return [tool.source(c) for c in cells_of(NBS / f'{page}.ipynb') if c['cell_type'] == 'markdown']


@pytest.mark.parametrize('page', LESSONS)
def test_the_minutes_of_a_lesson_are_those_of_its_exercises(page):
    "Counted from what stands below the headings of the exercises, not from the bank."
    told = re.compile(r'^Study time: reading (\d+) minutes, exercises (\d+) minutes\.', re.M)
    texts = prose(page)
    [(reading, exercises)] = told.findall('\n'.join(texts[:3]))
    each = [int(m) for t in texts for m in re.findall(r'^\*(\d+) minutes, [^*]+\*$', t, re.M)]
    assert sum(each) == int(exercises) > 0 and int(reading) >= 20


@pytest.mark.parametrize('page', [p for p in LESSONS if re.match(r'0[2-9]_|wings/tok', p)])
def test_a_lesson_of_the_paper_leads_to_the_letters(page):
    assert 'reference/glossary.ipynb#letters)' in '\n'.join(prose(page)[:3])


@pytest.mark.parametrize('page', [*LESSONS, '01_one_evening'])
def test_a_lesson_ends_with_what_comes_next(page):
    last = prose(page)[-1]
    title, way = re.match(r'\*\*Next:\*\* \[(.+?)\]\(([\w./-]+\.ipynb)\)', last).groups()
    there = pages.linked_page(way, page)
    assert there == tool.NEXT[page] and prose(there)[0].startswith(f'# {title}\n')


def test_the_course_goes_through_the_road_in_its_order():
    order = pages.flat(pages.reading_order(pages.page_ids()))
    road = [page for page in order if re.match(r'0\d_', page)]
    walked = ['00_the_task']
    while (after := tool.NEXT[walked[-1]]) in road:
        walked.append(after)
    assert walked == road and len(road) == 10


def test_the_road_through_the_systems():
    "The first page lists it, and each lesson on it leads to the next."
    first = 'wings/systems/01_writers'
    [text] = [t for t in prose(first) if '**The road through the systems.**' in t]
    lines = re.findall(r'^\d+\. (.+)$', text, re.M)
    ways = [re.match(r'\[(.+?)\]\(([\w./-]+\.ipynb)\)', line) for line in lines[1:]]
    road = [first, *(pages.linked_page(way[2], first) for way in ways)]
    lessons = {page for page in pages.page_ids() if page.startswith('wings/systems/')}
    between = ['wings/variants/02_memory', 'wings/experiment/03_rewards']
    assert lessons < set(road) and road[3:5] == between and '03_relational' in road[2]
    for page, after, way in zip(road, road[1:], ways, strict=False):
        title, to = re.match(r'\*\*Next:\*\* \[(.+?)\]\((.+?)\)', prose(page)[-1]).groups()
        assert pages.linked_page(to, page) == after
        assert title == way[1] and prose(after)[0].startswith(f'# {title}\n')


def test_exercises_that_stand_elsewhere_are_told():
    "Each number that a reader may miss is named, with the page that has it."
    [text] = [t for t in prose('05_tir') if t.startswith('## Try')]
    assert 'tir.3, tir.4 and tir.7 in [Losses](06_losses.ipynb)' in text
    for page in LESSONS:
        texts = prose(page)
        [text] = [t for t in texts if t.startswith('## Try')]
        here = set(re.findall(r'^### (\w+\.\d+) ', '\n'.join(texts), re.M))
        chapters = {name.partition('.')[0] for name in here}
        known = here | set(re.findall(r'\b\w+\.\d+\b', text.partition('Numbers that')[2]))
        for chapter in chapters:
            numbers = sorted(int(name.partition('.')[2]) for name in known if chapter in name)
            assert numbers == list(range(1, len(numbers) + 1)), f'{page}: {chapter} {numbers}'


def test_the_index_tells_what_each_lesson_costs():
    "Times as the lessons state them, and run time and memory as they were measured."
    kept = (ROOT / 'data/results/notebooks.json').read_text(encoding='utf-8')
    measured = json.loads(kept)['notebooks']
    shown = '\n'.join(
        ''.join(out['data'].get('text/markdown', ''))
        for cell in cells_of(NBS / 'index.ipynb')
        for out in cell.get('outputs', [])
        if 'data' in out
    )
    rows = dict(re.findall(r'^\| \[[^\]]+\]\((0\d_\w+)\.ipynb\) \| (.*) \|$', shown, re.M))
    road = [page for page in pages.page_ids() if re.match(r'0\d_', page)]
    assert sorted(rows) == road and len(road) == 10
    for page, row in rows.items():
        reading, exercises, run, memory = row.split(' | ')
        said = '\n'.join(prose(page)[:4])
        if page != '01_one_evening':
            assert f'Study time: reading {reading}, exercises {exercises}.' in said, page
        took = measured.get(page)
        assert (
            (run, memory) == ('–', '–')
            if took is None
            else (
                run == f'{took["seconds"] / 60:.1f} min'
                and memory == f'{max(took["memory_mb"], took["children_mb"]) / 1024:.1f} GB'
            )
        ), f'run nbs/index.ipynb again: {page}'
