"""The audit: agrees with what was counted by other means on IU-Xray, works on broken sets, and
tells no report text."""

import csv
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from uar_nb.apps.audit import audit, audit_folder, score_baselines
from uar_nb.core import UARError
from uar_nb.data.image import read_image
from uar_nb.data.load import save_studies
from uar_nb.data.quality import (
    check_images,
    find_duplicates,
    hash_distance,
    near_pairs,
    perceptual_hash,
    polarity,
)
from uar_nb.data.study import Study, View
from uar_nb.phantom.generator import make_studies

DATA = Path(os.environ.get('UAR_DATA', 'UAR_DATA is not set'))
real = pytest.mark.skipif(
    not (DATA / 'iu_xray' / 'annotation.json').is_file(),
    reason='UAR_DATA names no folder with iu_xray/annotation.json',
)
frontals = pytest.mark.skipif(
    not (DATA / 'frontal' / 'manifest.csv').is_file(),
    reason='UAR_DATA names no folder with frontal/manifest.csv',
)


@pytest.fixture(scope='module')
def phantoms():
    return [
        s
        for split, n in dict(train=30, val=6, test=8).items()
        for s in make_studies(n, seed=9, split=split)
    ]


@real
def test_iu_xray_agrees_with_counts_made_elsewhere():
    """Counted by another program on the same file, with R2Gen's own tokenizer (threshold: words
    seen so often in training, with <unk>)."""
    n = audit(DATA / 'iu_xray', with_images=False, baselines=False).numbers
    train, val = n['reports']['train'], n['reports']['val']
    assert [n['splits'][s]['studies'] for s in ('train', 'val')] == [2069, 296]
    assert {s: n['splits'][s]['images_per_study'] for s in ('train', 'val')} == {
        'train': {'2': 2069},
        'val': {'2': 296},
    }
    assert [n['vocabulary'][str(k)]['size'] for k in range(1, 6)] == [1502, 976, 760, 652, 574]
    assert (round(train['mean'], 1), train['median'], train['p95'], train['longest']) == (
        36.4,
        34,
        65,
        162,
    )
    assert (round(100 * train['cut_share']['60'], 1), round(100 * val['cut_share']['60'], 1)) == (
        8.6,
        8.4,
    )
    assert train['xxxx_reports'] == 907
    assert all(
        0.012 <= n['vocabulary']['3']['unknown'][s] <= 0.015 for s in ('train', 'val')
    )  # '<unk> 1.2-1.5 % of words'
    assert n['faults']['count'] == 0


@real
def test_the_archive_of_reports_gives_the_same_numbers():
    "Reports, not images: how many of those a study keeps is the reader's business."
    found = audit(DATA / 'iu_xray' / 'NLMCXR_reports.tgz', with_images=False, baselines=False)
    n, other = found.numbers, audit(DATA / 'iu_xray', with_images=False, baselines=False).numbers
    assert n['left_out'] == {'no FINDINGS': 530, 'one image only': 382, 'no image': 88}
    assert (
        'studies left out: 530 no FINDINGS, 382 one image only, 88 no image'
        in str(found).splitlines()
    )
    for key in ('reports', 'vocabulary', 'shared'):
        assert n[key] == other[key]
    assert [n['splits'][s]['studies'] for s in ('train', 'val', 'test')] == [
        2069,
        296,
        0,
    ] and not found.failed


@real
def test_iu_xray_baselines_are_those_of_the_scorer():
    "The most frequent training report against the validation split, written out here once more."
    from collections import Counter

    from pycocoevalcap.bleu.bleu import Bleu

    from uar_nb.data.text import Vocabulary, clean_report, ground_truth

    data = json.loads((DATA / 'iu_xray' / 'annotation.json').read_text(encoding='utf-8'))
    cleaned = {s: [clean_report(e['report']) for e in data[s]] for s in ('train', 'val')}
    words = Vocabulary.build(cleaned['train'], 3)
    text = {s: [ground_truth(c, words, 60) for c in some] for s, some in cleaned.items()}
    top = Counter(text['train']).most_common()
    best = min(r for r, n in top if n == top[0][1])
    scores, _ = Bleu(4).compute_score(
        {i: [r] for i, r in enumerate(text['val'])},
        {i: [best] for i in range(len(text['val']))},
        verbose=0,
    )
    found = score_baselines({**cleaned, 'test': []})
    assert found.split == 'val' and found.chosen_on == 'train'
    np.testing.assert_allclose(
        [found.rows['most frequent'][f'BLEU_{k}'] for k in range(1, 5)], scores, rtol=1e-9
    )
    assert (
        found.rows['best constant by BLEU_4']['BLEU_4']
        > found.rows['random, mean of 20 draws']['BLEU_4']
    )


