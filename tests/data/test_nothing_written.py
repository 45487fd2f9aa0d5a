"""Nothing, written as a word: in every column of every layout one function decides, a missing
patient is no patient, a missing id is a fault, a missing report is left out or is a fault."""

import gzip
import json
import math

import pytest

from careless import KAGGLE, faults, images, write_table
from uar_nb.data.load import load_studies, save_studies
from uar_nb.data.mimic import report_findings
from uar_nb.data.study import by_split, is_empty
from uar_nb.phantom.generator import make_studies

WORDS = [
    '', ' ', '\t\n', '\u00a0', '\u200b', 'nan', 'NaN', 'None', 'none.', 'NULL', '(null)', '<NA>',
    'NA', 'N/A', 'n.a.', 'N. A.', '#N/A', '#NAME?', '#REF!', '#DIV/0!', 'NaT', 'nil', '\\N', '-',
    '--', '—', '?', '.', '...', '___', '*', 'no report', 'No report available.', 'not available',
    'Missing', 'undefined', '-nan', '1.#QNAN',
]  # fmt: skip
TEXTS = [
    'Clear.', 'No findings.', 'NA-12', 'nanny', '0', '1', 'x', 'normal', 'No report of pain.',
    'unknown', '正常', 'нет изменений', 'n', '#1', 'none of the lines has moved',
]  # fmt: skip


def test_one_function_knows_the_words():
    assert [word for word in WORDS if not is_empty(word)] == []
    assert [text for text in TEXTS if is_empty(text)] == []
    assert is_empty(None) and is_empty(math.nan) and not is_empty(0) and not is_empty(False)
    assert is_empty('-' * 500) and not is_empty('The lungs are clear. ' * 500)


@pytest.mark.parametrize('word', WORDS)
def test_each_column_of_a_table(word, tmp_path):
    images(tmp_path, ['a.png', 'b.png'])
    header = ['id', 'image', 'view', 'report', 'split', 'patient']
    rows = [
        ['A', 'a.png', word, 'Clear.', word, word],
        ['A', word, '', word, '', ''],
        ['B', 'b.png', word, 'Effusion.', 'val', word],
    ]
    studies = load_studies(write_table(tmp_path, header, rows))
    assert [(s.id, s.report, s.split, s.patient) for s in studies] == [
        ('A', 'Clear.', 'train', None),
        ('B', 'Effusion.', 'val', None),
    ]
    assert [[view.name for view in s.views] for s in studies] == [['frontal']] * 2
    assert "1 studies name no split and are in train: 'A'" in studies.facts.texts('split')


@pytest.mark.parametrize('word', ['nan', '', '#N/A', '-', 'n.a.'])
def test_no_id_no_report_and_no_image_are_faults_of_a_table(word, tmp_path):
    images(tmp_path, ['a.png', 'b.png', 'c.png'])
    header = ['id', 'image', 'report']
    rows = [[word, 'a.png', 'x'], ['B', word, 'x'], ['C', 'c.png', word], [word, 'b.png', 'x']]
    found = faults(write_table(tmp_path, header, rows))
    assert {(f.field, f.kind) for f in found} == {
        ('line 2, id', 'is missing'),
        ('line 5, id', 'is missing'),
        ('line 3, image', 'study … has no image'),
        ('line 4, report', 'study … has an empty report'),
    }


def test_a_split_is_not_drawn_by_a_patient_called_nan(tmp_path):
    "Case 04, in a table, in JSON with NaN and null, and in JSON lines."
    names = [f'p{i}.png' for i in range(8)]
    images(tmp_path / 'images', names)
    reports = [f'Clear {i}.' for i in range(8)]
    words = ['nan', 'NaN', 'None', '<NA>', 'NaT', '-', '?', 'n.a.']
    rows = [[f's{i}', names[i], reports[i], words[i]] for i in range(8)]
    table = write_table(tmp_path, ['id', 'image', 'report', 'patient'], rows)
    entries = [
        dict(id=f's{i}', image_path=[names[i]], report=reports[i], split='train', patient=patient)
        for i, patient in enumerate([*words[:6], math.nan, None])
    ]
    (tmp_path / 'annotation.json').write_text(json.dumps(entries))
    (tmp_path / 'reports.jsonl').write_text('\n'.join(map(json.dumps, entries)))
    splits = []
    for file in (table, tmp_path / 'annotation.json', tmp_path / 'reports.jsonl'):
        studies = load_studies(file, split=7)
        assert {s.patient for s in studies} == {None}
        splits.append({s.id: s.split for s in studies})
        assert {k: len(v) for k, v in by_split(studies).items()} == dict(train=6, val=0, test=2)
    assert splits[0] == splits[1] == splits[2]


