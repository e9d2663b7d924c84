"""Help for the tests of plugin authors."""
