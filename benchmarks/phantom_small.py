"""Makes the checkpoints that ship with the package, `phantom-small` and its first stage
`phantom-small-stage1`, and their cards.

    python benchmarks/phantom_small.py            # trains what `uar demo --long` trains (or
    takes what is there): the shipped ones took 56 minutes on two shared cores
    python benchmarks/phantom_small.py --folder runs/long
    python benchmarks/phantom_small.py --count    # draws the training phantoms again (5 minutes)
    and writes the statistics of their tokens beside the weights, which stay as they are

A card holds the plan, the hash of every file, the seconds of each part and the score on fresh
studies; tests/test_checkpoint_shipped.py holds the checkpoints to it.
The first stage is kept in float16 and without a dVAE of its own: it is loaded with that of
phantom-small.
"""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from uar_nb.apps.demo import PLANS, demo_studies, run_demo
from uar_nb.checkpoint import load_checkpoint
from uar_nb.config import config_difference
from uar_nb.core import atomic_folder, atomic_write, read_json, sha256_of
from uar_nb.experiment.prepare import make_data
from uar_nb.scoring.evaluate import evaluate
from uar_nb.tokenizer.surprise import FILE, TokenStatistics

ASSETS = Path(__file__).resolve().parents[1] / 'uar_nb' / 'assets'
HOME, FIRST_STAGE = ASSETS / 'phantom-small', ASSETS / 'phantom-small-stage1'
FIRST = 60  # test studies that the test scores again


def scores_of(checkpoint, plan, studies):
    "Scores of a checkpoint on studies, greedy, without the metrics packages."
    data = make_data(studies, checkpoint.data, checkpoint.vocabulary, checkpoint.tokenizer)['test']
    return evaluate(checkpoint.model, data, beams=1, metrics=('BLEU',)).findings['f1']


def both():
    "The shipped checkpoints: (the model, its first stage with the same dVAE)."
    last = load_checkpoint(HOME)
    return last, load_checkpoint(FIRST_STAGE, tokenizer=last.tokenizer)


def ship_first_stage(source):
    "Half the bytes of the weights, and no second dVAE."
    with atomic_folder(FIRST_STAGE) as new:
        for name in ('config.json', 'vocabulary.json', FILE):
            shutil.copy(source / name, new / name)
        atomic_write(
            new / 'model.safetensors',
            save(
                {k: v.half() for k, v in load_file(source / 'model.safetensors').items()},
                metadata={'format': 'pt'},
            ),
        )
    last, first = both()  # refuses another dVAE
    assert (
        config_difference(first.model.config, last.model.config) == {}
        and first.vocabulary.words == last.vocabulary.words
    ), 'the two stages are not of one training'


def hashes(home):
    "The hash of every file but the two cards; `python tools/cards.py` writes README.md."
    return {
        p.relative_to(home).as_posix(): sha256_of(p.read_bytes())
        for p in sorted(home.rglob('*'))
        if p.is_file() and p.name not in ('card.json', 'README.md')
    }


def write_card(home, **facts):
    "What is there, and how good it is."
    atomic_write(
        home / 'card.json',
        dict(**facts, torch=torch.__version__.split('+')[0], files=hashes(home), first=FIRST),
    )
    return sum(p.stat().st_size for p in home.rglob('*') if p.is_file()) / 1e6


def count(plan):
    "Count the tokens of the training phantoms, and name the new file in both cards."
    last = load_checkpoint(HOME)
    studies = demo_studies(replace(plan, val=0, test=0), workers=plan.threads)
    data = make_data(studies, replace(last.data, crops=0), last.vocabulary, last.tokenizer)
    statistics = TokenStatistics.from_data(data['train'])
    for home in (HOME, FIRST_STAGE):
        statistics.save(home)
        card = read_json(home / 'card.json')
        card['files'] = hashes(home)
        atomic_write(home / 'card.json', card)
    for view in statistics.counts:
        print(f'{view}: {statistics.images(view)} images, {statistics.threshold(view):.3f} nats')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--folder', default='runs/long', help='run folder of the demo')
    parser.add_argument('--plan', default='long', choices=[p for p in PLANS if p != 'toy'])
    parser.add_argument('--count', action='store_true', help='only count the training images')
    a = parser.parse_args()
    plan, file = PLANS[a.plan], Path(a.folder) / 'summary.json'
    if a.count:
        count(plan)
        raise SystemExit
    done = read_json(file) if file.exists() else {}
    is_done = done.get('plan') == plan.to_dict() and 'stages' in done
    result = done if is_done else run_demo(a.folder, a.plan)
    [shipped] = [one for one in result['stages'].values() if one['folder'] == 'checkpoint']
    with atomic_folder(HOME) as new:
        shutil.copytree(Path(a.folder) / 'checkpoint', new, dirs_exist_ok=True)
    ship_first_stage(Path(a.folder) / 'checkpoint_stage1')
    tests = demo_studies(replace(plan, train=0, val=0, test=FIRST))
    last, first = (round(scores_of(c, plan, tests), 4) for c in both())
    about = dict(plan=plan.to_dict(), plan_name=a.plan, seconds=result['seconds'])
    scores = {k: round(float(v), 4) for k, v in shipped.items() if isinstance(v, (int, float))}
    sizes = [
        write_card(HOME, **about, scores=scores, f1_of_first=last),
        write_card(
            FIRST_STAGE,
            **about,
            stage_of=HOME.name,
            tokenizer_of=HOME.name,
            weights='float16',
            f1_of_first=first,
        ),
    ]
    print(
        f"{HOME.name}: {sizes[0]:.1f} MB, its first stage {sizes[1]:.1f} MB, F1 {scores['F1']} on {plan.test} fresh studies"  # noqa: E501
    )
