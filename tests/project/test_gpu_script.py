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


def test_a_wrong_device_is_seen(tmp_path, monkeypatch):
    right = gpu.losses_of

    def wrong(config, device, precision):
        losses = right(config, device, precision)
        calls.append(precision)
        return losses if len(calls) == 1 else losses | {'ce': losses['ce'] * 1.001}

    calls = []
    monkeypatch.setattr(gpu, 'losses_of', wrong)
    assert not gpu.part_equal(arguments(tmp_path), CPU)['no']['within']


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
