"""What 300,000 studies cost: seconds and memory of indexing them, storing images and tokens,
opening the stores, and one epoch's batches, on generated files.

    python benchmarks/scale.py [--studies 300000] [--images 300000] [--small 3000] [--shared
    "what else ran"] [--only PART ...] [--out data/results/scale.json]

Every part runs in a process of its own. `peak_mb` is the most that the process held,
`private_mb` the most that it held for itself alone (without the pages of memory-mapped files,
which all processes share and the system takes back when it needs them); both with Python,
PyTorch and `uar_nb` loaded, which the row `imports` shows. The studies are MIMIC-CXR-like: two
images on average, reports of about 60 words, a tenth without FINDINGS. Each image file is
the same small JPEG: of an image, only header and presence count here.
"""

import argparse
import contextlib
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np

HERE, K, GRID, CODES, BATCH = Path(__file__).resolve().parent, 4, 14, 8192, 64
sys.path[:0] = [str(HERE.parent), str(HERE)]


# ---- generated files


def study_files(i):
    "(patient, study, images) of study i, as `index_mimic.generate` names them."
    return (
        str(10_000_000 + i // 3),
        str(50_000_000 + i),
        [f'{i:08x}-{k:08x}-00000000-11111111-22222222' for k in range(1 + i % 3)],
    )


def generate(root, n):
    "One tree of small images, and four ways to list it."
    import csv
    from io import BytesIO

    import index_mimic
    from PIL import Image

    Image.new('L', (64, 64), 90).save(jpeg := BytesIO(), 'JPEG')
    index_mimic.generate(root, n, loose=False)
    report = ' '.join(
        index_mimic.REPORT.split(':\n\n')[1].split('\n\n')[0].split()
    )  # its FINDINGS, without the number
    entries = {'train': [], 'val': [], 'test': []}
    with open(root / 'reports.csv', 'w', newline='') as f:
        table = csv.writer(f)
        table.writerow(['id', 'images', 'view', 'report', 'split', 'patient'])
        for i in range(n):
            subject, study, names = study_files(i)
            home, split = (
                f'p{subject[:2]}/p{subject}/s{study}',
                'val' if i // 3 % 97 == 0 else 'test' if i // 3 % 53 == 0 else 'train',
            )
            text, paths = (
                f'{report} Finding {i}. Report of study {i // 5}. {"The lungs are well expanded and clear. " * (i % 6)}',  # noqa: E501
                [f'{home}/{name}.jpg' for name in names],
            )
            (root / 'files' / home).mkdir(parents=True)
            for p in paths:
                (root / 'files' / p).write_bytes(jpeg.getvalue())
            table.writerow(
                [
                    study,
                    ';'.join(paths),
                    ';'.join(('frontal', 'lateral', 'frontal')[: len(paths)]),
                    text,
                    split,
                    subject,
                ]
            )
            entries[split].append(
                dict(
                    id=study,
                    study_id=int(study),
                    subject_id=int(subject),
                    report=text,
                    image_path=paths,
                    split=split,
                )
            )
    (root / 'annotation.json').write_text(json.dumps(entries))
    with open(root / 'reports.jsonl', 'w') as f:
        f.writelines(json.dumps(e) + '\n' for some in entries.values() for e in some)


# ---- parts: each is called in its own process, and gives a dict of what it found


class Clock:
    "Wall and processor seconds of a block."

    def __enter__(self):
        self.t, self.c = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.seconds, self.cpu = (
            round(time.perf_counter() - self.t, 2),
            round(time.process_time() - self.c, 2),
        )


class Tokenizer:
    """Stands in for a dVAE of 8,192 codes: the work of a real one is the network's, not this
    package's. It can be slowed down, so that a kill meets it at work."""

    name, sha256, codebook_size, grid = 'mean-of-patches', 'scale', CODES, GRID

    def __init__(self, pause=0.0):
        self.pause = pause

    def encode(self, pixels):
        import torch.nn.functional as F

        time.sleep(self.pause)
        return (F.avg_pool2d(pixels, 8).flatten(1) * CODES).long().clamp(max=CODES - 1)


def index(root, layout, check, **_):
    from uar_nb.data.load import load_studies
    from uar_nb.data.study import describe_studies

    file, images = {
        'annotation': ('annotation.json', root / 'files'),
        'table': ('reports.csv', root / 'files'),
        'lines': ('reports.jsonl', root / 'files'),
        'mimic': ('mimic-cxr-2.0.0-split.csv.gz', None),
    }[layout]
    if layout == 'mimic':
        from uar_nb.data.mimic import load_mimic
    with Clock() as t:
        studies = (
            load_mimic(root, check)
            if layout == 'mimic'
            else load_studies(root / file, check, images)
        )
    with Clock() as told:
        describe_studies(studies)
    return dict(
        studies=len(studies),
        left_out=len(studies.left_out),
        pictures=sum(len(s.views) for s in studies),
        seconds=t.seconds,
        cpu=t.cpu,
        describe_seconds=told.seconds,
    )


def frontals(root, n):
    "n studies of one frontal image, whose reports come from the annotation file."
    from uar_nb.data.load import load_studies
    from uar_nb.data.study import Study

    some = load_studies(root / 'annotation.json', False, root / 'files')
    return [Study(s.id, s.views[:1], s.report, s.split, None, s.patient) for s in some[:n]]


def store_images(root, n, folder, **_):
    """PixelStore.build from files; the decoding itself is left out (every file gives an image
    of noise), for it is the image's affair."""
    from uar_nb.data.batch import PixelStore
    from uar_nb.data.study import View

    noise = np.random.default_rng(0).integers(0, 256, (64, 128, 128), np.uint8)
    View.image = lambda self: noise[hash(self.path) % 64]
    studies = frontals(root, n)
    with Clock() as t:
        store = PixelStore.build(studies, folder / f'pixels-{n}')
    return dict(
        pictures=len(store),
        seconds=t.seconds,
        cpu=t.cpu,
        store_mb=round(store.images.nbytes / 1e6),
    )


def open_images(root, n, folder, **_):
    from uar_nb.data.batch import PixelStore

    studies = frontals(root, n)
    with Clock() as t:
        store = PixelStore.build(studies, folder / f'pixels-{n}')
    return dict(pictures=len(store), seconds=t.seconds, cpu=t.cpu)


def tokenize(root, n, folder, stop=None, pause=0.0, name='tokens', **_):
    import torch

    from uar_nb.data.batch import PixelStore, TokenStore

    torch.set_num_threads(1)
    pixels = PixelStore.build(frontals(root, n), folder / f'pixels-{n}')
    if stop:  # this process is killed, without warning, once so many parts lie there

        def watch():
            while len(list(folder.glob(f'{name}-{n}.part-*/*.npy'))) < stop:
                time.sleep(0.002)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=watch, daemon=True).start()
    with Clock() as t:
        store = TokenStore.build(pixels, Tokenizer(pause), folder / f'{name}-{n}', crops=K)
    return dict(
        pictures=len(store.ids),
        crops=K,
        seconds=t.seconds,
        cpu=t.cpu,
        store_mb=round(store.ids.nbytes / 1e6),
        sha=hashlib.sha256(store.ids.tobytes()).hexdigest()[:16],
    )


