"""Sentences, exported files and ReXrank's file: each goes out and comes back the same; ReXrank's
BLEU-2 beside a computation written in another way."""

import csv
import json
import math
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from uar_nb.core import UARError, to_json
from uar_nb.data.study import DataSetError
from uar_nb.data.text import clean_report
from uar_nb.phantom.generator import make_studies
from uar_nb.scoring.evaluate import read_predictions
from uar_nb.scoring.scorer_files import (
    detokenise,
    export_predictions,
    read_rexrank,
    rexrank_bleu,
    rexrank_studies,
    write_rexrank,
)

RULES = ('iu_xray', 'mimic_cxr', 'corrected')


def words(text):
    "A cleaned report without the full stops of empty sentences."
    sentences = [part.strip() for part in f' {text} '.split(' . ')]
    return [' '.join(sentence.split()) for sentence in sentences if sentence]


# ---- sentences


@pytest.mark.parametrize('rules', RULES)
@pytest.mark.parametrize('style', ['single', 'fast', 'iu_xray'])
def test_cleaning_gives_the_words_of_phantoms_back(style, rules):
    for study in make_studies(15, seed=4, style=style):
        cleaned = clean_report(study.report, rules)
        assert words(clean_report(detokenise(cleaned), rules)) == words(cleaned)


@pytest.mark.skipif('UAR_DATA' not in os.environ, reason='needs real reports')
@pytest.mark.parametrize('rules', RULES)
def test_cleaning_gives_the_words_of_real_reports_back(rules):
    file = Path(os.environ['UAR_DATA']) / 'iu_xray' / 'annotation.json'
    data = json.loads(file.read_text(encoding='utf-8'))
    reports = [study['report'] for split in ('train', 'val') for study in data[split]]
    assert len(reports) > 2000
    for report in reports:
        cleaned = clean_report(report, rules)
        assert words(clean_report(detokenise(cleaned), rules)) == words(cleaned)


LETTERS = 'abcdefghijklmnopqrstuvwxyzäßéıσµ肺'
WORD = st.one_of(
    st.text(LETTERS, min_size=1, max_size=6),
    st.sampled_from('copd l1 t12 t12-l1 xxxx pa s1 c7-t1 ct 12 3 1.2 x-ray'.split()),
)
SENTENCE = st.lists(WORD, min_size=1, max_size=6).filter(
    lambda words: not (len(words) == 1 and words[0].isdigit())  # the number of an item in a list
)


@settings(deadline=None, max_examples=200)
@given(st.lists(SENTENCE, min_size=1, max_size=5))
def test_cleaning_gives_any_cleaned_report_back(sentences):
    cleaned = clean_report('. '.join(' '.join(sentence) for sentence in sentences), 'corrected')
    assert clean_report(detokenise(cleaned), 'corrected') == cleaned


def test_sentences_are_written_as_one_writes_them():
    text = detokenise('no effusion . <unk> heart . pa and lateral of t4-t5 . 3.2 cm mass')
    assert text == 'No effusion. Heart. PA and lateral of T4-T5. 3.2 cm mass.'


# ---- exported files

ODD = [
    'Normal.',
    'Commas, "quotes" and\nline\r\nbreaks; then\ttabs.',
    'line\u2028separator é 肺 \x85',
    '=1+1, @x',
    "it's ' fine",
]


@pytest.fixture
def predictions(tmp_path):
    rows = [
        dict(id=f'00{n}', reference='a .', original=text, report=report)
        for n, (text, report) in enumerate(
            zip(ODD, ['the heart is normal .', '', '<unk> .', 'clear', 'a . b .'], strict=True)
        )
    ]
    file = tmp_path / 'predictions.jsonl'
    file.write_text(''.join(to_json(row) + '\n' for row in rows), encoding='utf-8')
    return read_predictions(file)


SAID = ['The heart is normal.', '.', '.', 'Clear.', 'A. B.']


def table(file):
    with open(file, newline='', encoding='utf-8') as f:
        return list(csv.DictReader(f))


def test_radeval_reads_lines_of_json(predictions, tmp_path):
    [file] = export_predictions(predictions, 'radeval', tmp_path / 'out')
    with open(file, encoding='utf-8', newline='\n') as f:
        rows = [json.loads(line) for line in f]
    assert [row['ref'] for row in rows] == ODD and [row['hyp'] for row in rows] == SAID
    assert [row['id'] for row in rows] == [f'00{n}' for n in range(5)]


