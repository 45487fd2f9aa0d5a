"""Which images are told to be unlike the training: the score of `tokenizer.surprise` beside
others, on phantoms, on real X-rays, and on images that are no chest X-ray at all.

    python benchmarks/unlike.py [--photographs FOLDER ...] [--out data/results/unlike.json]

Nine minutes of CPU time. Three questions, each a part of the result:

- candidates: which score tells foreign images best? 1,500 training phantoms of `phantom-small`
  are counted, 1,500 others give the 99 % quantile of each score, 1,200 fresh ones false alarms.
- shipped: what `phantom-small` says with the statistics that ship with it, of 15,000 phantoms.
- real: the statistics of half of the patients of the 360 real X-rays below UAR_DATA, ten times;
  the images of the other half are the ones that should pass. With the shipped dVAE, and with one
  trained on that half. Left out where UAR_DATA is not set.

Photographs are those that scikit-learn and Matplotlib bring along and all of the folders given,
each whole and as four corners of two thirds of its side. The kept result was given the folder
`data` of scikit-image 0.26.
"""

import argparse
import csv
import os
from pathlib import Path

import matplotlib
import numpy as np
import sklearn.datasets
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy.stats import rankdata

from uar_nb.checkpoint import load_checkpoint
from uar_nb.core import atomic_write, numpy_rng
from uar_nb.data.image import read_image, resize_image, to_float
from uar_nb.phantom.generator import make_studies
from uar_nb.tokenizer.dvae import DVAEConfig, train_dvae
from uar_nb.tokenizer.surprise import (
    QUANTILE,
    TokenStatistics,
    left_out_surprises,
    position_counts,
    surprise,
)

SEEDS = (101, 102, 103)  # of fresh phantoms, 400 each
SPLITS = 10  # halves of the real patients
TRAINED, STEPS = 3, 400  # dVAEs trained on a half, and their steps
COUNT = 100  # images of each drawn kind
WORDS = (
    'the heart is normal in size and lungs are clear no pleural effusion File Edit View Help 0.12'
).split()


# ---- images


def resized(image):
    "A Pillow image or array as the package's small grey image."
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image.astype(np.uint8))
    return np.asarray(image.convert('L').resize((128, 128), Image.Resampling.BILINEAR))


def coloured_noise(rng, power):
    "Noise whose amplitude falls as 1 / frequency ** power."
    rows, columns = np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = 1
    spectrum = np.fft.fft2(rng.normal(size=(128, 128))) / frequency**power
    spectrum[0, 0] = 0
    image = np.fft.ifft2(spectrum).real
    return np.clip(128 + 40 * image / image.std(), 0, 255)


def page_of_text(rng, dark):
    "A screen full of words."
    image = Image.new('L', (640, 640), 0 if dark else 255)
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=int(rng.integers(14, 40)))
    for top in np.arange(5, 640, font.size * 1.3):
        pen.text((10, top), ' '.join(rng.choice(WORDS, 12)), fill=255 if dark else 0, font=font)
    return resized(image)


def slice_like(rng):
    "A bright ellipse with two dark ones and a bright disc: as a CT slice looks from afar."
    y, x = np.mgrid[:128, :128]
    middle_x, middle_y = 64 + 3 * rng.normal(size=2)
    width, height = rng.uniform(45, 58), rng.uniform(35, 48)

    def inside(left, top, a, b):
        return ((x - middle_x - left) / a) ** 2 + ((y - middle_y - top) / b) ** 2 < 1

    image = np.zeros((128, 128))
    image[inside(0, 0, width, height)] = 100
    image[inside(0, 0, 0.92 * width, 0.92 * height)] = 150
    for side in (-1, 1):
        image[inside(side * 0.45 * width, 0, 0.33 * width, 0.6 * height)] = 25
    image[inside(0, 0.6 * height, 8, 8)] = 250
    return np.clip(image + 6 * rng.normal(size=image.shape), 0, 255)


def drawn(name, make):
    "Images of a kind, each with random numbers of its own."
    images = [make(numpy_rng('unlike', name, n)) for n in range(COUNT)]
    return np.stack(images).astype(np.uint8)


def photographs(folders):
    "(images, names of the files)"
    matplotlib_data = Path(matplotlib.get_data_path()) / 'sample_data'
    own = [Path(sklearn.datasets.__file__).parent / 'images', matplotlib_data]
    files = [p for f in (*own, *map(Path, folders)) for p in sorted(f.iterdir())]
    images, names = [], []
    for file in files:
        if file.suffix not in ('.jpg', '.jpeg', '.png') or file.stem in NO_PHOTOGRAPHS:
            continue
        whole = Image.open(file).convert('L')
        width, height = whole.size
        side = 2 * min(whole.size) // 3
        corners = [(x, y) for x in (0, width - side) for y in (0, height - side)]
        images.append(resized(whole))
        images += [resized(whole.crop((x, y, x + side, y + side))) for x, y in corners]
        names.append(file.stem)
    return np.stack(images), names