def random_tokens(folder, n, pixels):
    """A token store of random ids, written as TokenStore.build writes it; the tokenizing of so
    many images would take hours."""
    from uar_nb.core import atomic_write
    from uar_nb.data import store as stores
    from uar_nb.data.batch import TokenStore

    about = dict(
        tokenizer='random',
        sha256='scale',
        codebook_size=CODES,
        grid=GRID,
        pixels=pixels.key,
        protocol={},
        crops=K,
        seed=0,
    )
    key, home = stores.store_key(**about), folder / f'random-{n}'
    if not (home / 'store.json').exists():
        home.mkdir(exist_ok=True)
        ids, rng = (
            np.lib.format.open_memmap(home / 'ids.npy', 'w+', np.uint16, (n, K + 1, GRID**2)),
            np.random.default_rng(n),
        )
        for a in range(0, n, 10_000):
            ids[a : a + 10_000] = rng.integers(
                0, CODES, (min(10_000, n - a), K + 1, GRID**2), np.uint16
            )
        ids.flush()
        atomic_write(
            home / 'store.json', dict(key=key, content=stores.content_hash(ids), about=about)
        )
    with Clock() as t:
        found = stores.open_store(home, 'ids.npy', dict(key=key))
    return TokenStore(found[0], key, about), t


