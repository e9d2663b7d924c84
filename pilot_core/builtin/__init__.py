"""The plugins that come with the core: plugins like any other, through the same hooks."""