NO_PHOTOGRAPHS = {
    # drawings, texts and logos among the sample files
    *'logo logo2 Minduka_Present_Blue_Pack chessboard_GRAY chessboard_RGB'.split(),
    *'clock_motion color horse page phantom text motorcycle_right'.split(),
}


def foreign(folders):
    "(name → images that are no chest X-ray, names of the photographs)"
    black = np.zeros((1, 128, 128), np.uint8)
    one_pixel = black.copy()
    one_pixel[0, 5, 5] = 255
    ramp = np.linspace(0, 255, 128).astype(np.uint8)[None].repeat(128, 0)
    photos, names = photographs(folders)
    kinds = {
        'blank (0, 128, 255)': np.concatenate([black, black + 128, black + 255]),
        'one white pixel on black': one_pixel,
        'grey ramps': np.stack([ramp, ramp.T]),
        'almost blank (two greys, at random)': drawn('two', lambda r: r.integers(0, 2, (128, 128))),
        'noise, uniform': drawn('uniform', lambda r: r.integers(0, 256, (128, 128))),
        'noise, Gaussian': drawn('gauss', lambda r: r.normal(128, 40, (128, 128)).clip(0, 255)),
        'noise, pink': drawn('pink', lambda r: coloured_noise(r, 1)),
        'noise, brown': drawn('brown', lambda r: coloured_noise(r, 2)),
        'photographs': photos,
        'text, black on white': drawn('light', lambda r: page_of_text(r, False)),
        'text, white on black': drawn('dark', lambda r: page_of_text(r, True)),
        'ellipses as in a CT slice': drawn('slice', slice_like),
    }
    return kinds, names


def corner(images):
    "The upper left quarter of each image, enlarged."
    return np.stack([resized(image[:64, :64]) for image in images])


def framed(images, width=12):
    "A white frame instead of the edge."
    inner = images[:, width:-width, width:-width]
    return np.pad(inner, ((0, 0), (width, width), (width, width)), constant_values=255)


def shuffled(images):
    "Each image cut into 64 squares that are put together at random."
    result = []
    for n, image in enumerate(images):
        squares = image.reshape(8, 16, 8, 16).swapaxes(1, 2).reshape(64, 16, 16)
        squares = squares[numpy_rng('unlike', 'squares', n).permutation(64)]
        result.append(squares.reshape(8, 8, 16, 16).swapaxes(1, 2).reshape(128, 128))
    return np.stack(result)


def with_noise(images, std):
    "Gaussian noise on each image."
    noise = numpy_rng('unlike', 'grain').normal(0, std, images.shape)
    return np.clip(images + noise, 0, 255).astype(np.uint8)


def marked(images):
    "A bright square where a letter for the side would stand."
    images = images.copy()
    images[:, 6:16, 6:16] = 255
    return images


def changed(name, images):
    "The same images, changed so that a reader of X-rays would notice."
    return {
        f'{name}, inverted': 255 - images,
        f'{name}, on its side': np.rot90(images, 1, (1, 2)),
        f'{name}, upside down': np.rot90(images, 2, (1, 2)),
        f'{name}, a quarter': corner(images),
        f'{name}, in a white frame': framed(images),
        f'{name}, cut and shuffled': shuffled(images),
        f'{name}, mirrored': images[:, :, ::-1],
        f'{name}, a bright mark': marked(images),
        f'{name}, noise of std 20': with_noise(images, 20),
        f'{name}, a quarter as bright': images // 4,
    }


def phantoms(number, seed, **options):
    "(frontal images, lateral images, kinds of findings) of phantoms."
    studies = make_studies(number, seed, workers=2, **options)
    views = [np.stack([study.views[v].pixels for study in studies]) for v in (0, 1)]
    return *views, [{finding.kind for finding in study.findings} for study in studies]


