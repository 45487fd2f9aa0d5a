"""What a user of the installed wheel does: write a report with the model that comes along, train
something tiny, then write a report with that. Run by test_package.py in a clean environment."""

import subprocess
import sys
import time
from pathlib import Path

import uar_nb


def main(folder):
    from uar_nb.apps.demo import run_demo
    from uar_nb.apps.reporter import Reporter
    from uar_nb.checkpoint import load_checkpoint
    from uar_nb.phantom.generator import make_studies, write_studies

    print(uar_nb.__file__)
    shipped = Path(uar_nb.__file__).parent / 'assets' / 'phantom-small'
    assert (shipped / 'model.safetensors').exists() and Path(
        sys.prefix
    ).resolve() in shipped.resolve().parents, shipped  # from the wheel, not from a clone
    [study] = make_studies(1, seed=2303, split='test')
    write_studies([study], folder / 'set', layout='r2gen')
    images = sorted((folder / 'set').rglob('*.png'))
    start = time.perf_counter()
    reporter = Reporter.from_pretrained('phantom-small')
    loaded = time.perf_counter()
    [report] = reporter([str(p) for p in images])
    print(
        f'phantom-small: loaded in {loaded - start:.1f} s, two images to a report in {time.perf_counter() - loaded:.1f} s: {report}'  # noqa: E501
    )
    most = load_checkpoint('phantom-small').model.config.max_words
    assert report.disclaimer and 5 < len(report.words) < most - 1 and report.words[-1] == '.', (
        report.words
    )  # it ended by itself, with a sentence
    assert len(report.probabilities) == len(report.words) and report.attention.shape == (
        len(report.words),
        2,
        14,
        14,
    )

    run_demo(folder / 'demo', 'toy', device='cpu', workers=1, progress=False)
    [report] = Reporter.from_pretrained(folder / 'demo' / 'checkpoint')([str(images[0])])
    assert report.disclaimer and len(report.probabilities) == len(report.words), report
    uar = Path(sys.executable).with_name('uar')
    for checkpoint in ('phantom-small', str(folder / 'demo' / 'checkpoint')):
        shown = subprocess.run(
            [uar, 'generate', *map(str, images[:2]), '--checkpoint', checkpoint],
            capture_output=True,
            text=True,
        )
        assert shown.returncode == 0 and report.disclaimer in shown.stdout + shown.stderr, (
            shown.stdout + shown.stderr
        )
        print(shown.stdout)


if __name__ == '__main__':
    main(Path(sys.argv[1]))
