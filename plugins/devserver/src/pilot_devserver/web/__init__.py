"""The server's pages for people: jobs and their timelines, exchanges as they happen, faults, commands, submitting."""