@real
def test_real_images_that_are_there_and_those_that_are_not():
    found = audit(DATA / 'iu_xray', baselines=False)
    n, lines = found.numbers, str(found).splitlines()
    listed = [
        line
        for line in lines
        if line.startswith('  - images/') and line.endswith(': image not found — check the path')
    ]
    assert (
        len(listed) == 20
        and lines[-1].startswith('  … and 4,698 more;')
        and not any(str(DATA) in line for line in lines)
    )
    assert found.failed and len(found.faults) == 4718
    assert n['pictures']['states'] == {'ok': 12, 'missing': 2 * (2069 + 296 - 6)}
    assert (
        n['faults']['kinds'] == {'image not found': n['pictures']['states']['missing']}
        and len(n['faults']['rows']) == 1000
    )


@real
def test_no_report_text_in_the_result(tmp_path):
    "Of a report, no run of seven words stands in the JSON or on the page."
    found = audit(DATA / 'iu_xray', baselines=True, with_images=False)
    page = found.save(tmp_path).read_text(encoding='utf-8') + (tmp_path / 'audit.json').read_text(
        encoding='utf-8'
    )
    data = json.loads((DATA / 'iu_xray' / 'annotation.json').read_text(encoding='utf-8'))
    for e in data['train'] + data['val']:
        words = e['report'].split()
        assert not any(
            ' '.join(words[i : i + 7]) in page
            for i in range(0, max(1, len(words) - 6), 7)
            if len(words) > 6
        ), e['id']


