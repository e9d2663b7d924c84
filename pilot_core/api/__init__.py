"""The interfaces of every pilot task: protocols and dataclasses, standard library only."""
