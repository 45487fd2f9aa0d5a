"What a user of the installed wheel does: train something tiny, then write a report from a picture file. Run by test_house.py in a clean environment."
import subprocess, sys
from pathlib import Path

import uar_nb


def main(folder):
    from uar_nb.demo import run_demo
    from uar_nb.generation import Reporter
    from uar_nb.phantom import make_studies, write_studies

    print(uar_nb.__file__)
    run_demo(folder/'demo', 'toy', device='cpu', workers=1, progress=False)
    write_studies(make_studies(1, seed=5, split='test'), folder/'set', layout='r2gen')
    pictures = sorted((folder/'set').rglob('*.png'))
    [report] = Reporter.from_pretrained(folder/'demo'/'checkpoint')([str(pictures[0])])
    assert report.disclaimer and len(report.probabilities) == len(report.words), report
    uar = Path(sys.executable).with_name('uar')
    shown = subprocess.run([uar, 'generate', *map(str, pictures[:2]), '--checkpoint', str(folder/'demo'/'checkpoint')], capture_output=True, text=True)
    assert shown.returncode == 0 and report.disclaimer in shown.stdout + shown.stderr, shown.stdout + shown.stderr
    print(shown.stdout)


if __name__ == '__main__': main(Path(sys.argv[1]))