@frontals
def test_real_frontals_polarity_and_twins():
    with open(DATA / 'frontal' / 'manifest.csv', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    facts = check_images(
        [
            Study(str(i), (View('frontal', DATA / 'frontal' / r['image']),))
            for i, r in enumerate(rows)
        ]
    )
    assert {f.state for f in facts} <= {'ok', 'inverted'} and sum(
        f.state == 'inverted' for f in facts
    ) <= 4  # of 360
    inverted = polarity(255 - np.stack([read_image(DATA / 'frontal' / r['image']) for r in rows]))
    assert (inverted > 0).sum() <= 4
    groups, pairs = find_duplicates(facts)
    twins = {frozenset(p) for g in groups for p in [g[:2]]} | {frozenset(p[:2]) for p in pairs}
    patients = sorted(tuple(sorted(rows[i]['patient'] for i in t)) for t in twins)
    assert patients == [('gb178', 'gb97')] * 4 + [('gb364', 'gb364')]  # seen and compared by eye


def test_hash_against_scipy(phantoms):
    fft = pytest.importorskip('scipy.fft')
    for p in (v.pixels for s in phantoms[:20] for v in s.views):
        low = fft.dctn(p.reshape(32, 4, 32, 4).mean((1, 3)), norm='ortho')[:16, :16].ravel()
        ours = np.unpackbits(perceptual_hash(p)).astype(bool)
        assert (
            ours != (low > np.median(low[1:]))
        ).sum() <= 2  # float32 against float64: a value at the median may fall to either side


def test_near_pairs_are_all_pairs():
    rng = np.random.default_rng(1)
    base = rng.integers(0, 256, (60, 32), dtype=np.uint8)
    noisy = np.packbits(np.unpackbits(base, axis=1) ^ (rng.random((60, 256)) < 0.1), axis=1)
    hashes = np.concatenate([base, noisy])
    brute = {
        (i, j, int(hash_distance(hashes[i], hashes[j])))
        for i in range(120)
        for j in range(i + 1, 120)
    }
    for limit in (10, 26, 40):
        for block in (7, 64, 4096):
            assert {tuple(p) for p in near_pairs(hashes, limit, block).tolist()} == {
                b for b in brute if b[2] <= limit
            }


@pytest.mark.parametrize('layout', ['r2gen', 'phantom', 'folder'])
def test_every_layout_of_a_sound_set(phantoms, layout, tmp_path):
    n = audit(save_studies(phantoms, tmp_path / 'set', layout), baselines=False).numbers
    assert (
        n['faults']['count'] == 0
        and n['pictures']['states'] == {'ok': 88}
        and n['splits']['test']['studies'] == 8
    )
    assert json.loads(json.dumps(n, allow_nan=False)) == n


def test_broken_table_and_broken_annotation_are_examined(phantoms, tmp_path):
    "What the loader refuses is listed; what stands is counted."
    root = save_studies(phantoms, tmp_path / 'table', 'folder')
    lines = (root / 'reports.csv').read_text(encoding='utf-8').splitlines()
    lines[1] = lines[1].replace(',train,', ',dev,')
    (root / 'reports.csv').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    next(root.rglob('*.png')).write_bytes(b'\x89PNG\r\n\x1a\nnothing')
    found = audit(root)
    n = found.numbers
    assert any("'dev'" in r['what'] for r in n['faults']['rows'])
    assert n['splits']['all']['studies'] == 43 and n['splits']['val']['studies'] == 6
    assert found.save(tmp_path / 'page').exists()
    for text in ('', '[', '{"train": 3}', '[1, 2]', '{"train": [{"id": 1}]}'):
        (tmp_path / 'annotation.json').write_text(text, encoding='utf-8')
        n = audit(tmp_path / 'annotation.json').numbers
        assert n['faults']['count'] >= 1 and n['splits']['all']['studies'] == 0, text


def test_studies_in_memory_with_anything_wrong(phantoms, tmp_path):
    a, b, c, *rest = phantoms
    broken = [
        a,
        a,
        replace(b, split='dev'),
        replace(c, views=()),
        replace(c, id='none', report=''),
        replace(a, id='bad', views=(View('frontal'), View('lateral', tmp_path / 'gone.png'))),
        replace(
            a,
            id='odd',
            views=(
                View('frontal', pixels=np.zeros((3, 3), np.uint8)),
                View('unknown', pixels=np.full((128, 128), 9, np.uint8)),
            ),
        ),
        *rest,
    ]
    found = audit(broken)
    states = {(r['study'], r['view'], r['state']) for r in found.numbers['pictures']['found']}
    assert states == {
        ('bad', 'frontal', 'unreadable'),
        ('bad', 'lateral', 'missing'),
        ('odd', 'frontal', 'unreadable'),
        ('odd', 'unknown', 'blank'),
    }
    whats = [r['what'] for r in found.numbers['faults']['rows']]
    for words in (
        'id names 2 studies',
        "split 'dev' is unknown",
        'has no image',
        'report is empty',
    ):
        assert words in whats
    page = found.save(tmp_path / 'page').read_text(encoding='utf-8')
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)


@pytest.mark.parametrize('studies', [[], 'one', 'no reports', 'one test study'])
def test_small_sets(phantoms, studies, tmp_path):
    some = (
        dict(
            one=phantoms[:1],
            **{
                'no reports': [replace(s, report='') for s in phantoms[:3]],
                'one test study': [*phantoms[:9], phantoms[-1]],
            },
        ).get(studies, [])
        if studies
        else []
    )
    found = audit(some)
    json.dumps(found.numbers, allow_nan=False)
    assert str(found) and found.save(tmp_path).exists()
    assert ('skipped' in found.numbers['floors']) == (studies != 'one test study')


def test_without_the_scorer_the_rest_is_told(phantoms, monkeypatch):
    for name in [m for m in sys.modules if m.startswith('pycocoevalcap')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'pycocoevalcap', None)
    n = audit(phantoms, with_images=False).numbers
    assert 'pycocoevalcap' in n['floors']['skipped'] and n['reports']['train']['reports'] == 30
    assert n['pictures'] == {'skipped': 'not asked for'}


