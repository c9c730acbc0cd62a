"""The own history of a peer, in one SQLite file: resume, dashboard, audit."""
