"""The faults that are planted in the reference communicator: in what it tells and gets, in what it does on bad days."""

from __future__ import annotations

from communicator.faults_limits import MUTANTS as LIMITS
from communicator.faults_retry import MUTANTS as RETRY
from communicator.faults_values import MUTANTS as VALUES

MUTANTS = [*VALUES, *RETRY, *LIMITS]