def test_only_a_folder_of_an_audit_is_written_again(phantoms, tmp_path):
    """A new, an empty and an older audit's folder are taken, with what somebody put beside it;
    anything else is refused untouched."""
    broken = [replace(phantoms[0], report=''), *phantoms[1:3]]
    (tmp_path / 'set').mkdir()
    audit(broken, baselines=False).save(tmp_path / 'set')
    assert sorted(p.name for p in (tmp_path / 'set').iterdir()) == [
        'audit.json',
        'faults.txt',
        'index.html',
    ]
    assert (tmp_path / 'set' / 'faults.txt').read_text(
        encoding='utf-8'
    ) == f'{phantoms[0].id}: report is empty — write it, or leave the study out\n'
    (tmp_path / 'set' / 'mine.txt').write_text('stays')
    again = audit(phantoms[:3], baselines=False)
    again.save(tmp_path / 'set')
    assert (
        sorted(p.name for p in (tmp_path / 'set').iterdir())
        == ['audit.json', 'index.html', 'mine.txt']
        and not again.failed
    )
    assert (
        json.loads((tmp_path / 'set' / 'audit.json').read_text(encoding='utf-8')) == again.numbers
    )
    for name, content in (
        ('annotation.json', '[]'),
        ('index.html', 'mine'),
        ('audit.json', '{}'),
        ('audit.json', '[[1]]'),
        ('audit.json', 'no JSON'),
    ):
        home = tmp_path / f'{name}-{len(content)}-{content[0]}'
        home.mkdir()
        (home / name).write_text(content)
        for target in (home, home / name):
            with pytest.raises(UARError):
                again.save(target)
        assert [(p.name, p.read_text()) for p in home.iterdir()] == [(name, content)]


@pytest.mark.parametrize(
    'source,name',
    [
        ('data/iu_xray', 'iu_xray'),
        ('data/iu_xray/', 'iu_xray'),
        ('my set (2)', 'my-set-2'),
        ('a/../b', 'b'),
        ('/', 'set'),
        ('..hidden', 'hidden'),
        ('x;rm -rf $HOME', 'x-rm--rf-HOME'),
        ('a\nb', 'a-b'),
        ('Röntgen', 'Röntgen'),
        ('y' * 300, 'y' * 60),
        ([], 'memory'),
    ],
)
def test_names_of_folders(source, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert audit_folder(source) == Path('runs/audit', name)
    assert (
        audit_folder(source, tmp_path / 'mine') == tmp_path / 'mine'
        and not (tmp_path / 'runs').exists()
    )


def test_a_file_is_named_with_its_folder_and_the_default_is_used(phantoms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_studies(phantoms[:3], 'some set', 'phantom')
    found = audit('some set/annotation.json', baselines=False)
    assert found.save() == Path(
        'runs/audit/some-set-annotation/index.html'
    ) and found.folder == Path('runs/audit/some-set-annotation')
    next(Path('some set').rglob('*.png')).unlink()
    found = audit(Path('some set'), baselines=False)
    assert found.failed and found.numbers['faults']['rows'][0]['file'].startswith('images/')


def test_the_text_lists_twenty_faults_and_where_the_others_are(phantoms, tmp_path):
    found = audit([replace(s, views=()) for s in phantoms[:25]], baselines=False)
    lines = str(found).splitlines()
    assert [line for line in lines if line.startswith('  - train')] == [
        f'  - {s.id}: has no image — name at least one' for s in phantoms[:20]
    ]
    assert lines[-1] == '  … and 5 more; `save` writes all of them to faults.txt'
    found.save(tmp_path / 'a')
    assert (
        str(found).splitlines()[-1] == f'  … and 5 more; all are in {tmp_path / "a" / "faults.txt"}'
        and len((tmp_path / 'a' / 'faults.txt').read_text(encoding='utf-8').splitlines()) == 25
    )


def test_sizes_and_aspect_ratios_stand_in_one_line(phantoms):
    wide = replace(
        phantoms[0],
        id='wide',
        views=(View('frontal', pixels=np.tile(phantoms[0].views[0].pixels, (1, 2))),),
    )
    line = next(
        line
        for line in str(audit([*phantoms[:2], wide], baselines=False)).splitlines()
        if line.startswith('sizes: ')
    )
    assert (
        line
        == 'sizes: 2: 128×128 (4), 256×128 (1); width / height: median 1.00, nine in ten 1.00–1.80, all 1.00–2.00'  # noqa: E501
    )


def test_names_on_the_page_are_escaped(phantoms, tmp_path):
    evil = [replace(phantoms[0], id='<script>alert(1)</script>', split='<b>', views=())]
    page = audit(evil).save(tmp_path).read_text(encoding='utf-8')
    assert '<script>' not in page and '&lt;script&gt;' in page
