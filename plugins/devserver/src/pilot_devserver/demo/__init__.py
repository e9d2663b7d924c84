"""The demo: jobs with real input data, checks of what they write, the processes of pilot and server."""
