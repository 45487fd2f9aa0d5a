"Tables of every kind that people have: CSV, TSV, packed, and Excel's; their faults and notes."

import datetime
import gzip
import random
import sys

import pytest

from careless import faults, images
from uar_nb.core import UARError
from uar_nb.data.load import load_studies
from uar_nb.data.study import DataSetError

NAMES = ['a.png', 'b.png', 'c.png']
ROWS = [
    ['id', 'image', 'report', 'split', 'patient'],
    ['007', 'a.png', 'Heart, lungs: "normal".', 'train', '12'],
    ['8', 'b.png', 'Two\nlines; and more.', 'val', ''],
    ['9', 'c.png', 'Größe 正常.', 'test', 'p9'],
]
EXPECTED = [
    ('007', 'Heart, lungs: "normal".', 'train', '12'),
    ('8', 'Two\nlines; and more.', 'val', None),
    ('9', 'Größe 正常.', 'test', 'p9'),
]


def content(studies):
    return [(s.id, s.report, s.split, s.patient) for s in studies]


def text_of(delimiter, rows=ROWS):
    def cell(text):
        return '"' + text.replace('"', '""') + '"'

    return ''.join(delimiter.join(map(cell, row)) + '\r\n' for row in rows)


@pytest.mark.parametrize('delimiter', ['\t', ',', ';'])
@pytest.mark.parametrize(
    'name', ['reports.tsv', 'reports.csv', 'mine.TSV', 'mine.csv.gz', 'x.tsv.gz']
)
@pytest.mark.parametrize('mark', ['', '\ufeff'])
def test_text_tables(name, delimiter, mark, tmp_path):
    "Case 21: by the folder where the name is the usual one, and by the file."
    images(tmp_path, NAMES)
    data = (mark + text_of(delimiter)).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith('gz') else data)
    for path in [tmp_path / name, *([tmp_path] if name.startswith('reports') else [])]:
        studies = load_studies(path)
        assert content(studies) == EXPECTED and studies.layout == 'table'


def test_a_note_names_tables_that_were_not_read_and_its_remedy_works(tmp_path):
    images(tmp_path, NAMES)
    for name in ('mine.tsv', 'mine.csv.gz'):
        data = text_of('\t').encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith('gz') else data)
        (note,) = load_studies(tmp_path).facts.texts('not read')
        assert name in note and 'name that file' in note
        assert content(load_studies(tmp_path / name)) == EXPECTED
        (tmp_path / name).unlink()


def workbook(path, rows, **sheets):
    "A workbook; a cell (value, format) has a format of numbers."
    openpyxl = pytest.importorskip('openpyxl')
    book = openpyxl.Workbook()
    book.active.title = 'Reports'
    parts = {'Reports': rows, **sheets}
    for title, some in parts.items():
        sheet = book[title] if title in book.sheetnames else book.create_sheet(title)
        for r, row in enumerate(some, 1):
            for c, value in enumerate(row, 1):
                cell = sheet.cell(r, c)
                cell.value, form = value if isinstance(value, tuple) else (value, None)
                if form:
                    cell.number_format = form
    book.save(path)
    return path


def test_a_workbook(tmp_path):
    "Texts, numbers, a number that is shown with zeros, empty cells, an empty row, other sheets."
    images(tmp_path, NAMES)
    rows = [
        ROWS[0],
        [(7, '000'), 'a.png', ROWS[1][2], 'train', 12],
        [None] * 5,
        [8, 'b.png', ROWS[2][2], 'val'],
        ['9', 'c.png', ROWS[3][2], 'test', 'p9'],
    ]
    file = workbook(tmp_path / 'reports.xlsx', rows, Notes=[['by', 'Ann']], Empty=[])
    for path in (tmp_path, file):
        studies = load_studies(path)
        assert content(studies) == EXPECTED
        (note,) = studies.facts.texts('not read')
        assert "the sheets 'Notes'" in note and 'rows' not in {n.kind for n in studies.notes}
    shuffled = workbook(tmp_path / 'reports.xlsx', [['by', 'Ann']], Table=rows)
    assert content(load_studies(shuffled)) == EXPECTED


def test_what_excel_did_is_a_fault_or_told(tmp_path):
    images(tmp_path, NAMES)
    rows = [
        ['id', 'image', 'report', 'patient'],
        [datetime.datetime(2024, 3, 12), 'a.png', 'x', 'p'],
        ['A', 'b.png', '#NAME?', 'p'],
        [1.234567890123456e17, 'c.png', 'x', datetime.date(2024, 3, 13)],
        [None, 'c.png', 'merged with the cell above', 'p'],
    ]
    found = faults(workbook(tmp_path / 'reports.xlsx', rows))
    assert [(fault.field, fault.kind[:12]) for fault in found] == [
        ('line 5, id', 'is missing'),
        ('line 2, id', '… is a date,'),
        ('line 3, report', 'study … has '),
        ('line 4, id', '… is a numbe'),
        ('line 4, patient', '… is a date,'),
    ]
    rows = [['id', 'image', 'report', 'report'], ['A', 'a.png', 'x', 'y']]
    found = faults(workbook(tmp_path / 'reports.xlsx', rows))
    assert [fault.field for fault in found] == ['column report']


def test_without_the_package_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'openpyxl', None)
    (tmp_path / 'reports.xlsx').write_bytes(b'PK')
    for path in (tmp_path, tmp_path / 'reports.xlsx'):
        with pytest.raises(UARError, match=r"pip install 'uar_nb\[xlsx\]'"):
            load_studies(path)


def test_damaged_tables_end_in_one_fault_each(tmp_path):
    "300 damaged workbooks and 300 damaged packed tables, seeded."
    images(tmp_path, NAMES)
    rows = [ROWS[0], *([f'{i}', 'a.png', f'x{i}', 'train', 'p'] for i in range(40))]
    whole = {
        'a.xlsx': workbook(tmp_path / 'a.xlsx', rows).read_bytes(),
        'a.tsv.gz': gzip.compress(text_of('\t', rows).encode()),
    }
    draw = random.Random(5)
    for name, data in whole.items():
        ended = set()
        for _ in range(300):
            harmed = bytearray(data)
            for _ in range(draw.choice([1, 3, 20])):
                harmed[draw.randrange(len(harmed))] = draw.randrange(256)
            if draw.random() < 0.3:
                del harmed[draw.randrange(len(harmed)) :]
            (tmp_path / name).write_bytes(harmed)
            try:
                load_studies(tmp_path / name, check=False)
                ended.add('read')
            except (DataSetError, UARError) as told:
                ended.add(type(told).__name__)
        assert 'DataSetError' in ended and ended <= {'read', 'DataSetError', 'UARError'}


def test_excels_unicode_text_gets_a_remedy_that_works(tmp_path):
    "UTF-16 with tabs, as Excel saves 'Unicode text'; saved as the remedy says it is read."
    images(tmp_path, NAMES)
    (tmp_path / 'reports.tsv').write_bytes(text_of('\t').encode('utf-16'))
    (fault,) = faults(tmp_path)
    assert fault.what == 'is not a text in UTF-8' and 'CSV in UTF-8' in fault.remedy
    (tmp_path / 'reports.tsv').write_bytes(text_of(',').encode('utf-8-sig'))
    assert content(load_studies(tmp_path)) == EXPECTED