def test_each_field_of_json(tmp_path):
    images(tmp_path, ['a.png', 'b.png', 'c.png'])
    good = [
        dict(id='A', image='a.png', view=math.nan, report='x', split=None, patient=math.nan),
        dict(id='B', images=['b.png', None, 'nan'], views=['NaN', None], report='x', split='nan'),
        dict(id='C', image_path=math.nan, image='c.png', views=None, report='x', subject_id='None'),
    ]
    (tmp_path / 'reports.jsonl').write_text('\n'.join(map(json.dumps, good)))
    studies = load_studies(tmp_path / 'reports.jsonl')
    assert [(s.id, s.split, s.patient, len(s.views)) for s in studies] == [
        (name, 'train', None, 1) for name in 'ABC'
    ]
    assert "3 studies name no split and are in train: 'A', 'B', 'C'" in studies.facts.texts('split')
    bad = [
        dict(id=math.nan, image='a.png', report='x'),
        dict(id='null', image='a.png', report='x'),
        dict(image='a.png', report='x'),
        dict(id='D', image='a.png', report=math.nan),
        dict(id='E', image='a.png', report='<NA>'),
        dict(id='F', image=math.nan, report='x'),
        dict(id='G', images=[None, ''], report='x'),
    ]
    (tmp_path / 'reports.jsonl').write_text('\n'.join(map(json.dumps, bad)))
    assert [f.field for f in faults(tmp_path / 'reports.jsonl')] == [
        'line 1.id', 'line 2.id', 'line 3.id', 'line 4.report', 'line 5.report',
        'line 6.image_path', 'line 7.images',
    ]  # fmt: skip


def test_a_split_that_is_blank_in_an_annotation(tmp_path):
    "In the list of a split it is that split; in one list of all it is missing."
    images(tmp_path / 'images', ['a.png'])
    entry = dict(id='A', image_path=['a.png'], report='x', split='nan')
    (tmp_path / 'annotation.json').write_text(json.dumps({'val': [entry]}))
    assert [s.split for s in load_studies(tmp_path)] == ['val']
    (tmp_path / 'annotation.json').write_text(json.dumps([entry]))
    assert [(f.field, f.what) for f in faults(tmp_path)] == [('[0].split', 'is missing')]


def test_kaggles_tables(tmp_path):
    "Reports without text are left out with their reason, never learnt as the word nan."
    words = ['nan', '', 'None', '<NA>', 'no report', 'n.a.']
    rows = [[i + 1, 'nan', 'nan', 'NaN', 'nan', 'nan', word, word] for i, word in enumerate(words)]
    rows.append([7, 'normal;nan', '', '', '', '', 'Clear.', 'nan'])
    write_table(tmp_path, KAGGLE, rows, 'indiana_reports.csv')
    views = [
        [i, f'{i}_IM-0001-{v}001.dcm.png', ('Frontal', 'Lateral')[v - 1]]
        for i in range(1, 8)
        for v in (1, 2)
    ]
    header = ['uid', 'filename', 'projection']
    write_table(tmp_path, header, views, 'indiana_projections.csv')
    for text, why in (('findings', 'no FINDINGS'), ('both', 'no FINDINGS and no IMPRESSION')):
        studies = load_studies(tmp_path, check=False, split=1, text=text)
        assert [s.report for s in studies] == ['Clear.']
        assert [reason for _, reason in studies.left_out] == [why] * 6
    views[0][0], views[1][2], rows[0][0] = 'nan', 'nan', 'nan'
    write_table(tmp_path, header, views, 'indiana_projections.csv')
    write_table(tmp_path, KAGGLE, rows, 'indiana_reports.csv')
    assert [(f.field, f.what) for f in faults(tmp_path, check=False, split=1)] == [
        ('line 2, uid', 'is missing'),
        ('line 3, projection', 'is missing'),
        ('line 2, uid', 'is missing'),
    ]


def test_mimic(tmp_path):
    "Sections that say nothing, and a metadata table that a program wrote with its own words."
    for word in ('N/A', 'None.', 'nan', '___', 'Not available.'):
        assert report_findings(f' FINDINGS: {word}\n IMPRESSION: x.') == (
            '',
            'FINDINGS without text',
        )
    home = save_studies(make_studies(3, seed=2), tmp_path / 'set', 'mimic')
    file = home / 'mimic-cxr-2.0.0-metadata.csv.gz'
    text = gzip.decompress(file.read_bytes()).decode()
    text = text.replace(',PA,', ',nan,').replace(',LL,', ',<NA>,')
    file.write_bytes(gzip.compress(text.encode()))
    studies = load_studies(home, views='both')
    assert [[view.name for view in s.views] for s in studies] == [['frontal', 'lateral']] * 3


def test_what_is_kept_in_memory_is_asked_the_same(tmp_path):
    "Studies that a program made: their report may be the word as well."
    from dataclasses import replace

    from uar_nb.apps.audit import audit
    from uar_nb.apps.pipeline import check_reports
    from uar_nb.core import UARError

    good, bad = make_studies(2, seed=1)
    bad = replace(bad, report='<NA>')
    with pytest.raises(UARError, match='1 studies have no report'):
        check_reports([good, bad], 'memory')
    found = audit([good, bad], with_images=False, baselines=False)
    assert found.splits['all'].reports == 1
    assert [(f.field, f.what) for f in found.faults] == [(bad.id, 'report is empty')]
    with pytest.raises(UARError, match='has no report'):
        save_studies([good, bad], tmp_path / 'set', 'r2gen')
