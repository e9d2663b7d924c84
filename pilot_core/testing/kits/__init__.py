"""The conformance kits: what a plugin of each kind has to do, as tests that its author inherits."""
