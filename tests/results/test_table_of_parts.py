"""The table of parts that ends the lesson on training, against the kept results."""

import json
import re

import numpy as np
import pytest

from pages import NBS, ROOT, cells_of

KEPT = ROOT / 'data' / 'results'
LADDER, RUNS, LONG = (
    json.loads((KEPT / f'{name}.json').read_text(encoding='utf-8'))
    for name in ('ladder', 'tir', 'demo_long')
)


def told(page, start):
    "The one cell of prose that holds a text."
    texts = [''.join(c['source']) for c in cells_of(NBS / f'{page}.ipynb')]
    [text] = [text for text in texts if start in text]
    return text


def short(number, sign=False):
    "As the pages write it: .459, −.018."
    text = f'{number:+.3f}' if sign else f'{number:.3f}'
    return re.sub(r'\b0\.', '.', text).replace('-', '−')


def change(variant, key):
    "Mean difference from no mask, and its 95 % half width (t of two degrees of freedom)."
    by_seed = {(run['variant'], run['seed']): run[key] for run in RUNS}
    gaps = [by_seed[variant, seed] - by_seed['no mask', seed] for seed in range(3)]
    half = 4.302653 * np.std(gaps, ddof=1) / 3**0.5
    return f'{short(np.mean(gaps), sign=True)} ± {short(half)}'


@pytest.mark.parametrize(
    'row, key', [('a', 'f1'), ('e', 'f1'), ('memory', 'f1'), ('e', 'recall@5')]
)
def test_the_ladder_is_told_as_it_is_kept(row, key):
    assert short(LADDER[row][key]) in told('09_training', '| what the paper promises |')


@pytest.mark.parametrize('variant', ['literal', 'predicted'])
@pytest.mark.parametrize('key', ['f1', 'pointing'])
def test_what_a_mask_changed_is_told_as_it_is_kept(variant, key):
    for page, start in (
        ('09_training', '| what the paper promises |'),
        ('05_tir', '### Does it help?'),
    ):
        assert change(variant, key) in told(page, start)


def test_base_without_align_is_told_as_it_is_kept():
    "Table 1's Base: trained until its scores rise no more."
    files = [KEPT / 'rows' / f'1-phantom-base-{seed}.json' for seed in range(3)]
    kept = [json.loads(file.read_text(encoding='utf-8')) for file in files]
    assert all(run['converged'] for run in kept)
    first, second, third = (short(run['scores']['F1']) for run in kept)
    said = f'reach {first}, {second} and {third} (three seeds)'
    assert said in told('09_training', 'So which part brings')


def test_the_whole_is_told_as_it_is_kept():
    text = told('09_training', '| what the paper promises |')
    low, high = LONG['findings']['f1_interval']
    assert f'{short(LONG["findings"]["f1"])} [{short(low)}, {short(high)}]' in text
    assert short(LONG['rows']['image-shuffle control']['F1']) in text
