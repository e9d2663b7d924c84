"""The commands that the development server adds to `pilot-core`."""