def real_images():
    "(images, patient of each); None where UAR_DATA is not set."
    if 'UAR_DATA' not in os.environ:
        return None
    folder = Path(os.environ['UAR_DATA']) / 'frontal'
    with open(folder / 'manifest.csv', newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    images = np.stack([read_image(folder / row['image']) for row in rows])
    return images, np.array([f'{row["source"]} {row["patient"]}' for row in rows])


# ---- scores


@torch.no_grad()
def read(dvae, images):
    "What a dVAE makes of images: tokens [n, 196], reconstruction error, entropy of its choices."
    tokens, errors, entropies = [], [], []
    for start in range(0, len(images), 256):
        x = resize_image(to_float(np.ascontiguousarray(images[start : start + 256])))
        logits = dvae.logits(x)
        ids = logits.argmax(1).flatten(1)
        chances = logits.softmax(1)
        entropy = -(chances * chances.clamp(min=1e-12).log()).sum(1)
        tokens.append(ids)
        errors.append((dvae.decode(ids) - dvae.target(x)).square().flatten(1).mean(1))
        entropies.append(entropy.flatten(1).mean(1))
    return [torch.cat(parts).numpy() for parts in (tokens, errors, entropies)]


def tokens_of(dvae, images):
    "Tokens [n, 196] alone."
    return read(dvae, images)[0]


class Candidates:
    "Scores that could tell a foreign image; of each, more is more foreign."

    def __init__(self, ids, codebook_size=512):
        self.at_position = position_counts(ids, codebook_size)
        anywhere = self.at_position.sum(0) + 0.5
        self.share = anywhere / anywhere.sum()
        grid = ids.reshape(-1, 14, 14)
        self.beside = self._pairs(grid[:, :, :-1], grid[:, :, 1:])
        self.below = self._pairs(grid[:, :-1], grid[:, 1:])

    def _pairs(self, first, second, prior=50):
        "log p(second | first), smoothed by the share of the second word."
        counts = np.zeros((len(self.share), len(self.share)))
        np.add.at(counts, (first, second), 1)
        borrowed = counts + prior * self.share
        return np.log(borrowed / borrowed.sum(1, keepdims=True))

    def __call__(self, ids, errors, entropies):
        grid = ids.reshape(-1, 14, 14)
        beside = self.beside[grid[:, :, :-1], grid[:, :, 1:]].mean((1, 2))
        below = self.below[grid[:, :-1], grid[:, 1:]].mean((1, 2))
        words = np.stack([np.bincount(row, minlength=len(self.share)) for row in ids])
        used = words / words.sum(1, keepdims=True)
        ratio = np.log(np.where(used > 0, used, 1) / self.share)
        return {
            'tokens at their positions': surprise(ids, self.at_position),
            'tokens anywhere': -np.log(self.share)[ids].mean(1),
            'pairs of neighbours': -(beside + below) / 2,
            'use of words (KL)': (used * np.where(used > 0, ratio, 0)).sum(1),
            'reconstruction error': errors.astype(float),
            'entropy of the choices': entropies.astype(float),
        }


def area(own, others):
    "The chance that a foreign image scores above one of one's own: area under the ROC curve."
    ranks = rankdata(np.concatenate([own, others]))[len(own) :]
    return float((ranks.sum() - len(others) * (len(others) + 1) / 2) / (len(own) * len(others)))


def flagged(values, threshold):
    "Share of images above a threshold."
    return round(float(np.mean(np.asarray(values) > threshold)), 4)


# ---- the three questions


def compare_candidates(dvae, kinds, fresh):
    "The table of scores: false alarms, and share and area of each kind of foreign images."
    training, _, _ = phantoms(3000, 0)
    first, second = read(dvae, training[:1500]), read(dvae, training[1500:])
    scores = Candidates(first[0])
    own, new = scores(*second), scores(*read(dvae, fresh))
    table = {}
    found = {kind: scores(*read(dvae, images)) for kind, images in kinds.items()}
    for name, values in own.items():
        threshold = np.quantile(values, QUANTILE)
        rows = {}
        for kind, images in found.items():
            rows[kind] = [flagged(images[name], threshold), round(area(new[name], images[name]), 4)]
        table[name] = dict(false_alarms=flagged(new[name], threshold), kinds=rows)
    return table


def ask_shipped(checkpoint, sets):
    "What the shipped statistics say of each set, as frontal images."
    rows = {}
    for name, (view, images) in sets.items():
        ids = tokens_of(checkpoint.tokenizer, images)
        found = [checkpoint.statistics.judge(tokens, view) for tokens in ids]
        other_view = [one.looks_like is not None for one in found]
        rows[name] = dict(
            images=len(images),
            unlike=round(float(np.mean([one.unlike for one in found])), 4),
            other_view=round(float(np.mean(other_view)), 4),
            median=round(float(np.median([one.value for one in found])), 3),
        )
    return rows


def alarms_by_finding(checkpoint, fresh):
    "Of fresh phantoms with each kind of finding: how many, and which share is called unlike."
    found, rows = [], {}
    for frontal, _, kinds in fresh.values():
        ids = tokens_of(checkpoint.tokenizer, frontal)
        unlike = [checkpoint.statistics.judge(tokens).unlike for tokens in ids]
        found += zip(kinds, unlike, strict=True)
    for kind in sorted(set().union(*[kinds for kinds, _ in found])):
        of_kind = [unlike for kinds, unlike in found if kind in kinds]
        rows[kind] = dict(images=len(of_kind), unlike=round(float(np.mean(of_kind)), 4))
    return rows


def half_of(patients, seed):
    "Which images are of the half of the patients whose images are counted."
    names = sorted(set(patients))
    half = numpy_rng('unlike', 'half', seed).permutation(names)[: len(names) // 2]
    return np.isin(patients, half)


def ask_half(dvae, images, patients, counted, others):
    "Flagged shares where the statistics are of half of the real patients."
    ids = tokens_of(dvae, images)
    size = dvae.codebook_size
    counts = position_counts(ids[counted], size)
    left_out = left_out_surprises(ids[counted], patients[counted], size)
    threshold = np.quantile(left_out, QUANTILE)
    held_out = surprise(ids[~counted], counts)
    rows = {'real, other patients': [flagged(held_out, threshold), 0.5, int((~counted).sum())]}
    sets = {**others, **changed('real, other patients', images[~counted])}
    for name, some in sets.items():
        values = surprise(tokens_of(dvae, some), counts)
        rows[name] = [flagged(values, threshold), area(held_out, values), len(some)]
    return rows


def mean_rows(runs):
    "Name → mean share, its std and extremes over the runs, mean area, images a run."
    table = {}
    for name in runs[0]:
        shares = [run[name][0] for run in runs]
        table[name] = dict(
            images=round(float(np.mean([run[name][2] for run in runs])), 1),
            unlike=round(float(np.mean(shares)), 4),
            std=round(float(np.std(shares)), 4),
            range=[min(shares), max(shares)],
            area=round(float(np.mean([run[name][1] for run in runs])), 4),
        )
    return table


def ask_real(dvae, images, patients, others):
    "Both tables of the real X-rays: the shipped dVAE, and dVAEs trained on the counted half."
    halves = [half_of(patients, seed) for seed in range(SPLITS)]
    runs = [ask_half(dvae, images, patients, half, others) for half in halves]
    trained = []
    for seed, half in enumerate(halves[:TRAINED]):
        own, _ = train_dvae(images[half], DVAEConfig(standardise=True), steps=STEPS, seed=seed)
        trained.append(ask_half(own, images, patients, half, others))
    return dict(
        images=len(images),
        patients=len(set(patients)),
        halves=SPLITS,
        shipped_dvae=dict(sets=mean_rows(runs)),
        trained=dict(dvaes=TRAINED, steps=STEPS, sets=mean_rows(trained)),
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--photographs', nargs='*', default=[], help='more folders of photographs')
    parser.add_argument('--out', default='data/results/unlike.json')
    a = parser.parse_args()
    checkpoint = load_checkpoint('phantom-small')
    drawn_kinds, names = foreign(a.photographs)
    fresh = {seed: phantoms(400, seed, split='test') for seed in SEEDS}
    iu_frontal, iu_lateral, _ = phantoms(400, 104, split='test', frequencies='iu_xray')
    frontal, lateral, _ = fresh[SEEDS[0]]
    of_phantoms = changed('phantoms', frontal)
    of_phantoms['phantoms, lateral as frontal'] = lateral
    kinds = {**drawn_kinds, **of_phantoms}
    real = real_images()
    if real is not None:
        kinds['real X-rays'] = real[0]
        kinds |= changed('real X-rays', real[0])
    sets = {f'fresh phantoms, seed {s}': ('frontal', both[0]) for s, both in fresh.items()}
    sets |= {f'lateral, seed {s}': ('lateral', both[1]) for s, both in fresh.items()}
    sets['fresh phantoms, findings as in IU-Xray'] = ('frontal', iu_frontal)
    sets['lateral, findings as in IU-Xray'] = ('lateral', iu_lateral)
    sets['frontal as lateral'] = ('lateral', frontal)
    sets |= {name: ('frontal', images) for name, images in kinds.items()}
    all_fresh = np.concatenate([both[0] for both in fresh.values()])
    statistics: TokenStatistics = checkpoint.statistics
    result = dict(
        quantile=QUANTILE,
        phantom_seeds=list(SEEDS),
        photographs=names,
        candidates=compare_candidates(checkpoint.tokenizer, kinds, all_fresh),
        shipped=dict(
            counted={view: statistics.images(view) for view in statistics.counts},
            thresholds={view: round(statistics.threshold(view), 3) for view in statistics.counts},
            sets=ask_shipped(checkpoint, sets),
            by_finding=alarms_by_finding(checkpoint, fresh),
        ),
    )
    if real is not None:
        others = {**drawn_kinds, 'phantoms': frontal, 'phantoms, lateral as frontal': lateral}
        result['real'] = ask_real(checkpoint.tokenizer, *real, others)
    atomic_write(Path(a.out), result)


if __name__ == '__main__':
    main()
