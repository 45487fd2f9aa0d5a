"""Stores that many processes read: equal batches from loader processes of both kinds, one copy
of the pages, and a tokenization that goes on after a kill."""

import hashlib
import os
import signal
import subprocess
import sys
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from pages import ROOT
from uar_nb.data.batch import PixelStore, StudyData, TokenStore
from uar_nb.data.study import Study, View
from uar_nb.data.text import Vocabulary

POSIX = hasattr(os, 'fork')


class Grey:
    "The mean grey of each 8×8 patch in 512 steps."

    name, sha256, codebook_size, grid, images = 'grey', 'grey', 512, 14, 0

    def encode(self, pixels):
        Grey.images += len(pixels)
        return (F.avg_pool2d(pixels, 8).flatten(1) * 512).long().clamp(max=511)


def some_studies(n):
    rng, words = (
        np.random.default_rng(5),
        'the lungs are clear no effusion heart large small left right'.split(),
    )
    views = [('frontal', 'lateral'), ('frontal',), ('lateral',), ('lateral', 'frontal', 'frontal')]
    return [
        Study(
            f's{i:04}',
            tuple(View(v, pixels=rng.integers(0, 256, (128, 128), np.uint8)) for v in views[i % 4]),
            ' '.join(rng.choice(words, 3 + i % 20)) + '.',
        )
        for i in range(n)
    ]


def make(folder, n=48):
    studies = some_studies(n)
    pixels = PixelStore.build(studies, folder / 'pixels', part=10)
    return StudyData(
        studies,
        pixels,
        TokenStore.build(pixels, Grey(), folder / 'tokens', part=10),
        Vocabulary.build([s.report.lower().replace('.', ' .') for s in studies], 1),
    )


def digest(batch):
    h = hashlib.sha256(' '.join(batch.study_ids).encode())
    for t in (
        batch.image_ids,
        batch.images,
        batch.view_ids,
        batch.view_mask,
        batch.report_ids,
        batch.report_keys,
    ):
        if t is not None:
            h.update(f'{t.dtype}{tuple(t.shape)}'.encode() + t.numpy().tobytes())
    return h.hexdigest()


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return make(tmp_path_factory.mktemp('stores'))


@pytest.mark.parametrize('method', [*(['fork'] if POSIX else []), 'spawn'])
def test_loader_processes_bring_equal_batches(data, method):
    order = data.order(3)
    pieces = [order[i : i + 7] for i in range(0, len(order), 7)]
    true = [digest(data.batch(p, 3)) for p in pieces]
    assert len(set(true)) == len(true)
    loader = DataLoader(
        pieces,
        batch_size=None,
        collate_fn=partial(data.without_texts().batch, epoch=3),
        num_workers=2,
        multiprocessing_context=method,
    )
    assert [digest(b) for b in loader] == true


def _train(data, rank, queue, go):
    "A training process: its batches, and whether its arrays are maps of the store's file."
    found = [digest(b) for b in data.batches(8, epoch=rank // 2)]
    maps = (
        [line.split()[-1] for line in Path('/proc/self/maps').read_text().splitlines()]
        if os.path.exists('/proc/self/maps')
        else []
    )
    queue.put(
        (
            rank,
            found,
            [type(a) is np.memmap for a in (data.tokens.ids, data.pixels.images)],
            [any(m == os.path.realpath(a.filename) for m in maps) for a in (data.tokens.ids,)]
            if maps
            else [True],
        )
    )
    go.wait(60)


@pytest.mark.skipif(not POSIX, reason='reads /proc, forks')
def test_training_processes_share_the_map(data):
    context = get_context('fork')
    queue, go = context.Queue(), context.Event()
    made = [context.Process(target=_train, args=(data, rank, queue, go)) for rank in range(4)]
    for p in made:
        p.start()
    found = {rank: rest for rank, *rest in (queue.get(timeout=60) for _ in made)}
    go.set()
    for p in made:
        p.join()
    for rank, (batches, kinds, mapped) in found.items():
        assert (
            batches == [digest(b) for b in data.batches(8, epoch=rank // 2)]
            and all(kinds)
            and all(mapped)
        )
    assert found[0][0] == found[1][0] != found[2][0]


def test_a_pickle_holds_no_array_and_a_light_one_no_study(data):
    import pickle

    whole, bare = (len(pickle.dumps(d)) for d in (data, data.without_texts()))
    assert bare < whole and bare < data.tokens.ids.nbytes / 4
    there = pickle.loads(pickle.dumps(data.without_texts()))
    assert (
        there.ids != []
        and there.studies == []
        and len(there) == len(data)
        and digest(there.batch([3, 1], 2)) == digest(data.batch([3, 1], 2))
    )


CODE = '''
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_store import Grey, PixelStore, TokenStore, some_studies
from pathlib import Path
class Dies(Grey):
    def encode(self, pixels):
        if Grey.images + len(pixels) > 120: os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(pixels)
folder = Path(sys.argv[2])
TokenStore.build(PixelStore.build(some_studies(48), folder/'pixels'), Dies(), folder/'tokens', part=10)
'''  # noqa: E501


@pytest.mark.skipif(not POSIX, reason='needs SIGKILL')
def test_tokenization_goes_on_after_a_kill(tmp_path, data):
    done = subprocess.run(
        [sys.executable, '-c', CODE, str(ROOT / 'tests' / 'data'), str(tmp_path)],
        env={
            **os.environ,
            'PYTHONPATH': os.pathsep.join([str(ROOT), str(ROOT / 'tools')]),
            'OMP_NUM_THREADS': '1',
        },
    )
    assert done.returncode == -signal.SIGKILL and not (tmp_path / 'tokens').exists()
    parts = sorted(p.name for p in tmp_path.glob('tokens.part-*/*.npy'))
    assert parts == ['0-10.npy', '10-20.npy']
    before = Grey.images
    store = TokenStore.build(
        PixelStore.build(some_studies(48), tmp_path / 'pixels'),
        Grey(),
        tmp_path / 'tokens',
        part=10,
    )
    assert Grey.images - before == (len(store.ids) - 20) * 5
    assert store.key == data.tokens.key and (store.ids == data.tokens.ids).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ['pixels', 'tokens']


def test_reading_images_goes_on(tmp_path, monkeypatch):
    studies, reads, image = some_studies(12), [], View.image

    def dies(self):
        if len(reads) == 11:
            raise KeyboardInterrupt
        reads.append(self)
        return image(self)

    monkeypatch.setattr(View, 'image', dies)
    with pytest.raises(KeyboardInterrupt):
        PixelStore.build(studies, tmp_path / 'pixels', part=5)
    monkeypatch.setattr(View, 'image', lambda self: reads.append(self) or image(self))
    store = PixelStore.build(studies, tmp_path / 'pixels', part=5)
    assert len(reads) == 11 + len(store) - 10 and [p.name for p in tmp_path.iterdir()] == ['pixels']
    assert (
        store.images == np.stack([v.pixels for s in studies for v in s.views])
    ).all() and store.key == PixelStore.build(studies).key


def test_words_are_kept_small(data):
    assert data.report_ids.dtype is torch.int32 and data.batch([0]).report_ids.dtype is torch.int64
    coded = [data.vocabulary.encode(c, data.max_words) for c in data.cleaned]
    rows = list(zip(data.report_ids.tolist(), data.lengths.tolist(), strict=True))
    assert [row[:n] for row, n in rows] == coded
    assert all(not any(row[n:]) for row, n in rows)
