"""tools/gpu.py at toy size on a CPU; it has not run on a GPU."""

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tools'))
gpu = pytest.importorskip('gpu')
CPU = torch.device('cpu')


def arguments(folder, *more):
    return gpu.read_arguments(['--out', str(folder), '--toy', '--device', 'cpu', *more])


def test_a_cpu_equals_itself(tmp_path):
    found = gpu.part_equal(arguments(tmp_path), CPU)
    assert found['no']['off'] == dict.fromkeys(found['cpu'], 0.0)
    assert found['no']['equal_reports'] == {1: 1.0, 3: 1.0}
    assert found['no']['within'] and found['bf16']['within']
    assert max(found['bf16']['off'].values()) > 0  # bf16 is another computation
    assert found['no']['reports_within'] and found['no']['other_reports'] == {1: [], 3: []}
    assert found['faults'] == [] and found['code'] == 0


def test_a_wrong_device_is_seen(tmp_path, monkeypatch):
    right = gpu.losses_of

    def wrong(config, device, precision):
        losses = right(config, device, precision)
        calls.append(precision)
        return losses if len(calls) == 1 else losses | {'ce': losses['ce'] * 1.001}

    calls = []
    monkeypatch.setattr(gpu, 'losses_of', wrong)
    found = gpu.part_equal(arguments(tmp_path), CPU)
    assert not found['no']['within'] and found['code'] == 1
    assert found['faults'] == ['no: loss ce is off by 0.001, more than 0.0001']


@pytest.mark.parametrize('wrong, fails', [(0, False), (1, True)])
def test_reports_that_differ_are_listed_and_the_script_fails(
    wrong, fails, tmp_path, monkeypatch, capsys
):
    "Of four reports one is a share of .25, more than a tenth; bf16 may differ."
    right, seen = gpu.reports_of, []

    def other(checkpoint, data, device, precision, beams):
        seen.append((precision, beams))
        reports = right(checkpoint, data, device, precision, beams)
        second = seen.count((precision, beams)) == 2 or precision == 'bf16'
        return [[*reports[0], 5], *reports[1:]] if wrong and second else reports

    monkeypatch.setattr(gpu, 'reports_of', other)
    line = ['--out', str(tmp_path), '--toy', '--device', 'cpu', '--only', 'equal']
    if fails:
        with pytest.raises(SystemExit) as stopped:
            gpu.main(line)
        said = str(stopped.value).splitlines()
        assert len(said) == 3 and said[0].startswith('error: this device does not compute')
        assert said[1] == (
            'no, beam 1: 75% of the reports are equal, less than 90%; others: test-17-000000'
        )
    else:
        gpu.main(line)
    kept = json.loads((tmp_path / 'gpu.json').read_text())['equal']
    assert kept['code'] == int(fails) and kept['no']['reports_within'] is not fails
    assert kept['bf16']['reports_within'] and kept['no']['computed_in'] == 'fp32'


def test_each_precision_has_a_peak_of_its_own(tmp_path, monkeypatch):
    args = arguments(tmp_path, '--steps', '1', '--peak-tflops', 'fp32=10', 'tf32=40')
    assert args.peaks == {'bf16': 989.0, 'tf32': 40.0, 'fp32': 10.0}
    monkeypatch.setattr(gpu, 'time_steps', lambda config, data, n, *rest: (0.5, 0.1, None))

    def rows(form):
        rows = gpu.part_speed(args, CPU)['rows']
        assert [row['computed_in'] for row in rows] == [form, form, 'bf16', 'bf16']
        for row in rows:
            assert row['share_of_peak'] * row['peak_tflops'] == pytest.approx(row['tflops'])
        return rows

    plain = rows('fp32')
    assert plain[0]['share_of_peak'] == pytest.approx(98.9 * plain[2]['share_of_peak'])
    monkeypatch.setattr(torch, 'get_float32_matmul_precision', lambda: 'high')
    assert rows('tf32')[0]['peak_tflops'] == 40.0
    with pytest.raises(SystemExit):
        arguments(tmp_path, '--peak-tflops', 'fp8=1')


def test_operations_of_a_step():
    """Matrix products of the head: 2 operations for each pair of numbers, once forward and twice
    backward, as the batch grows by a study."""
    small = gpu.paper_config(toy=True).model
    fixed, each = gpu.flops_of_step(small)
    larger = small.override({'text_vocab': 2 * gpu.memory.WORDS})  # more words that no report has
    head = 3 * 2 * small.max_words * small.d * gpu.memory.WORDS
    assert fixed >= 0
    assert gpu.flops_of_step(larger)[1] - each == pytest.approx(head)


def test_batches_are_as_large_as_the_count_of_operations_takes_them(tmp_path):
    "The loader's batches have the shapes of those whose operations were counted: full reports."
    config = gpu.paper_config(toy=True)
    data = gpu.random_data(config, 8)
    ours, counted = data.batch(range(4), 0), gpu.memory.make_batch(config.model, 4)
    for name in ('image_ids', 'view_ids', 'view_mask', 'report_ids'):
        assert getattr(ours, name).shape == getattr(counted, name).shape, name
    assert bool(ours.view_mask.all()) and ours.image_ids.max() < config.model.image_vocab
    assert len(data.vocabulary) == 4 + len({w for text in data.references for w in text.split()})
    step, wait, peak = gpu.time_steps(
        config.override({'model.text_vocab': len(data.vocabulary)}), data, 4, CPU, 'no', 2
    )
    assert 0 < wait < step and peak is None


def test_parts_that_are_there_are_not_run_again(tmp_path, monkeypatch, capsys):
    ran = []

    def part(name, **result):
        def run(args, device):
            ran.append(name)
            return dict(result)

        return run

    parts = dict(equal=part('equal'), epoch=part('epoch', code=1), demo=part('demo', code=130))
    monkeypatch.setattr(gpu, 'PARTS', parts)
    line = ['--out', str(tmp_path), '--toy', '--device', 'cpu', '--only', *parts]
    gpu.main(line)
    assert ran == ['equal', 'epoch', 'demo']
    gpu.main(line)  # what failed or was stopped goes on
    assert ran[3:] == ['epoch', 'demo']
    assert json.loads((tmp_path / 'gpu.json').read_text())['machine']['measured_on_gpu'] is False
    gpu.main([*line, '--minutes', '0'])
    assert len(ran) == 5
    assert 'no time is left' in capsys.readouterr().out


def test_a_machine_without_gpu_is_one_line(tmp_path):
    if torch.cuda.is_available():
        pytest.skip('this machine has a GPU')
    with pytest.raises(SystemExit, match='this machine has no cuda device'):
        gpu.main(['--out', str(tmp_path)])


@pytest.mark.slow  # 1 min
def test_every_part_at_toy_size(tmp_path):
    gpu.main(['--out', str(tmp_path), '--toy', '--device', 'cpu', '--steps', '1'])
    found = json.loads((tmp_path / 'gpu.json').read_text())
    assert [found[name]['code'] for name in ('epoch', 'demo')] == [0, 0]
    assert [row['batch'] for row in found['speed']['rows']] == [2, 4, 2, 4]
    assert found['epoch']['log'][-1]['stage'] == 'stage2'
