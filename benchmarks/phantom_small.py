"""Makes the checkpoint that ships with the package, `phantom-small`, and its card.

    python benchmarks/phantom_small.py            # trains what `uar demo --long` trains (or takes what is there), about half an hour on two cores
    python benchmarks/phantom_small.py --folder runs/long

The card holds the plan, the hash of every file and the scores on fresh studies; tests/test_small.py holds the checkpoint to it.
"""
import argparse, shutil
from dataclasses import replace
from pathlib import Path

import torch

from uar_nb.checkpoint import load_checkpoint
from uar_nb.core import atomic_folder, atomic_write, read_json, sha256_of
from uar_nb.demo import PLANS, demo_studies, run_demo
from uar_nb.evaluation import evaluate, make_data

HOME = Path(__file__).resolve().parents[1]/'uar_nb'/'assets'/'phantom-small'
FIRST = 60  # test studies that the test scores again


def scores_of(checkpoint, plan, studies):
    "Scores of a checkpoint on studies, greedy, without the metrics packages."
    data = make_data(studies, checkpoint.data, checkpoint.vocabulary, checkpoint.tokenizer)['test']
    return evaluate(checkpoint.model, data, beams=1, metrics=('BLEU',)).findings['f1']


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--folder', default='runs/long', help='run folder of the demo')
    parser.add_argument('--plan', default='long', choices=[p for p in PLANS if p != 'toy'])
    a = parser.parse_args()
    plan, file = PLANS[a.plan], Path(a.folder)/'summary.json'
    done = read_json(file) if file.exists() else {}
    result = done if done.get('plan') == plan.to_dict() else run_demo(a.folder, a.plan)
    with atomic_folder(HOME) as new: shutil.copytree(Path(a.folder)/'checkpoint', new, dirs_exist_ok=True)
    tests = demo_studies(replace(plan, train=0, val=0, test=FIRST))
    files = {p.relative_to(HOME).as_posix(): sha256_of(p.read_bytes()) for p in sorted(HOME.rglob('*')) if p.is_file()}
    card = dict(plan=plan.to_dict(), plan_name=a.plan, torch=torch.__version__.split('+')[0], files=files, scores={k: round(float(v), 4) for k, v in result['summary'].items() if isinstance(v, (int, float))},
                first=FIRST, f1_of_first=round(scores_of(load_checkpoint(HOME), plan, tests), 4))
    atomic_write(HOME/'card.json', card)
    print(f"{HOME.name}: {sum(p.stat().st_size for p in HOME.rglob('*'))/1e6:.1f} MB, F1 {card['scores']['F1']} on {plan.test} fresh studies")
