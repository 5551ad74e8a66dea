"""The run-time checker of types and shapes that tests/conftest.py puts around every function that tells shapes."""

from __future__ import annotations

import random

import beartype._check.code.codemain as checks
from beartype import BeartypeConf, beartype

# It looks at one random item of a list. From a generator of its own: the tests watch Python's.
checks.getrandbits = random.Random(0).getrandbits

# A whole number may stand where a float is asked for, as type checkers have it.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
