"""The development server: a PanDA server for one's own machine, over a store in one SQLite file."""
