"""`pilot-core check`: which conformance kits a plugin brings along, running them, what they say."""
