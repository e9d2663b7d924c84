"""How a fault is planted in the reference communicator."""

from __future__ import annotations

from communicator.reference import Plugin
from harness import Mutant


def planting(mutants):
    """Return the decorator that adds a faulty client to `mutants`; its name is the mutant's."""

    def mutant(fault, *caught_by):
        def plant(client):
            name = "".join(f"-{c.lower()}" if c.isupper() else c for c in client.__name__).lstrip("-")
            made = Mutant(name=name, fault=fault, caught_by=caught_by, plugin=lambda: Plugin(client))
            mutants.append(made)
            return client

        return plant

    return mutant


def telling(**changes):
    """Return an `update_values` that changes what is told: field -> function of its value (and of all values)."""
    from communicator.reference import Client

    def update_values(self, update):
        values = Client.update_values(self, update)
        return {name: changes[name](value) if name in changes else value for name, value in values.items()}

    return update_values