def study_data(root, n, folder):
    "(StudyData of n studies, times of its making)."
    from uar_nb.data.batch import PixelStore, StudyData
    from uar_nb.data.text import Vocabulary, clean_report

    studies = frontals(root, n)
    image = (
        np.lib.format.open_memmap(folder / f'black-{n}.npy', 'w+', np.uint8, (n, 128, 128))
        if not (folder / f'black-{n}.npy').exists()
        else np.load(folder / f'black-{n}.npy', mmap_mode='r')
    )
    pixels = PixelStore(
        image, {s.id: [(s.views[0].name, i)] for i, s in enumerate(studies)}, key=f'black {n}'
    )  # a sparse file: nothing is read of it
    tokens, opened = random_tokens(folder, n, pixels)
    words = Vocabulary.build([clean_report(s.report, 'mimic_cxr') for s in studies[:3000]], 3)
    with Clock() as made:
        data = StudyData(studies, pixels, tokens, words, rules='mimic_cxr', max_words=100)
    return data, opened, made


def digest(batch):
    h = hashlib.sha256(' '.join(batch.study_ids).encode())
    for t in (
        batch.image_ids,
        batch.view_ids,
        batch.view_mask,
        batch.report_ids,
        batch.report_keys,
    ):
        h.update(t.numpy().tobytes())
    return h.hexdigest()


def prepare(root, n, folder, **_):
    data, opened, made = study_data(root, n, folder)
    return dict(studies=len(data), seconds=made.seconds, cpu=made.cpu, open_seconds=opened.seconds)


