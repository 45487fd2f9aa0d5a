"""Every layout that holds the phantoms gives them back; every copy of the real IU-Xray gives
R2Gen's studies; every fault is told."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pages import ROOT
from uar_nb.core import UARError
from uar_nb.data.iu_xray import (
    kaggle_name,
    load_iu_xray,
    mirror_score,
    r2gen_split,
    read_openi,
    save_iu_xray,
)
from uar_nb.data.load import LAYOUTS, load_studies, save_studies
from uar_nb.data.study import SPLITS, DataSetError, by_split, write_image
from uar_nb.phantom.generator import make_studies

DATA = Path(os.environ.get('UAR_DATA', 'UAR_DATA is not set')) / 'iu_xray'
real = pytest.mark.skipif(
    not (DATA / 'NLMCXR_reports.tgz').is_file(),
    reason='UAR_DATA names no folder with iu_xray/NLMCXR_reports.tgz',
)


@pytest.fixture(scope='module')
def phantoms():
    return [
        s
        for split, n in (('train', 6), ('val', 2), ('test', 3))
        for s in make_studies(n, 11, frequencies='iu_xray', split=split)
    ]


def content(study):
    return (
        study.report,
        study.split,
        tuple(v.name for v in study.views),
        tuple(v.image().tobytes() for v in study.views),
    )


@pytest.mark.parametrize('layout', LAYOUTS)
def test_phantoms_come_back(layout, phantoms, tmp_path):
    save_studies(phantoms, tmp_path / 'set', layout)
    back = load_studies(
        tmp_path / 'set', check=True, **dict(views='both') if layout == 'mimic' else {}
    )
    if layout == 'mimic':  # JPEG
        for a, b in zip(phantoms, back, strict=True):
            assert content(a)[:3] == content(b)[:3] and all(
                np.abs(v.image().astype(int) - w.image()).max() <= 2
                for v, w in zip(a.views, b.views, strict=True)
            )
        assert [[v.name for v in s.views] for s in load_studies(tmp_path / 'set')] == [
            ['frontal']
        ] * len(phantoms)  # the paper's choice is the default
    else:
        assert sorted(map(content, back)) == sorted(
            map(content, phantoms)
        )  # text, split, views, every pixel
    assert back.layout and back.source and not back.left_out
    if layout not in ('openi', 'kaggle', 'mimic'):
        assert [s.id for s in back] == [s.id for s in phantoms]
    if layout in ('phantom', 'jsonl'):
        assert [[(f, f.boxes) for f in s.findings] for s in back] == [
            [(f, f.boxes) for f in s.findings] for s in phantoms
        ]


@pytest.mark.parametrize('layout', ['openi', 'kaggle'])
def test_ids_of_iu_xray_are_kept_and_all_layouts_have_one_order(layout, phantoms, tmp_path):
    used, named = set(), []
    for s in phantoms:
        id = next(
            i for i, split in reversed(r2gen_split().values()) if split == s.split and i not in used
        )
        used.add(id)
        named.append(replace(s, id=id))
    back = load_studies(save_studies(named, tmp_path / 'set', layout))
    assert {s.id: content(s) for s in back} == {s.id: content(s) for s in named}
    order = [id for id, _ in r2gen_split().values()]
    assert [s.id for s in back] == sorted(used, key=order.index)


def test_archives_need_not_be_unpacked(phantoms, tmp_path):
    """NLMCXR_reports.tgz and NLMCXR_png.tgz as they are downloaded; the view by order and by
    symmetry; all modes of compression."""
    home = save_studies(phantoms, tmp_path / 'set', 'openi')
    plain = load_studies(home)
    packed = tmp_path / 'packed'
    packed.mkdir()
    for name, inside, mode in (
        ('NLMCXR_reports.tgz', 'ecgen-radiology', 'w:gz'),
        ('NLMCXR_png.tgz', 'NLMCXR_png', 'w:gz'),
    ):
        with tarfile.open(packed / name, mode) as tar:
            tar.add(home / inside, inside if 'png' not in name else '.')
    for path in (packed, packed / 'NLMCXR_reports.tgz'):
        again = load_studies(path)
        assert [s.id for s in again] == [s.id for s in plain] and list(map(content, again)) == list(
            map(content, plain)
        )
    (packed / 'NLMCXR_png.tgz').write_bytes((packed / 'NLMCXR_png.tgz').read_bytes()[:-500])
    with pytest.raises(DataSetError, match='truncated or damaged'):
        load_studies(packed)


def test_xml_with_kaggles_table_beside_it_knows_the_views(phantoms, tmp_path):
    "The table contradicts the order of names: it wins, in both layouts of reports."
    home, kaggle = (
        save_studies(phantoms, tmp_path / 'set', 'openi'),
        save_studies(phantoms, tmp_path / 'kaggle', 'kaggle'),
    )
    swap = {'Frontal': 'Lateral', 'Lateral': 'Frontal'}
    lines = (kaggle / 'indiana_projections.csv').read_text().splitlines()
    (home / 'indiana_projections.csv').write_text(
        '\n'.join(
            [
                lines[0],
                *(','.join([*line.split(',')[:2], swap[line.split(',')[2]]]) for line in lines[1:]),
            ]
        )
        + '\n'
    )
    shutil.copy(home / 'indiana_projections.csv', kaggle)
    true = {
        id: s
        for id, s in zip(
            [s.id for s in load_studies(save_studies(phantoms, tmp_path / 'again', 'openi'))],
            load_studies(tmp_path / 'again'),
            strict=True,
        )
    }
    for path in (home, kaggle):
        back = load_studies(path)
        assert 'told by the files' in ' '.join(back.facts.texts())
        for s in back:
            assert [v.image().tobytes() for v in s.views] == [
                v.image().tobytes() for v in reversed(true[s.id].views)
            ] and [v.name for v in s.views] == ['frontal', 'lateral']


def test_symmetry_tells_phantom_views():
    studies = make_studies(60, 23, frequencies='iu_xray')
    assert (
        sum(mirror_score(s.views[0].image()) > mirror_score(s.views[1].image()) for s in studies)
        >= 58
    )


def test_what_is_lost_has_a_reason(phantoms, tmp_path):
    home = save_studies(phantoms, tmp_path / 'set', 'openi')
    ids = [s.id for s in load_studies(home)]
    numbers = sorted(int(p.stem) for p in (home / 'ecgen-radiology').iterdir())
    gone, silent, bare = (home / f'ecgen-radiology/{n}.xml' for n in numbers[:3])
    gone.unlink()
    for path, old, new in (
        (silent, r'Label="FINDINGS">[^<]*<', 'Label="FINDINGS"><'),
        (bare, r'<parentImage.*</parentImage>', ''),
    ):
        path.write_text(re.sub(old, new, path.read_text(), flags=re.S))
    back = load_studies(home)
    assert len(back) == len(phantoms) - 3 and sorted(reason for _, reason in back.left_out) == [
        'no FINDINGS',
        'no image',
    ]
    assert {s.id for s in back} < set(ids) and r2gen_split()[numbers[0]][0] not in {
        s.id for s in back
    }
    assert 'are not in this copy' in ' '.join(back.facts.texts())
    drawn = load_studies(home, split=5, text='both')
    assert len(drawn) == len(back) and {s.split for s in drawn} <= set(SPLITS) and drawn.left_out
    assert (
        [s.split for s in drawn]
        == [s.split for s in load_studies(home, split=5, text='both')]
        != [s.split for s in load_studies(home, split=6)]
    )


def test_all_faults_of_a_copy_together(phantoms, tmp_path):
    home = save_studies(phantoms, tmp_path / 'set', 'openi')
    images = sorted((home / 'NLMCXR_png').iterdir())
    images[0].unlink()
    images[1].write_bytes(images[1].read_bytes()[:20])
    images[2].write_text('hello')
    (home / 'ecgen-radiology/4000.xml').write_text('<eCitation>')
    (home / 'ecgen-radiology/4001.xml').write_text('<!DOCTYPE x [<!ENTITY a "aaaa">]><eCitation/>')
    with pytest.raises(DataSetError) as told:
        load_studies(home)
    assert len(told.value.faults) == 5
    assert {Path(f).name for f, *_ in told.value.faults} == {p.name for p in images[:3]} | {
        '4000.xml',
        '4001.xml',
    }
    assert all(field and what and remedy for _, field, what, remedy in told.value.faults)
    assert len(told.value.studies) == len(phantoms) - 2  # three images of two studies
    with pytest.raises(DataSetError) as told:
        load_studies(home, check=False)
    assert len(told.value.faults) == 2


@pytest.mark.parametrize('member', ['../out.xml', '/etc/out.xml', 'link.xml', 'big.xml'])
def test_a_hostile_archive_does_nothing(member, tmp_path):
    with tarfile.open(tmp_path / 'NLMCXR_reports.tgz', 'w:gz') as tar:
        info = tarfile.TarInfo(member)
        if member == 'link.xml':
            info.type, info.linkname = tarfile.SYMTYPE, '/etc/passwd'
        if member == 'big.xml':
            info.size = 5_000_000
        tar.addfile(info, io.BytesIO(b'\0' * info.size))
    before = set(tmp_path.parent.iterdir())
    with pytest.raises(DataSetError):
        load_studies(tmp_path / 'NLMCXR_reports.tgz')
    assert set(tmp_path.parent.iterdir()) == before and [p.name for p in tmp_path.iterdir()] == [
        'NLMCXR_reports.tgz'
    ]


def test_what_a_layout_cannot_hold_is_refused(phantoms, tmp_path):
    for layout, change in (
        ('openi', dict(report='')),
        ('kaggle', dict(report=' ')),
        ('openi', dict(report='a\x01b')),
        ('openi', dict(views=phantoms[0].views[::-1])),
        ('openi', dict(views=())),
    ):
        with pytest.raises(UARError):
            save_studies([replace(phantoms[0], **change)], tmp_path / 'set', layout)
        assert not list(tmp_path.iterdir())
    with pytest.raises(UARError, match='places for val'):
        save_iu_xray(
            [replace(phantoms[0], split='val', id=f'v{i}') for i in range(297)], tmp_path / 'set'
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('layout', LAYOUTS)
def test_texts_come_back_to_the_letter(layout, phantoms, tmp_path):
    texts = [
        'A < B & "C", \'D\'; é ü 5 µm',
        'a;b,c',
        *['two\nlines', ' blank at both ends '] * (layout != 'mimic'),
    ]  # there, lines are filled anew
    back = load_studies(
        save_studies(
            [replace(phantoms[0], id=f's{i}', report=text) for i, text in enumerate(texts)],
            tmp_path / 'set',
            layout,
        )
    )
    assert sorted(s.report for s in back) == sorted(texts)


def test_all_readers_decide_on_views_by_one_rule(phantoms, tmp_path):
    """Where a file is silent, whole words of names decide, then the order; a note says so, and
    slices keep it."""
    names = ['bilateral.png', 'x_Lateral.png', 'last.png']
    for name in names:
        write_image(phantoms[0].views[0], tmp_path / 'images' / name)
    entry = dict(id='A', report='Clear.', image_path=names, split='train')
    (tmp_path / 'annotation.json').write_text(json.dumps([entry]))
    (tmp_path / 'reports.jsonl').write_text(json.dumps(entry) + '\n')
    (tmp_path / 'reports.csv').write_text(f'id,images,report\nA,{";".join(names)},Clear.\n')
    for file in ('annotation.json', 'reports.jsonl', 'reports.csv'):
        back = load_studies(tmp_path / file)
        assert [v.name for v in back[0].views] == ['frontal', 'lateral', 'unknown'], file
        assert '1 by the name, 2 by their order' in back.facts.texts('views')[0], file
        assert back[:1].facts == by_split(back)['train'].facts == back.facts
    alone = load_studies(tmp_path / 'images')
    assert {s.id: s.views[0].name for s in alone} == {
        'bilateral': 'frontal',
        'last': 'frontal',
        'x_Lateral': 'lateral',
    }
    assert '1 by the name, 2 by their order' in alone.facts.texts('views')[0]


@real
def test_real_reports_are_r2gens_id_by_id():
    """Every XML parses; the studies equal R2Gen's annotation in id, order, text and split; every
    other report has its reason."""
    studies = load_studies(DATA / 'NLMCXR_reports.tgz', check=False)
    theirs = [
        e
        for entries in json.loads((DATA / 'annotation.json').read_text()).values()
        for e in entries
    ]
    assert [(s.id, s.report, s.split) for s in studies] == [
        (e['id'], e['report'], e['split']) for e in theirs
    ]
    reports = read_openi(DATA / 'NLMCXR_reports.tgz')
    assert (
        len(reports) == 3365 == len(studies) + len(studies.left_out)
        and len({i for i, _ in studies.left_out} | {s.id for s in studies}) == 3365
    )
    assert Counter(reason for _, reason in studies.left_out) == {
        'no FINDINGS': 530,
        'no image': 88,
        'one image only': 382,
    }
    assert {len(s.views) for s in studies} == {
        2
    }  # as R2Gen; with most=0 every image of the reports
    whole = load_studies(DATA / 'NLMCXR_reports.tgz', check=False, most=0)
    assert (
        sum(len(s.views) for s in whole)
        == sum(len(r.images) for r in reports if r.id in {s.id for s in studies})
        == 4868
    )
    assert {k: len(v) for k, v in by_split(studies).items()} == dict(train=2069, val=296, test=0)


@real
def test_real_reports_unpacked_and_drawn(tmp_path):
    with tarfile.open(DATA / 'NLMCXR_reports.tgz') as tar:
        tar.extractall(tmp_path, filter='data')
    assert read_openi(tmp_path) == read_openi(DATA / 'NLMCXR_reports.tgz')
    drawn = load_iu_xray(tmp_path, check=False, split=0, text='both')
    assert {k: len(v) for k, v in by_split(drawn).items()} == {
        'train': round(0.7 * len(drawn)),
        'val': round(0.8 * len(drawn)) - round(0.7 * len(drawn)),
        'test': len(drawn) - round(0.8 * len(drawn)),
    }
    assert len(drawn) > 2365 and all(s.report.strip() for s in drawn)


@real
def test_kaggle_tables_made_of_the_real_reports(tmp_path):
    """Kaggle's tables hold the same sections: written from the real XMLs, they give the same
    studies."""
    reports = [r for r in read_openi(DATA / 'NLMCXR_reports.tgz') if r.images]
    with (
        open(tmp_path / 'indiana_reports.csv', 'w', newline='', encoding='utf-8') as f,
        open(tmp_path / 'indiana_projections.csv', 'w', newline='') as g,
    ):
        table, views = csv.writer(f), csv.writer(g)
        table.writerow('uid MeSH Problems image indication comparison findings impression'.split())
        views.writerow('uid filename projection'.split())
        for r in reports:
            table.writerow(
                [
                    r.number,
                    ';'.join(r.mesh),
                    '',
                    r.caption,
                    r.indication,
                    r.comparison,
                    r.findings,
                    r.impression,
                ]
            )
            for k, i in enumerate(r.images):
                views.writerow(
                    [r.number, kaggle_name(r.number, i), 'Lateral' if k == 1 else 'Frontal']
                )
    again = read_openi(tmp_path)
    assert [replace(r, views=()) for r in again] == [
        replace(r, automatic=(), views=()) for r in reports
    ]
    xml, kaggle = (load_studies(p, check=False) for p in (DATA / 'NLMCXR_reports.tgz', tmp_path))
    assert [(s.id, s.report, s.split) for s in xml] == [(s.id, s.report, s.split) for s in kaggle]


def test_large_sets_index_quickly_in_little_memory(tmp_path):
    """5,000 studies of two views in each layout: time and memory a study, so that 300,000 stay
    below 2 minutes and 1 GB."""
    n, report = 5_000, 'The lungs are clear. ' * 20
    ids = [f's{i:06}' for i in range(n)]
    entries = [
        dict(id=i, image_path=[f'{i}/0.png', f'{i}/1.png'], report=report + i, split='train')
        for i in ids
    ]
    files = {
        'reports.csv': 'id,images,report,split\n'
        + ''.join(f'{i},{i}/0.png;{i}/1.png,{report}{i},train\n' for i in ids),
        'reports.jsonl': ''.join(json.dumps(e) + '\n' for e in entries),
        'annotation.json': json.dumps({'train': entries}),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    code = (
        "import sys, time, tracemalloc\nfrom uar_nb.data.load import load_studies\nfor path in sys.argv[1:]:\n"  # noqa: E501
        "    t = time.process_time(); n = len(load_studies(path, check=False)); t = time.process_time() - t\n"  # noqa: E501
        "    tracemalloc.start(); kept = load_studies(path, check=False); print(n, t, tracemalloc.get_traced_memory()[1]); tracemalloc.stop()"  # noqa: E501
    )
    done = subprocess.run(
        [sys.executable, '-c', code, *(str(tmp_path / name) for name in files)],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    rows = [tuple(map(float, line.split())) for line in done.stdout.splitlines()]
    assert len(rows) == 3, done.stderr
    for count, seconds, size in rows:
        assert count == n and seconds * 60 < 120 and size * 60 < 1e9
