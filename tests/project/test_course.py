"""The course as a reader walks through it: plain counting words, minutes that add up, letters that
are told, exercises of other pages, and what comes next."""

import re

import pytest

import pages
from pages import cells_of

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