def epoch(root, n, folder, least=60_000, **_):
    """One epoch, order and batches; a small one several times, and the best of them; every page
    of the store was read before."""
    import torch

    torch.set_num_threads(1)
    data, *_ = study_data(root, n, folder)
    for _ in data.batches(BATCH, epoch=0):
        pass
    times = []
    for e in range(1, 1 + max(3, least // n)):
        with Clock() as t:
            count = sum(len(b) for b in data.batches(BATCH, epoch=e))
        assert count == n
        times.append((t.cpu / n * 1e6, t.seconds / n * 1e6))
    with Clock() as t:
        for _ in range(max(1, least // n)):
            data.order(0)
    cpu, wall = (sorted(x)[len(x) // 2] for x in zip(*times, strict=True))
    return dict(
        studies=n,
        epochs=len(times),
        batch=BATCH,
        cpu_us_per_study=round(cpu, 1),
        wall_us_per_study=round(wall, 1),
        order_us_per_study=round(t.cpu / max(1, least // n) / n * 1e6, 2),
    )


def _private(pids):
    out = []
    for pid in pids:
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f'/proc/{pid}/status').read_text().splitlines()
            private = next(line for line in lines if line.startswith('RssAnon'))
            out.append(int(private.split()[1]) // 1024)
    return out


def loaders(root, n, folder, method, workers=2, batches=400, **_):
    """Batches that DataLoader's processes bring, against those that this process makes; the
    memory of the loader processes."""
    import torch
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    data, *_ = study_data(root, n, folder)
    order = data.order(1)
    pieces = [order[i : i + BATCH] for i in range(0, min(n, batches * BATCH), BATCH)]
    true, seen, top = [digest(data.batch(p, 1)) for p in pieces], [], []
    with Clock() as t:
        loader = iter(
            DataLoader(
                pieces,
                batch_size=None,
                collate_fn=partial(data.without_texts().batch, epoch=1),
                num_workers=workers,
                multiprocessing_context=method,
            )
        )
        for b in loader:
            seen.append(digest(b))
            if len(seen) in (1, len(pieces) // 2):
                top.append(_private(w.pid for w in loader._workers))
    return dict(
        studies=n,
        workers=workers,
        method=method,
        batches=len(pieces),
        equal=seen == true,
        seconds=t.seconds,
        worker_private_mb=max(map(max, top)) if any(top) else None,
    )


def imports(**_):
    import uar_nb.data.load
    import uar_nb.scoring.evaluate  # noqa: F401

    return {}


# ---- running and telling


def call(part, root, folder, **options):
    "Run a part in its own process and watch its memory."
    order = json.dumps(dict(part=part, root=str(root), folder=str(folder), **options))
    child = subprocess.Popen(
        [sys.executable, __file__, '--call', order],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    most = dict(VmHWM=0, RssAnon=0)

    def watch():
        while child.poll() is None:
            try:
                for line in Path(f'/proc/{child.pid}/status').read_text().splitlines():
                    name = line.split(':')[0]
                    if name in most:
                        most[name] = max(most[name], int(line.split()[1]))
            except OSError:
                pass
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    begin, text = time.perf_counter(), child.communicate()[0]
    thread.join()
    found = (
        json.loads(text.splitlines()[-1])
        if child.returncode == 0
        else dict(status=child.returncode)
    )
    if child.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f'{part} failed')
    memory = (
        dict(peak_mb=round(most['VmHWM'] / 1000), private_mb=round(most['RssAnon'] / 1000))
        if most['VmHWM']
        else {}
    )
    return dict(**found, **memory, process_seconds=round(time.perf_counter() - begin, 1))


def plan(a):
    "(name of the row, part, its options)."
    n, p, s = a.studies, a.images, a.small
    yield 'imports', 'imports', {}
    for layout in ('annotation', 'table', 'lines', 'mimic'):
        for check in (False, 'exists', *[True] * (layout != 'mimic')):
            yield f'index {layout}, check={check}', 'index', dict(layout=layout, check=check)
    for size in dict.fromkeys((s, min(10 * s, p), p)):
        yield f'store {size:,} pictures', 'store_images', dict(n=size)
        yield f'open {size:,} pictures, first time', 'open_images', dict(n=size)
        yield f'open {size:,} pictures, again', 'open_images', dict(n=size)
    for size in (s, min(10 * s, p)):
        yield f'tokenize {size:,} pictures', 'tokenize', dict(n=size)
    yield (
        f'tokenize {s:,} pictures, killed',
        'tokenize',
        dict(n=s, stop=max(1, s // 1024), pause=0.02, name='killed'),
    )
    yield f'tokenize {s:,} pictures, the rest', 'tokenize', dict(n=s, name='killed')
    for size in (s, n):
        yield f'prepare {size:,} studies', 'prepare', dict(n=size)
        yield f'epoch of {size:,} studies', 'epoch', dict(n=size)
    for method in ('fork', 'spawn'):
        yield f'loaders {method}, {n:,} studies', 'loaders', dict(n=n, method=method)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--studies', type=int, default=300_000)
    parser.add_argument(
        '--images', type=int, help='in the image store; default: as many as studies'
    )
    parser.add_argument('--small', type=int, default=3_000)
    parser.add_argument('--shared', default='', help='what else ran on the machine')
    parser.add_argument('--only', nargs='*', default=[], help='rows that begin so')
    parser.add_argument('--out', type=Path)
    parser.add_argument('--call', help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.call:
        order = json.loads(a.call)
        part, root, folder = order.pop('part'), Path(order.pop('root')), Path(order.pop('folder'))
        print(json.dumps(globals()[part](root=root, folder=folder, **order)))
        return
    from uar_nb.core import atomic_write

    a.images = min(a.images or a.studies, a.studies)
    memory = (
        next(
            (
                round(int(line.split()[1]) / 1e6)
                for line in Path('/proc/meminfo').read_text().splitlines()
                if line.startswith('MemTotal')
            ),
            None,
        )
        if os.path.exists('/proc/meminfo')
        else None
    )
    rows = {}
    result = dict(
        studies=a.studies,
        pictures=a.images,
        small=a.small,
        machine=f'{platform.machine()}, {os.cpu_count()} cores, {memory} GB of memory, local disk',
        shared=a.shared,
        python=platform.python_version(),
        rows=rows,
    )
    with tempfile.TemporaryDirectory() as home:
        root, folder = Path(home) / 'set', Path(home) / 'stores'
        root.mkdir(), folder.mkdir()
        begin = time.perf_counter()
        generate(root, a.studies)
        print(f'generated in {time.perf_counter() - begin:.0f} s', flush=True)
        for name, part, options in plan(a):
            if a.only and not any(name.startswith(o) for o in a.only):
                continue
            rows[name] = row = call(part, root, folder, **options)
            print(
                f'{name:42}',
                '  '.join(
                    f'{k} {v:,}'
                    if isinstance(v, (int, float)) and not isinstance(v, bool)
                    else f'{k} {v}'
                    for k, v in row.items()
                ),
                flush=True,
            )
            if a.out:
                atomic_write(a.out, result)  # what was measured stays, should a later part fail


if __name__ == '__main__':
    main()
