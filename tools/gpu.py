"""What a GPU makes of UAR, in one run of at most ten minutes.

    python tools/gpu.py --out gpu/ [--minutes 9] [--device cuda] [--peak-tflops bf16=989 …]

Four parts, in this order; each writes its numbers into `gpu.json` as soon as it ends, and a part
that is there is not run again:

- `equal`: the losses of UAR at the paper's size and the reports of `phantom-small`, on the GPU in
  32 bits and in bf16, beside those of the CPU in 32 bits. A loss may differ by `TOLERANCE`, and
  of the reports a share of `EQUAL_REPORTS` must be the same word for word (in 32 bits; bf16 is
  counted, not judged). What fails is listed, and the script ends with an error.
- `speed`: training steps of UAR at the paper's size (two views, 60 words, mask on) with batches
  of 16 to 1,024 studies, gathered by `StudyData` as the `Trainer` gathers them, of random tokens
  and reports: studies a second, floating-point operations as torch counts them, their share of the
  peak of what they were computed in (`PEAKS`: bf16, fp32, or tf32 where torch has it on), memory
  at its highest, and the share of time that a step waited for its batch.
- `epoch`: `uar train` of the preset `iu_xray` on 2,069 generated studies, one epoch of each stage.
- `demo`: the demo's plan `paper` for the time that is left. It is stopped as Ctrl-C stops it and
  goes on where it stood when the script is run again with the same `--out`.

`--toy` is the same at toy size, and runs on a CPU; that is how it is tested.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from uar_nb.checkpoint import load_checkpoint
from uar_nb.config import run_preset
from uar_nb.core import UARError, atomic_write, pick_hardware, read_json, torch_rng
from uar_nb.data.batch import PixelStore, StudyData, TokenStore
from uar_nb.data.study import VIEWS, Study, View
from uar_nb.data.text import Vocabulary
from uar_nb.experiment.prepare import make_data
from uar_nb.experiment.run_folder import read_log
from uar_nb.generation import generate
from uar_nb.model import UAR
from uar_nb.phantom.generator import make_studies
from uar_nb.training import make_optimizer

sys.path.append(str(Path(__file__).resolve().parents[1] / 'benchmarks'))
import memory  # noqa: E402 (the batches and the counts of benchmarks/memory.py)

TOLERANCE = {'no': 1e-4, 'bf16': 3e-2}  # of a loss, as a share of it
EQUAL_REPORTS = {'no': 0.9}  # least share of reports that are the CPU's word for word
PEAKS = {'bf16': 989.0, 'tf32': 494.0, 'fp32': 67.0}  # TFLOPS of an H200, dense
TOY = {'model.d': 32, 'model.d_ff': 32, 'model.basis_size': 32, 'model.image_vocab': 64}


def paper_config(toy):
    "The run at the paper's size: preset `iu_xray`, or a small copy of it."
    changes = {'model.text_vocab': memory.WORDS, 'model.period_id': 4}
    return run_preset('iu_xray').override(changes | (TOY if toy else {}))


def make_model(config):
    "UAR with its mask on; the same weights each time."
    with torch_rng('gpu', 'weights'):
        model = UAR(config)
    model.enable_mask(True)
    return model


def autocast(device, precision):
    "Mixed precision on a device, or none."
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == 'bf16')


def computed_in(precision):
    "What matrices are multiplied in: a name of `PEAKS`."
    if precision == 'bf16':
        return 'bf16'
    return 'fp32' if torch.get_float32_matmul_precision() == 'highest' else 'tf32'


def wait_for(device):
    "Until the device has done all that it was asked."
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


# ---- equal


def losses_of(config, device, precision):
    "The losses of one batch at the paper's size, without dropout."
    model = make_model(config).to(device).eval()
    with torch.no_grad(), autocast(device, precision):
        out = model(memory.make_batch(config, 8).to(device))
    return {name: float(loss) for name, loss in out.losses.items()}


def reports_of(checkpoint, data, device, precision, beams):
    "The reports of some phantoms."
    model = checkpoint.model.to(device)
    batch = data.batch(range(len(data))).to(device)
    with autocast(device, precision):
        return generate(model, batch, beams).ids


def part_equal(args, device):
    "Losses and reports of the device beside those of the CPU."
    config = paper_config(args.toy).model
    cpu = torch.device('cpu')
    checkpoint = load_checkpoint('phantom-small')
    studies = make_studies(4 if args.toy else 100, seed=17, split='test')
    data = make_data(studies, checkpoint.data, checkpoint.vocabulary, checkpoint.tokenizer)['test']
    true_losses = losses_of(config, cpu, 'no')
    true_reports = {beams: reports_of(checkpoint, data, cpu, 'no', beams) for beams in (1, 3)}
    found = {'cpu': true_losses}
    for precision in ('no', 'bf16'):
        losses = losses_of(config, device, precision)
        off = {
            name: abs(x - true_losses[name]) / abs(true_losses[name]) for name, x in losses.items()
        }
        equal, others = {}, {}
        for beams, reports in true_reports.items():
            ours = reports_of(checkpoint, data, device, precision, beams)
            pairs = zip(data.studies, ours, reports, strict=True)
            others[beams] = [study.id for study, a, b in pairs if a != b]
            equal[beams] = 1 - len(others[beams]) / len(data)
        within = all(x <= TOLERANCE[precision] for x in off.values())
        found[precision] = dict(
            losses=losses,
            off=off,
            within=within,
            equal_reports=equal,
            reports_within=min(equal.values()) >= EQUAL_REPORTS.get(precision, 0),
            other_reports=others,
            computed_in=computed_in(precision),
        )
    faults = faults_of(found)
    limits = dict(tolerance=TOLERANCE, least_equal_reports=EQUAL_REPORTS, studies=len(data))
    return dict(found, **limits, faults=faults, code=int(bool(faults)))


def faults_of(found):
    "What is not equal enough, one sentence for each."
    faults = []
    for precision in TOLERANCE:
        got = found[precision]
        for name, off in got['off'].items():
            if not off <= TOLERANCE[precision]:  # nan is a fault too
                limit = TOLERANCE[precision]
                faults.append(f'{precision}: loss {name} is off by {off:.2g}, more than {limit:g}')
        for beams, share in got['equal_reports'].items():
            least = EQUAL_REPORTS.get(precision, 0)
            if share < least:
                which = ', '.join(got['other_reports'][beams])
                faults.append(
                    f'{precision}, beam {beams}: {share:.0%} of the reports are equal, '
                    f'less than {least:.0%}; others: {which}'
                )
    return faults


# ---- speed


def flops_of_step(config):
    "(fixed, for each study): operations of a step on a CPU, the line through batches 2 and 4."
    two, four = (memory.count(config, n)[1] for n in (2, 4))
    return tuple(memory.line(two, four).values())


def random_data(config, studies):
    "Studies of random tokens and full reports, in stores as a training reads them."
    model, crops = config.model, config.data.crops
    rng = np.random.default_rng(0)
    letters = 'abcdefghij'
    names = [''.join(letters[int(digit)] for digit in f'{n:03}') for n in range(memory.WORDS)]
    words = np.array([f'finding{name}' for name in names])
    blank = np.zeros((128, 128), np.uint8)
    views = tuple(View(name, pixels=blank) for name in VIEWS[: model.views])
    reports = [' '.join(rng.choice(words, model.max_words - 1)) for _ in range(studies)]
    members = [Study(str(n), views, report) for n, report in enumerate(reports)]
    rows = {
        study.id: [(view.name, n * model.views + v) for v, view in enumerate(views)]
        for n, study in enumerate(members)
    }
    images = studies * model.views
    pixels = PixelStore(np.broadcast_to(blank, (images, 128, 128)), rows, key='random')
    ids = rng.integers(0, model.image_vocab, (images, crops + 1, model.grid**2), dtype=np.uint16)
    about = dict(pixels=pixels.key, crops=crops, codebook_size=model.image_vocab)
    return StudyData(
        members,
        pixels,
        TokenStore(ids, 'random', about),
        Vocabulary.build(reports, 1),
        max_words=model.max_words,
        views=model.views,
        resize=config.data.resize,
    )


def time_steps(config, data, n, device, precision, count):
    "Seconds of steps at batch n: (whole step, its wait for the batch), and memory in GB."
    model = make_model(config.model).to(device).train()
    order = np.resize(data.order(0), (count + 2) * n).reshape(-1, n)
    optimizer = make_optimizer(model, config.train.stages[1], config.train)
    took, waited = [], []
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    for number in range(count + 2):
        wait_for(device)
        start = time.perf_counter()
        batch = data.batch(order[number], number).to(device)
        wait_for(device)
        ready = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, precision):
            total = model(batch).total
        total.backward()
        optimizer.step()
        wait_for(device)
        if number >= 2:  # the first steps choose kernels
            took.append(time.perf_counter() - start)
            waited.append(ready - start)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == 'cuda' else None
    return sum(took) / count, sum(waited) / count, peak


def part_speed(args, device):
    "Steps of growing batches until memory ends."
    config = paper_config(args.toy)
    fixed, each = flops_of_step(config.model)
    data = random_data(config, 16 if args.toy else 2048)
    config = config.override({'model.text_vocab': len(data.vocabulary)})
    rows = []
    for precision in ('no', 'bf16'):
        form = computed_in(precision)
        for n in (2, 4) if args.toy else (16, 32, 64, 128, 256, 512, 1024):
            try:
                measured = time_steps(config, data, n, device, precision, args.steps)
            except torch.OutOfMemoryError:
                rows.append(dict(precision=precision, batch=n, out_of_memory=True))
                break
            step, wait, peak = measured
            per_second = (fixed + n * each) / step
            rows.append(
                dict(
                    precision=precision,
                    batch=n,
                    studies_a_second=n / step,
                    tflops=per_second / 1e12,
                    computed_in=form,
                    peak_tflops=args.peaks[form],
                    share_of_peak=per_second / 1e12 / args.peaks[form],
                    memory_gb=peak,
                    waiting=wait / step,
                )
            )
            print(json.dumps(rows[-1]), flush=True)
    return dict(rows=rows, peak_tflops=args.peaks)


# ---- epoch and demo: the commands that a user runs


def run_command(arguments, seconds):
    "A command of the package; after so many seconds it is stopped as Ctrl-C stops it."
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, '-m', 'uar_nb', *map(str, arguments)])
    try:
        code = process.wait(timeout=max(1.0, seconds))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=60)
    return dict(code=code, seconds=time.perf_counter() - start)


def part_epoch(args, device):
    "The preset `iu_xray` on as many generated studies, one epoch of each stage."
    folder, train, val = args.out / 'epoch', *((16, 4) if args.toy else (2069, 296))
    changes = {'train.stages.0.epochs': 1, 'train.stages.1.epochs': 1, 'train.device': device.type}
    changes |= TOY | {'data.crops': 1} if args.toy else {'data.crops': 2}
    if not (folder / 'data').exists():
        rest = ['--val', val, '--test', 4, '--layout', 'r2gen', '--style', 'iu_xray']
        run_command(['phantom', train, folder / 'data', *rest], args.left())
    sets = [part for name, value in changes.items() for part in ('--set', f'{name}={value}')]
    dvae = ['--dvae-steps', 2 if args.toy else 300]
    command = ['train', folder / 'data', '--preset', 'iu_xray', *dvae, *sets]
    found = run_command([*command, '--out', folder / 'run'], args.left())
    return dict(found, studies=train, log=read_log(folder / 'run', 'train')[-3:])


def part_demo(args, device):
    "The demo at the paper's size, as far as the time goes."
    plan = 'toy' if args.toy else 'paper'
    command = ['demo', '--plan', plan, '--out', args.out / 'demo', '--device', device.type]
    found = run_command(command, args.left())
    return dict(found, plan=plan, log=read_log(args.out / 'demo', 'train')[-3:])


PARTS = dict(equal=part_equal, speed=part_speed, epoch=part_epoch, demo=part_demo)


def read_peak(text):
    "('bf16', 989.0) of 'bf16=989'."
    form, _, number = text.partition('=')
    if form not in PEAKS:
        raise argparse.ArgumentTypeError(f'{text!r}: write one of {", ".join(PEAKS)}, =, a number')
    return form, float(number)


def read_arguments(arguments=None):
    "The command line."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--out', type=Path, required=True, help='folder of gpu.json and of the runs'
    )
    parser.add_argument('--minutes', type=float, default=9.0, help='after which no part begins')
    parser.add_argument('--device', default='cuda', help='as torch names it')
    parser.add_argument(
        '--peak-tflops',
        nargs='+',
        type=read_peak,
        default=[],
        metavar='FORM=TFLOPS',
        help=f'of another GPU, dense; as it is: {PEAKS}',
    )
    parser.add_argument('--steps', type=int, default=10, help='that are timed for each batch size')
    parser.add_argument('--only', nargs='+', choices=PARTS, default=list(PARTS), help='parts')
    parser.add_argument('--toy', action='store_true', help='toy size, to try the script')
    args = parser.parse_args(arguments)
    end = time.monotonic() + 60 * args.minutes
    args.peaks = PEAKS | dict(args.peak_tflops)
    args.left = lambda: end - time.monotonic()
    return args


def main(arguments=None):
    "Run the parts that are not there yet, while there is time."
    args = read_arguments(arguments)
    try:
        device, _ = pick_hardware(args.device)
    except UARError as error:
        sys.exit(f'error: {error}')
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / 'gpu.json'
    found = read_json(file) if file.exists() else {}
    on_gpu = device.type == 'cuda'
    found['machine'] = dict(
        device=torch.cuda.get_device_name(device) if on_gpu else platform.processor(),
        measured_on_gpu=on_gpu,
        torch=torch.__version__,
        processors=os.cpu_count(),
    )
    for name in args.only:
        if name in found and found[name].get('code', 0) == 0:
            continue
        if args.left() <= 0:
            print(f'no time is left for the part {name}; the same command goes on with it')
            break
        print(f'part {name}, {args.left():.0f} s left', flush=True)
        start = time.perf_counter()
        found[name] = dict(PARTS[name](args, device), took=time.perf_counter() - start)
        atomic_write(file, found)
    print(json.dumps(found, indent=1))
    faults = found.get('equal', {}).get('faults', []) if 'equal' in args.only else []
    if faults:
        sys.exit('error: this device does not compute what the CPU does\n' + '\n'.join(faults))


if __name__ == '__main__':
    main()
