"Files of finished runs that are made up, so that a table of them can be recomputed."

import json

import numpy as np

from uar_nb.apps.table_runs import pack

STUDIES = 12


def counts_of(row, seed):
    "(right, wrong, missing) of each study, and its CIDEr."
    rng = np.random.default_rng([len(row), ord(row[0]), seed])
    right = rng.integers(0, 3, STUDIES) + (row == 'uar')
    wrong, missing = rng.integers(0, 2, (2, STUDIES))
    return np.stack([right, wrong, missing], 1), np.round(rng.random(STUDIES) + 0.3 * right, 4)


def f1(counts):
    right, wrong, missing = np.sum(counts, 0)
    return float(2 * right / (2 * right + wrong + missing))


def made_up(row, seed, **changes):
    "What the file of a run holds."
    counts, ciders = counts_of(row, seed)
    scores = dict(F1=f1(counts), CIDEr=float(ciders.mean()))
    curve = [
        dict(step=50, stage='stage1', score=0.2 + 0.1 * seed),
        dict(step=100, stage='stage1', score=0.1),
        dict(step=150, stage='cool', score=0.8),
    ]
    trials = [dict(rate=1e-3, score=0.4, loss=0.5), dict(rate=2e-3, score=0.3, loss=0.6)]
    trials = [dict(trial, dropout=0.1) for trial in trials]
    found = dict(row=row, seed=seed, scores=scores, counts=pack(dict(F1=counts, CIDEr=ciders)))
    found |= dict(shuffled=dict(F1=0.05), novel=dict(share=0.5, novel=scores), references='same')
    found |= dict(converged=True, studies=STUDIES, parameters=1000, steps=150, monitor='CIDEr')
    found |= dict(processor_seconds_a_step=0.5 if row == 'uar' else 1.0, curve=curve)
    found |= dict(tuned=dict(rate=1e-3, dropout=0.1, trials=trials), stage='cool', exact=0.5)
    found |= dict(diversity=dict(distinct_reports=4 + seed))
    return found | changes


def keep_rows(folder, rows=('base', 'show_tell', 'uar'), seeds=3, table='1', **changes):
    "The files of some rows; `changes` by the name of a row."
    for row in rows:
        for seed in range(seeds):
            content = made_up(row, seed, **changes.get(row, {}))
            (folder / f'{table}-made-{row}-{seed}.json').write_text(json.dumps(content))
