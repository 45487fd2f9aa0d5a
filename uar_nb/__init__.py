"""UAR: chest X-ray reports by Unify, Align and Refine.

For research and teaching only, never for diagnosis.

The names below are the ones most programs begin with; each comes from its module when it is first
used, so that `import uar_nb` stays quick. Everything else is imported from its module:
`from uar_nb.scoring.metrics import bootstrap`. This file is written by hand; nbdev only keeps the
version in the next line.
"""

__version__ = "0.0.1"

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors and type checkers; when the program runs, __getattr__ does it
    from .apps.reporter import Reporter
    from .checkpoint import load_checkpoint
    from .config import UARConfig
    from .core import UARError
    from .cra import CRA
    from .data.load import load_studies
    from .data.study import Finding, Study, View
    from .lsu import LSU
    from .model import UAR
    from .phantom.generator import make_studies
    from .scoring.metrics import score_reports
    from .tir import TIR
    from .training import Trainer

__all__ = [
    'CRA',
    'Finding',
    'LSU',
    'Reporter',
    'Study',
    'TIR',
    'Trainer',
    'UAR',
    'UARConfig',
    'UARError',
    'View',
    'load_checkpoint',
    'load_studies',
    'make_studies',
    'score_reports',
]

_MODULES = {
    'CRA': 'cra',
    'Finding': 'data.study',
    'LSU': 'lsu',
    'Reporter': 'apps.reporter',
    'Study': 'data.study',
    'TIR': 'tir',
    'Trainer': 'training',
    'UAR': 'model',
    'UARConfig': 'config',
    'UARError': 'core',
    'View': 'data.study',
    'load_checkpoint': 'checkpoint',
    'load_studies': 'data.load',
    'make_studies': 'phantom.generator',
    'score_reports': 'scoring.metrics',
}


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(importlib.import_module(f'{__name__}.{_MODULES[name]}'), name)
    globals()[name] = value  # the next use finds it at once
    return value


def __dir__():
    return sorted({*globals(), *__all__})
