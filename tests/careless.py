"Data sets as careless hands leave them: what the tests of their faults share."

import csv

import numpy as np
import pytest
from PIL import Image

from uar_nb.data.load import load_studies
from uar_nb.data.study import DataSetError

KAGGLE = 'uid MeSH Problems image indication comparison findings impression'.split()


def images(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        Image.fromarray(np.full((32, 32), 100 + i, np.uint8)).save(folder / name)


def write_table(folder, header, rows, name='reports.csv'):
    with open(folder / name, 'w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows([header, *rows])
    return folder / name


def faults(*args, **options):
    with pytest.raises(DataSetError) as told:
        load_studies(*args, **options)
    return told.value.faults
