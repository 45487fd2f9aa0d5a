"""Statistics of differences beside SciPy, brute force, and simulations of what they promise."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from uar_nb.core import UARError
from uar_nb.scoring.metrics import bleu_counts, bootstrap, corpus_bleu
from uar_nb.scoring.statistics import (
    detectable_difference,
    detectable_over_seeds,
    holm,
    novel_references,
    over_seeds,
    paired_difference,
    paired_over_seeds,
    randomisation_test,
)


def mean_difference(x, y, axis):
    return np.mean(x - y, axis=axis)


def two_systems(n, gain, seed):
    rng = np.random.default_rng(seed)
    hardness = rng.normal(0, 1, n)
    return hardness + rng.normal(gain, 0.5, n), hardness + rng.normal(0, 0.5, n)


@pytest.mark.parametrize('seed', range(4))
def test_few_studies_give_the_exact_p_of_scipy(seed):
    ours, theirs = two_systems(10, 0.3, seed)
    wanted = stats.permutation_test(
        (ours, theirs), mean_difference, permutation_type='samples', n_resamples=np.inf
    )
    assert randomisation_test(ours, theirs) == pytest.approx(wanted.pvalue, abs=1e-12)


@pytest.mark.parametrize('gain', [0.0, 0.1, 0.3])
def test_drawn_exchanges_are_near_the_p_of_scipy(gain):
    ours, theirs = two_systems(60, gain, 5)
    wanted = stats.permutation_test(
        (ours, theirs),
        mean_difference,
        permutation_type='samples',
        n_resamples=5000,
        rng=np.random.default_rng(0),
    ).pvalue
    error = 4 * math.sqrt(2 * max(wanted, 1e-3) / 5000)
    assert randomisation_test(ours, theirs, draws=5000) == pytest.approx(wanted, abs=error)


def test_p_never_is_zero_and_repeats():
    ours, theirs = two_systems(200, 5.0, 1)
    assert randomisation_test(ours, theirs, draws=999) == 1 / 1000
    ours, theirs = two_systems(50, 0.1, 2)
    first = randomisation_test(ours, theirs, draws=2000)
    assert (
        first
        == randomisation_test(ours, theirs, draws=2000)
        == randomisation_test(theirs, ours, draws=2000)
    )
    assert first != randomisation_test(ours, theirs, draws=2000, seed=1)


def test_equal_systems_are_called_different_in_one_of_twenty_cases():
    found = [randomisation_test(*two_systems(30, 0.0, seed), draws=400) for seed in range(300)]
    assert 0.02 <= np.mean(np.array(found) <= 0.05) <= 0.09


def test_a_score_of_sums_is_exchanged_as_reports_are():
    "BLEU-4 of all 2^8 exchanges of eight reports, each corpus scored anew."
    rng = np.random.default_rng(3)
    words = 'heart lungs are is normal clear no effusion . mass'.split()
    references, ours, theirs = (
        [' '.join(rng.choice(words, rng.integers(5, 12))) for _ in range(8)] for _ in range(3)
    )
    ours = [f'{report} {reference}' for report, reference in zip(ours, references, strict=True)]

    def bleu(reports):
        counts = [bleu_counts(*pair) for pair in zip(reports, references, strict=True)]
        return corpus_bleu(np.sum(counts, 0))[3]

    seen, reached = abs(bleu(ours) - bleu(theirs)), 0
    for coins in itertools.product([False, True], repeat=8):
        pairs = list(zip(ours, theirs, coins, strict=True))
        one = [b if coin else a for a, b, coin in pairs]
        two = [a if coin else b for a, b, coin in pairs]
        reached += abs(bleu(one) - bleu(two)) >= seen - 1e-12
    counts = [
        np.array([bleu_counts(*pair) for pair in zip(reports, references, strict=True)])
        for reports in (ours, theirs)
    ]
    p = randomisation_test(*counts, lambda sums: corpus_bleu(sums)[..., 3])
    assert p == pytest.approx(reached / 256, abs=1e-12)


def test_an_undefined_score_has_no_p():
    def undefined(sums):
        return np.full(np.shape(sums)[:-1], math.nan)

    assert math.isnan(randomisation_test(np.ones((4, 2)), np.zeros((4, 2)), undefined))


def test_the_paired_interval_is_that_of_scipy():
    ours, theirs = two_systems(80, 0.2, 7)
    found = paired_difference(ours, theirs, samples=8000)
    wanted = stats.bootstrap(
        (ours, theirs),
        mean_difference,
        paired=True,
        vectorized=True,
        method='percentile',
        n_resamples=8000,
        rng=np.random.default_rng(0),
    )
    low, high = wanted.confidence_interval
    assert (found['low'], found['high']) == pytest.approx((low, high), abs=0.012)
    assert found['error'] == pytest.approx(wanted.standard_error, rel=0.05)


def test_a_difference_from_nothing_is_the_interval_of_one_system():
    "Two ways to one number: the other system scores 0 on every study."
    ours, _ = two_systems(40, 0.2, 9)
    found = paired_difference(ours, np.zeros(40))
    assert (found['low'], found['high']) == pytest.approx(bootstrap(ours), abs=1e-12)


@pytest.mark.parametrize('seed', range(20))
def test_holm_is_the_closed_test(seed):
    p = np.random.default_rng(seed).random(5) ** 2
    wanted = []
    for i in range(5):
        groups = [
            group
            for size in range(1, 6)
            for group in itertools.combinations(range(5), size)
            if i in group
        ]
        wanted.append(max(min(1, len(group) * p[list(group)].min()) for group in groups))
    assert holm(p) == pytest.approx(wanted, abs=1e-12)
    assert holm(p[::-1]) == pytest.approx(wanted[::-1], abs=1e-12)  # the order means nothing


def test_t_intervals_are_those_of_scipy():
    values = [0.41, 0.44, 0.40, 0.47]
    found = over_seeds(values)
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found['low'], found['high']) == pytest.approx(interval, abs=1e-12)
    ours, theirs = dict(enumerate(values)), dict(enumerate([0.40, 0.44, 0.37, 0.45]))
    paired, wanted = (
        paired_over_seeds(ours, theirs),
        stats.ttest_rel(values, [0.40, 0.44, 0.37, 0.45]),
    )
    assert paired['p'] == pytest.approx(wanted.pvalue, abs=1e-9)
    interval = wanted.confidence_interval(0.95)
    assert (paired['low'], paired['high']) == pytest.approx(interval, abs=1e-12)
    swapped = paired_over_seeds(theirs, dict(reversed(ours.items())))  # pairs go by seed
    assert swapped['difference'] == pytest.approx(-paired['difference'], abs=1e-12)


@pytest.mark.parametrize('seeds', [2, 3, 10])
def test_a_detectable_difference_is_found_in_four_of_five_cases(seeds):
    delta = detectable_over_seeds(0.7, seeds)
    draws = np.random.default_rng(seeds).normal(delta, 0.7, (30_000, seeds))
    found = stats.ttest_1samp(draws, 0, axis=1, alternative='greater').pvalue <= 0.025
    assert found.mean() == pytest.approx(0.8, abs=0.012)


def test_a_detectable_difference_over_studies_is_found_by_the_randomisation_test():
    n, sd = 40, 0.5 * math.sqrt(2)  # of the per-study differences
    delta = detectable_difference(sd / math.sqrt(n))
    found = [randomisation_test(*two_systems(n, delta, s), draws=400) <= 0.05 for s in range(300)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.08)


def test_what_is_no_pair_is_refused():
    for ours, theirs in (([1.0, 2.0], [1.0]), ([], []), ([[1.0]], [1.0])):
        with pytest.raises(UARError, match='are no pairs'):
            randomisation_test(ours, theirs)
        with pytest.raises(UARError, match='are no pairs'):
            paired_difference(ours, theirs)


def test_novel_references_are_told_by_words_alone():
    assert novel_references(['a b .', 'a  b .', 'b a .', ''], ['a b .']).tolist() == [
        False,
        False,
        True,
        True,
    ]
    assert novel_references([], ['a']).shape == (0,)