def test_cxr_report_metric_reads_two_tables_of_numbered_studies(predictions, tmp_path):
    export_predictions(predictions, 'cxrmetric', tmp_path / 'out')
    true, said, ids = (
        table(tmp_path / 'out' / name)
        for name in ('gt_reports.csv', 'predicted_reports.csv', 'studies.csv')
    )
    assert [row['report'] for row in true] == ODD and [row['report'] for row in said] == SAID
    numbers = [int(row['study_id']) for row in true]
    assert numbers == [int(row['study_id']) for row in said] == list(range(5))
    assert {int(row['study_id']): row['id'] for row in ids} == {n: f'00{n}' for n in range(5)}


def test_radfact_reads_one_table(predictions, tmp_path):
    export_predictions(predictions, 'radfact', tmp_path / 'out')
    rows = table(tmp_path / 'out' / 'radfact.csv')
    assert [row['target'] for row in rows] == ODD and [row['prediction'] for row in rows] == SAID
    assert [row['id'] for row in table(tmp_path / 'out' / 'studies.csv')][4] == '004'


def test_predictions_of_an_earlier_version_are_refused_with_a_remedy(predictions, tmp_path):
    rows = [{k: v for k, v in row.items() if k != 'original'} for row in predictions.rows]
    file = tmp_path / 'old.jsonl'
    file.write_text(''.join(to_json(row) + '\n' for row in rows), encoding='utf-8')
    with pytest.raises(UARError, match='earlier version.*--overwrite'):
        export_predictions(read_predictions(file), 'radeval', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


# ---- ReXrank


def bleu_by_fractions(report, reference):
    "NLTK's sentence BLEU with smoothing method 1, in exact fractions but for the last step."
    h, r = (
        [word for word in text.lower().replace('.', ' .').split(' ') if word != '']
        for text in (report, reference)
    )
    product = Fraction(1)
    for n in (1, 2):
        mine = [' '.join(h[i : i + n]) for i in range(len(h) - n + 1)]
        theirs = [' '.join(r[i : i + n]) for i in range(len(r) - n + 1)]
        common = sum(min(mine.count(gram), theirs.count(gram)) for gram in set(mine))
        if n == 1 and common == 0:
            return 0.0
        product *= Fraction(common, 1) / max(1, len(mine)) or Fraction(1, 10 * max(1, len(mine)))
    penalty = 1.0 if len(h) > len(r) else math.exp(1 - len(r) / len(h))
    return penalty * math.exp(0.5 * math.log(product))


@settings(deadline=None, max_examples=300)
@given(*[st.text(st.sampled_from('ab .,\nC'), max_size=30)] * 2)
def test_rexranks_bleu_is_that_of_fractions(report, reference):
    [found] = rexrank_bleu([report], [reference])
    assert found == pytest.approx(bleu_by_fractions(report, reference), rel=1e-12, abs=1e-15)


def test_rexranks_bleu_is_that_of_nltk():
    nltk = pytest.importorskip('nltk.translate.bleu_score')
    smooth = nltk.SmoothingFunction().method1
    studies = make_studies(30, seed=2, style='iu_xray')
    for one, other in zip(studies, studies[1:], strict=False):
        texts = [s.report.lower().replace('.', ' .').split() for s in (one, other)]
        wanted = nltk.sentence_bleu([texts[1]], texts[0], (0.5, 0.5), smoothing_function=smooth)
        assert rexrank_bleu([one.report], [other.report]) == pytest.approx([wanted], abs=1e-12)


def entry(*images, **fields):
    return dict(image_path=list(images), section_findings='Normal.', **fields)


@pytest.fixture
def images(tmp_path):
    for name in ('a/0.png', 'a/1.png', 'b/x.png', 'b/lateral.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((16, 16), 90, np.uint8)).save(tmp_path / name)
    return tmp_path


def views_of(study):
    return [(view.name, view.path.name) for view in study.views]


VIEWS = {
    'as the list says': (
        entry('a/0.png', 'a/1.png', frontal_lateral=['Lateral', 'Frontal']),
        [('frontal', '1.png'), ('lateral', '0.png')],
    ),
    'one text for one image': (
        entry('a/1.png', frontal_lateral='Lateral'),
        [('lateral', '1.png')],
    ),
    'a path that is no list': (
        dict(image_path='a/0.png', section_findings='x'),
        [('frontal', '0.png')],
    ),
    'a list that is too short': (
        entry('a/0.png', 'a/1.png', frontal_lateral=['Frontal'], key_image_path='a/1.png'),
        [('frontal', '1.png'), ('lateral', '0.png')],
    ),
    'a list that is too long': (
        entry('a/0.png', 'a/1.png', frontal_lateral=['Lateral'] * 3, key_image_path='a/0.png'),
        [('frontal', '0.png'), ('lateral', '1.png')],
    ),
    'the name of a file': (
        entry('b/x.png', 'b/lateral.png', frontal_lateral=[]),
        [('frontal', 'x.png'), ('lateral', 'lateral.png')],
    ),
    'no list, no key': (
        entry('a/0.png', 'a/1.png'),
        [('frontal', '0.png'), ('lateral', '1.png')],
    ),
    'words that are no view': (
        entry('a/0.png', 'a/1.png', frontal_lateral=[None, 7]),
        [('frontal', '0.png'), ('lateral', '1.png')],
    ),
    'a path as if it were absolute': (
        entry('/a/0.png', key_image_path='/a/0.png'),
        [('frontal', '0.png')],
    ),
}


@pytest.mark.parametrize('case', VIEWS)
def test_views_of_rexrank(case, images):
    fields, wanted = VIEWS[case]
    [study] = rexrank_studies({'s': fields}, images)
    assert views_of(study) == wanted and study.split == 'test'


@pytest.mark.parametrize('findings', [None, math.nan, '', ' ', 'nan', 3])
def test_findings_may_be_missing(findings, images):
    fields = dict(entry('a/0.png'), section_findings=findings)
    (images / 'in.json').write_text(json.dumps({'s': fields, 't': dict(image_path=['a/1.png'])}))
    studies = rexrank_studies(read_rexrank(images / 'in.json'), images)
    assert [study.report for study in studies] == ['', '']


def test_all_that_the_file_says_stays_as_it_was(images):
    text = (
        '{"7": {"image_path": ["a/0.png"], "context": "\\ud83d\\ude42 \\u2028 \\udcf6", '
        '"nan": NaN, "list": [1, 1.50, true, null, {"z": 1e300, "a": -0.0}], '
        '"section_findings": null}, '
        '"3": {"key_image_path": "x", "image_path": ["a/1.png"], "model_prediction": "older"}}'
    )
    (images / 'in.json').write_text(text, encoding='utf-8')
    entries = read_rexrank(images / 'in.json')
    write_rexrank(images / 'out.json', entries, {'7': 'Normal.', '3': 'Clear.'})
    out = json.loads((images / 'out.json').read_text(encoding='utf-8'))
    assert [study.pop('model_prediction') for study in out.values()] == ['Normal.', 'Clear.']
    wanted = json.loads(text)
    wanted['3'].pop('model_prediction')
    assert json.dumps(out) == json.dumps(wanted)  # values, their types, and the order of keys


def test_all_images_that_are_missing_are_told_together(images):
    entries = {'s': entry('a/0.png', 'gone.png'), 't': entry('also_gone.png')}
    with pytest.raises(DataSetError) as told:
        rexrank_studies(entries, images)
    assert [Path(fault.file).name for fault in told.value.faults] == ['gone.png', 'also_gone.png']


@pytest.mark.parametrize(
    'content, message',
    [
        ('[]', 'no object of studies'),
        ('{}', 'no object of studies'),
        ('{"a": 1}', 'no list of image paths'),
        ('{"a": {"image_path": []}}', 'no list of image paths'),
        ('{"a": {"image_path": [1]}}', 'no list of image paths'),
        ('{"a": {"image_path": [" "]}}', 'no list of image paths'),
        ('{"a": {"image_path": ["x"]}, "a": {"image_path": ["x"]}}', 'twice'),
        ('{"a"', 'is not JSON'),
    ],
)
def test_what_is_no_file_of_rexrank_is_refused(content, message, tmp_path):
    (tmp_path / 'in.json').write_text(content)
    with pytest.raises(UARError, match=message):
        read_rexrank(tmp_path / 'in.json')
